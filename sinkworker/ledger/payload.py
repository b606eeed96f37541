"""The bytes of a batch: what the scheduler leaves in Redis for a worker (claim check). Events pass as they came in."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

VERSION = 1
"""First byte of every payload. A worker that meets another version lets go with a clear error."""

_HEAD = struct.Struct("<BI")
_SIZE = struct.Struct("<I")


def pack(events: Iterable[bytes]) -> bytes:
    """Encoded events, in order, to one payload."""
    parts: list[bytes] = []
    for event in events:
        parts.append(_SIZE.pack(len(event)))
        parts.append(event)
    return _HEAD.pack(VERSION, len(parts) // 2) + b"".join(parts)


def unpack(payload: bytes) -> Iterator[memoryview]:
    """The events of a payload, without copying. Raises ValueError for a payload of another version or a cut one."""
    if len(payload) < _HEAD.size:
        raise ValueError("the batch's payload is cut short")
    version, count = _HEAD.unpack_from(payload)
    if version != VERSION:
        raise ValueError(f"the batch's payload has format {version}, this worker knows {VERSION}")
    view = memoryview(payload)
    offset = _HEAD.size
    for _ in range(count):
        if offset + _SIZE.size > len(payload):
            raise ValueError("the batch's payload is cut short")
        (size,) = _SIZE.unpack_from(payload, offset)
        offset += _SIZE.size
        if offset + size > len(payload):
            raise ValueError("the batch's payload is cut short")
        yield view[offset : offset + size]
        offset += size
