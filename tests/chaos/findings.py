"""Pure: what a run's observations amount to."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from tests.chaos.witness import Arrival, SeenCheckpoint

Span = tuple[float, float]

RECOVERED_S = 15.0
"""So long after a crash is over may what it left be sent again: a claim runs out, a scheduler takes over."""

LOSS_S = 2.0
"""So long after Redis lost everything may a worker still bring to Kafka what it held: until its next call."""


class Logged(Protocol):
    """An event of the log, as far as it matters here."""

    @property
    def id(self) -> UUID: ...

    @property
    def commit_position(self) -> int | None: ...


@dataclass(frozen=True, slots=True, order=True)
class Standstill:
    """So long nothing new arrived, though there was something to deliver and every server was there."""

    seconds: float
    since: float

    @property
    def span(self) -> Span:
        return self.since, self.since + self.seconds


def first_occurrences(arrivals: Iterable[Arrival]) -> list[Arrival]:
    firsts: dict[str, Arrival] = {}
    for each in arrivals:
        firsts.setdefault(each.record_id, each)
    return list(firsts.values())


def repeats(
    arrivals: Iterable[Arrival], losses: Sequence[tuple[float, int]] = ()
) -> tuple[list[Arrival], list[Arrival]]:
    """The messages whose record had been there before: those that a loss of Redis explains, and all others.

    `losses`: when Redis lost everything, and the position up to which a checkpoint had been written by then. What is
    behind it, and came before, may come again once.
    """
    last: dict[str, float] = {}
    lost: list[Arrival] = []
    others: list[Arrival] = []
    for each in arrivals:
        if each.record_id in last:
            came = last[each.record_id]
            explained = any(came <= at + LOSS_S and each.at >= at and each.position > upto for at, upto in losses)
            (lost if explained else others).append(each)
        last[each.record_id] = each.at
    return lost, others


def last_checkpoint(checkpoints: Iterable[SeenCheckpoint], epoch_s: float) -> int:
    """The position of the last one written before; -1 where there was none."""
    return max((each.position for each in checkpoints if each.written_ms < epoch_s * 1000), default=-1)


def longest_standstill(
    firsts: Sequence[Arrival], appends: Sequence[tuple[float, int]], outages: Sequence[Span]
) -> Standstill:
    """Between new arrivals, or from the append of something to deliver; an outage counts from its end.

    `appends`: how many events had been appended in all, by time.
    """
    times = [at for at, _ in appends]
    longest = Standstill(0.0, times[0])
    came = sorted([times[0], *(each.at for each in firsts), times[-1]])
    for delivered, (last, next_) in enumerate(itertools.pairwise(came)):
        known = bisect.bisect_right(times, last) - 1
        if appends[known][1] <= delivered:  # all was there: nothing could come before the next append
            last = min(times[min(known + 1, len(times) - 1)], next_)
        for begin, end in _without(outages, (last, next_)):
            longest = max(longest, Standstill(end - begin, begin))
    return longest


def longest_silence(firsts: Sequence[Arrival], until: float, outages: Sequence[Span]) -> Standstill:
    """The same between neighbouring arrivals alone, where it is not known what was to come."""
    came = sorted([*(each.at for each in firsts), until])
    gaps = (span for a, b in itertools.pairwise(came) for span in _without(outages, (a, b)))
    return max((Standstill(end - begin, begin) for begin, end in gaps), default=Standstill(0.0, 0.0))


def overlap(span: Span, others: Iterable[Span]) -> float:
    """How much of the span the others cover, none of which overlap each other."""
    return sum(max(0.0, min(span[1], end) - max(span[0], begin)) for begin, end in others)


def _without(outages: Sequence[Span], span: Span) -> Iterator[Span]:
    """The parts of the span outside all outages, which are in the order of time."""
    begin, end = span
    for gone, back in outages:
        if back <= begin or gone >= end:
            continue
        if gone > begin:
            yield begin, gone
        begin = max(begin, back)
    if begin < end:
        yield begin, end


def blamed(crashes: Sequence[Span], stops: Sequence[Span], when: Iterable[float]) -> Counter[Span | None]:
    """How many of `when` each of these faults, from its beginning to its end, has to answer for; None: no fault.

    A stop in order has to answer only where no crash is under way or still being recovered from.
    """
    counted: Counter[Span | None] = Counter()
    for at in when:
        recent = [span for span in crashes if span[0] <= at <= span[1] + RECOVERED_S]
        counted[
            max(recent, default=None) or max((span for span in (*crashes, *stops) if span[0] <= at), default=None)
        ] += 1
    return counted


def premature(
    checkpoints: Iterable[SeenCheckpoint], firsts: Sequence[Arrival], log: Sequence[Logged]
) -> list[SeenCheckpoint]:
    """Checkpoints that were written before a record at or before them was in the topic (P1)."""
    stamps = {each.record_id: each.stamped_ms for each in firsts}
    positions = [event.commit_position or 0 for event in log]
    latest = list(itertools.accumulate((stamps.get(str(event.id), float("inf")) for event in log), max))
    found = []
    for checkpoint in checkpoints:
        covered = bisect.bisect_right(positions, checkpoint.position)
        if covered and latest[covered - 1] > checkpoint.written_ms:
            found.append(checkpoint)
    return found


def backward(checkpoints: Iterable[SeenCheckpoint]) -> list[SeenCheckpoint]:
    """Checkpoints behind an earlier one of their generation (P1)."""
    furthest: dict[str, int] = {}
    found = []
    for each in sorted(checkpoints, key=lambda checkpoint: checkpoint.revision):
        if each.position < furthest.get(each.generation, -1):
            found.append(each)
        furthest[each.generation] = max(each.position, furthest.get(each.generation, -1))
    return found
