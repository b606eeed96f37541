"""The bytes of a batch: what the scheduler leaves in Redis for a worker (claim check). Events pass as they came in."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from sinkworker.errors import OtherRelease

VERSION = 2
"""First byte of every payload. A worker that meets another version leaves the batch to a worker that knows it."""

_HEAD = struct.Struct("<BI")


def pack(events: Sequence[bytes]) -> bytes:
    """Encoded events, in order, to one payload: a head, their sizes, and then their bytes."""
    sizes = struct.pack(f"<{len(events)}I", *map(len, events))
    return b"".join((_HEAD.pack(VERSION, len(events)), sizes, *events))


def unpack(payload: bytes) -> Iterator[bytes]:
    """The events of a payload. Raises OtherRelease for a payload of another version, ValueError for a cut one."""
    if len(payload) < _HEAD.size:
        raise ValueError("the batch's payload is cut short")
    version, count = _HEAD.unpack_from(payload)
    if version != VERSION:
        raise OtherRelease(
            f"A batch of a scheduler of another release has version {version}, this worker knows {VERSION}.",
            hint="It waits for a worker of that release.",
        )
    start = _HEAD.size + 4 * count
    if len(payload) < start:
        raise ValueError("the batch's payload is cut short")
    sizes = struct.unpack_from(f"<{count}I", payload, _HEAD.size)
    if len(payload) < start + sum(sizes):
        raise ValueError("the batch's payload is cut short")
    for size in sizes:
        yield payload[start : start + size]
        start += size
