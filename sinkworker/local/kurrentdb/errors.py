"""The ways a call ends other than well: status, message and trailers as a real server sends them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Code(IntEnum):
    """gRPC status codes, those in use here."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


@dataclass(frozen=True)
class Status:
    """How a call ends: the code, a message, and the trailers that let a client tell causes apart."""

    code: Code
    message: str = ""
    trailers: tuple[tuple[str, str], ...] = ()


class CallFailed(Exception):
    """Ends the call it is raised in with `status`."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.message)
        self.status = status


OK = Status(Code.OK)
SHUTTING_DOWN = Status(Code.UNAVAILABLE, "Server Is Shutting Down", trailers=(("exception", "server-shutting-down"),))
HANDLER_FAILED = Status(Code.UNKNOWN, "Exception was thrown by handler.")
UNKNOWN_SERVICE = Status(Code.UNIMPLEMENTED, "Service is unimplemented.")
UNKNOWN_METHOD = Status(Code.UNIMPLEMENTED, "Method is unimplemented.")
COMPRESSED_REQUEST = Status(Code.UNIMPLEMENTED, "Compressed requests are not supported.")
REQUEST_TOO_LARGE = Status(Code.RESOURCE_EXHAUSTED, "Received message exceeds the maximum configured message size.")
UNAUTHENTICATED = Status(Code.UNAUTHENTICATED, "Unauthenticated")
ACCESS_DENIED = Status(Code.PERMISSION_DENIED, "Access Denied", trailers=(("exception", "access-denied"),))

# The wording depends on the kind of call, and clients go by it.
INVALID_POSITION_IN_SUBSCRIPTION = Status(Code.INVALID_ARGUMENT, "Trying to read from an invalid position.")
INVALID_POSITION_IN_FILTERED_READ = Status(Code.UNKNOWN, "Unexpected FilteredReadAllResult: InvalidPosition")
READ_FORWARDS_FROM_END = Status(Code.UNKNOWN, "Unexpected ReadStreamResult: Error")
INVALID_POSITION_IN_READ = Status(Code.UNKNOWN, "Unexpected ReadAllResult: InvalidPosition")


def filter_too_slow(expression: str, name: str) -> CallFailed:
    """A filter's regular expression does not come to an end. A real server knows no such bound."""
    message = f"The filter's regular expression '{expression}' takes too long on '{name}'"
    return CallFailed(Status(Code.INVALID_ARGUMENT, message))


def required_argument(name: str, type_name: str) -> CallFailed:
    """A request lacks a part that every client sends."""
    message = f" `{name}` is a required argument of type {type_name}"
    return CallFailed(Status(Code.INVALID_ARGUMENT, message))


def missing_choice(type_name: str) -> CallFailed:
    """A request names none of the alternatives that there are; `type_name` is what the server calls them."""
    return CallFailed(Status(Code.INVALID_ARGUMENT, f"'None' is not a valid EventStore.Client.Streams.{type_name}"))


def invalid_combination(*parts: str) -> CallFailed:
    """Options that exclude one another, or that are not there: `None`."""
    return CallFailed(Status(Code.INVALID_ARGUMENT, f"The combination of ({', '.join(parts)}) is invalid."))


def missing_metadata(name: str) -> CallFailed:
    """An event to append has no type or no content type."""
    message = f"Required Metadata Property '{name}' is missing"
    trailers = (
        ("exception", "missing-required-metadata-property"),
        ("required-metadata-properties", "type,content-type"),
    )
    return CallFailed(Status(Code.INVALID_ARGUMENT, message, trailers))


def stream_deleted(stream: str) -> CallFailed:
    """The stream has a tombstone: it can be neither read nor written, for ever."""
    trailers = (("exception", "stream-deleted"), ("stream-name", stream))
    return CallFailed(Status(Code.FAILED_PRECONDITION, f"Event stream '{stream}' is deleted.", trailers))


def wrong_expected_version(stream: str, expected: int, actual: int) -> CallFailed:
    """A delete or a tombstone expected another version; -1 stands for a stream that does not exist."""
    message = (
        f"Append failed due to WrongExpectedVersion. Stream: {stream}, "
        f"Expected version: {expected}, Actual version: {actual}"
    )
    trailers = (
        ("exception", "wrong-expected-version"),
        ("stream-name", stream),
        ("expected-version", str(expected)),
        ("actual-version", str(actual)),
    )
    return CallFailed(Status(Code.FAILED_PRECONDITION, message, trailers))


def append_too_large(limit: int) -> CallFailed:
    """The events of one append are larger together than the server takes."""
    trailers = (("exception", "maximum-append-size-exceeded"), ("maximum-append-size", str(limit)))
    return CallFailed(Status(Code.INVALID_ARGUMENT, f"Maximum Append Size of {limit} Exceeded.", trailers))
