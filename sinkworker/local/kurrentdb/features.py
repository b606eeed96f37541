"""Server features: which calls there are, by which clients choose how they do what can be done in several ways."""

from __future__ import annotations

from collections.abc import Iterable

# The line that the answers were recorded from.
VERSION = "24.10.0"

# What was added to a call after its first version.
_FEATURES = {("streams", "read"): ("position", "events"), ("streams", "batchappend"): ("deadline_duration",)}


def supported_methods(names: Iterable[tuple[str, str]]) -> bytes:
    """The response, in the protocol's encoding; `names` are those of service and method.

    The client library, whose message types serve everywhere else, has none for it.
    """
    methods = b"".join(_field(1, _supported_method(*name)) for name in names)
    return methods + _field(2, VERSION.encode())


def _supported_method(service: str, method: str) -> bytes:
    service, method = service.lower(), method.lower()
    features = _FEATURES.get((service.rpartition(".")[2], method), ())
    names = _field(1, method.encode()) + _field(2, service.encode())
    return names + b"".join(_field(3, feature.encode()) for feature in features)


def _field(number: int, value: bytes) -> bytes:
    """A string or message of less than 128 bytes: tag and length then take one byte each."""
    return bytes((number << 3 | 2, len(value))) + value
