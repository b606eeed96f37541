"""Pure: what is wrong with a request, as a person reads it: a line for each fault, under its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sinkworker.connectors.errors import InvalidArgument


class Violations(InvalidArgument):
    """Faults that were found without a server, under a sentence that says in what."""

    def __init__(self, subject: str, violations: Mapping[str, Sequence[str]]) -> None:
        super().__init__(violations)
        self._subject = subject

    def __str__(self) -> str:
        return in_lines(self._subject, self.violations)


def in_lines(subject: str, violations: Mapping[str, Sequence[str]]) -> str:
    """The sentence, and each fault on a line of its own."""
    return "\n".join([subject, *(f"  {field}: {text}" for field, texts in violations.items() for text in texts)])
