"""The one judge of every run of real processes: the log on one side, what Kafka holds on the other."""

from __future__ import annotations

from collections.abc import Sequence

from kurrentdbclient import RecordedEvent

from sinkworker.demo.judge import Verdict, judge
from sinkworker.demo.topic import Consumed, consume

__all__ = ["Consumed", "Verdict", "consume", "judge", "passed_by"]


def passed_by(log: Sequence[RecordedEvent], found: Sequence[Consumed], record_id: str) -> tuple[list[str], list[str]]:
    """Where a connector stopped for a record (P5): ids of those before it that are not there, and of those that are
    there though they come after it in its stream.
    """
    there = {message.record_id for message in found}
    at = next(index for index, event in enumerate(log) if str(event.id) == record_id)
    before = [str(event.id) for event in log[:at]]
    behind = [str(event.id) for event in log[at:] if event.stream_name == log[at].stream_name]
    return [each for each in before if each not in there], [each for each in behind if each in there]
