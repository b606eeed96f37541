"""Pure: the setting `topic` as a template, which names a topic for each record (an addition of ours)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from sinkworker import metadata as event_metadata
from sinkworker.errors import Undeliverable

PLACEHOLDERS = "{category}, {eventType} and {metadata.NAME}"
LONGEST_NAME = 249

_Source: TypeAlias = Callable[[str, str, bytes], str | None]
"""What a placeholder stands for, out of a record's stream, event type and metadata; None or empty where it has none."""

_LEGAL = re.compile(rf"[A-Za-z0-9._-]{{1,{LONGEST_NAME}}}")
_PART = re.compile(r"\{([^{}]*)\}|([^{}]+)|([{}])")
_METADATA = "metadata."


def is_template(topic: str) -> bool:
    """Whether it is one, or was meant to be: no topic has braces in its name."""
    return "{" in topic or "}" in topic


def is_legal(name: str) -> bool:
    """Whether Kafka takes it for the name of a topic."""
    return _LEGAL.fullmatch(name) is not None and name not in {".", ".."}


def fault(template: str) -> str | None:
    """Everything that is wrong with a template, None for one that can name topics."""
    faults, shortest = [], 0
    for placeholder, literal, brace in _PART.findall(template):
        if brace:
            faults.append(f"has a {brace!r} without its counterpart")
        elif literal:
            shortest += len(literal)
            if not re.fullmatch(r"[A-Za-z0-9._-]+", literal):
                faults.append(f"has {literal!r}, and only letters, digits, `.`, `_` and `-` are legal in a topic name")
        else:
            shortest += 1
            if _source(placeholder) is None:
                faults.append(f"has {{{placeholder}}}, and there are {PLACEHOLDERS}")
    if shortest > LONGEST_NAME:
        faults.append(f"makes names of more than {LONGEST_NAME} characters")
    return "; ".join(dict.fromkeys(faults)) or None


class TopicTemplate:
    """A template that has no fault. `topic_of` runs for every record."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._parts: list[tuple[str, _Source | None]] = [
            (literal or placeholder, None if literal else _source(placeholder))
            for placeholder, literal, _ in _PART.findall(template)
        ]

    def topic_of(self, stream: str, type: str, metadata: bytes) -> str:
        """The record's topic, whether or not Kafka has it.

        Nothing illegal is replaced, since two values must not become one topic: raises Undeliverable where the record
        lacks what a placeholder stands for, or where the name is not legal.
        """
        name = ""
        for text, source in self._parts:
            if source is None:
                name += text
                continue
            value = source(stream, type, metadata)
            if not value:
                raise self._unnameable(f"it has no {{{text}}}")
            name += value
        if not is_legal(name):
            shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…"
            raise self._unnameable(
                f"{shown!r} is no legal name (up to {LONGEST_NAME} letters, digits, `.`, `_` and `-`)"
            )
        return name

    def _unnameable(self, why: str) -> Undeliverable:
        return Undeliverable(f"The template {self._template!r} names no topic for it: {why}.", code="topic-unnameable")


def _source(placeholder: str) -> _Source | None:
    """None for a placeholder that there is not."""
    known = placeholder.lower()
    if known == "category":
        return _category
    if known == "eventtype":
        return _type
    if known.startswith(_METADATA) and (name := placeholder[len(_METADATA) :]):
        return lambda _stream, _type, metadata: event_metadata.as_text(event_metadata.parsed(metadata).get(name))
    return None


def _category(stream: str, type: str, metadata: bytes) -> str:
    """What precedes the first hyphen, as in KurrentDB's `$ce-` streams: without one a stream is of no category."""
    category, hyphen, _ = stream.partition("-")
    return category if hyphen else ""


def _type(stream: str, type: str, metadata: bytes) -> str:
    return type
