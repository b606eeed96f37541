"""gRPC messages in and out of HTTP/2 DATA frames: framing, assembling, packing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

PREFIX_BYTES = 5
MAX_REQUEST_BYTES = 16 * 1024 * 1024

# A real server hands its pipe to the socket whenever it holds this much, so a DATA frame is the first few whole
# messages that reach it (about 4.4 KiB of 560-byte events), and a large message is cut at the frame size limit.
PACK_BYTES = 4096


class MessageTooLarge(Exception):
    """A request message announces more bytes than the server takes."""


class CompressedMessage(Exception):
    """A request message is compressed, which the server has not offered."""


def frame(payload: bytes) -> bytes:
    """`payload` behind the five bytes that gRPC puts before each message: not compressed, and its length."""
    return b"\x00" + len(payload).to_bytes(4, "big") + payload


def unframe(framed: bytes) -> bytes:
    """What `frame` was given."""
    return framed[PREFIX_BYTES:]


def pack(messages: Iterable[bytes]) -> Iterator[bytes]:
    """Framed messages joined into pieces of at least `PACK_BYTES`; the last piece holds what is left."""
    piece: list[bytes] = []
    size = 0
    for message in messages:
        piece.append(message)
        size += len(message)
        if size >= PACK_BYTES:
            yield b"".join(piece)
            piece.clear()
            size = 0
    if piece:
        yield b"".join(piece)


class Assembler:
    """Puts messages together from a stream of bytes that is cut anywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes, oldest first.

        Raises `MessageTooLarge` as soon as the length is known, before the bytes are collected.
        """
        buffer = self._buffer
        buffer += data
        complete = []
        while len(buffer) >= PREFIX_BYTES:
            length = int.from_bytes(buffer[1:PREFIX_BYTES], "big")
            if length > MAX_REQUEST_BYTES:
                raise MessageTooLarge
            if buffer[0]:
                raise CompressedMessage
            end = PREFIX_BYTES + length
            if len(buffer) < end:
                break
            complete.append(bytes(buffer[PREFIX_BYTES:end]))
            del buffer[:end]
        return complete
