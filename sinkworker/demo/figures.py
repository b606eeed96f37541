"""What a demo has done so far, in numbers; and in the end, what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from sinkworker.demo.judge import Verdict


@dataclass(slots=True)
class Figures:
    """Written by the flow's thread, read by the one that shows it: each field is replaced as a whole."""

    total: int
    phase: str = "starting the local stack and every role"
    appended: int = 0
    delivered: int = 0
    """Messages in the topic, duplicates included."""
    checkpoint: int | None = None
    lag: int = 0
    """Events appended after the checkpoint."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A demo that ran to its end, judged."""

    appended: int
    verdict: Verdict
    checkpoint_reached: bool
    seconds: float
    """From the first append until the checkpoint stood at the last event."""

    @property
    def holds(self) -> bool:
        return self.verdict.holds and self.checkpoint_reached

    @property
    def delivered(self) -> int:
        """Events that arrived, each counted once."""
        return self.appended - len(self.verdict.missing)

    @property
    def events_per_second(self) -> float:
        return self.appended / self.seconds if self.seconds else 0.0

    def as_json(self) -> str:
        """The one object of `--json`."""
        return _json(
            {
                "appended": self.appended,
                "delivered": self.delivered,
                "duplicates": self.verdict.duplicates,
                "missing": len(self.verdict.missing),
                "out_of_order": len(self.verdict.out_of_order),
                "checkpoint_reached": self.checkpoint_reached,
                "seconds": round(self.seconds, 2),
                "events_per_second": round(self.events_per_second),
            }
        )


def unjudged_as_json(figures: Figures) -> str:
    """The object of `--json` for a demo that broke off: null is what nobody has found out."""
    return _json(
        {
            "appended": figures.appended,
            "delivered": None,
            "duplicates": None,
            "missing": None,
            "out_of_order": None,
            "checkpoint_reached": False,
            "seconds": None,
            "events_per_second": None,
        }
    )


def _json(values: dict[str, object]) -> str:
    return orjson.dumps(values).decode()
