"""Pure: gRPC messages in the bytes of a response, which are cut anywhere on their way."""

from __future__ import annotations

from sinkworker.errors import Fatal

PREFIX_BYTES = 5
"""Before each message: whether it is compressed (one byte), its length (four, big-endian)."""

MAX_MESSAGE_BYTES = 17 << 20
"""A longer message is none of the database's, which appends at most 16 MiB: what is read is no gRPC response."""


def frame(message: bytes) -> bytes:
    """The message as it is sent."""
    return b"\0" + len(message).to_bytes(4, "big") + message


class Splitter:
    """Takes bytes in as they come, and hands whole messages out in their order, each once."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes) -> None:
        """Take in what follows."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def take(self, limit: int) -> list[bytes]:
        """The next whole messages, at most `limit`, without their prefixes. Raises Fatal for what is none."""
        data, at, end = self._data, self._at, len(self._data)
        messages: list[bytes] = []
        while len(messages) < limit:
            start = at + PREFIX_BYTES
            if start > end:
                break
            prefix = int.from_bytes(data[at:start], "big")
            if prefix > MAX_MESSAGE_BYTES:  # the first byte of the prefix stands above the length
                self._at = at
                raise Fatal("KurrentDB's answer is no stream of uncompressed gRPC messages.")
            following = start + prefix
            if following > end:
                break
            messages.append(data[start:following])
            at = following
        self._at = at
        return messages

    @property
    def waiting(self) -> int:
        """Bytes that were fed and not handed out."""
        return len(self._data) - self._at
