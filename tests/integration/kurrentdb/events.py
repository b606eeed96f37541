"""Events and streams for tests that need some."""

from __future__ import annotations

import uuid

from kurrentdbclient import NewEvent


def new_stream(category: str = "test") -> str:
    """The name of a stream that nothing else uses."""
    return f"{category}-{uuid.uuid4().hex}"


def event(number: int = 0, event_type: str = "Tested") -> NewEvent:
    """An event that carries its number."""
    return NewEvent(type=event_type, data=b'{"n":%d}' % number, metadata=b'{"by":"test"}')


def events(count: int, event_type: str = "Tested") -> list[NewEvent]:
    """Events numbered from 0."""
    return [event(number, event_type) for number in range(count)]
