"""What judges a random run finds what is wrong with one: an oracle that finds nothing proves nothing."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from uuid import UUID

from tests.chaos import findings
from tests.chaos.findings import Standstill
from tests.chaos.plan import SERVERS, Kind, plan
from tests.chaos.witness import Arrival, SeenCheckpoint


@dataclass(frozen=True)
class Event:
    id: UUID
    commit_position: int


LOG = [Event(UUID(int=number), number * 10) for number in range(1, 5)]


def arrival(at: float, number: int) -> Arrival:
    return Arrival(at, 0, str(UUID(int=number)), number * 10, int(at * 1000))


def checkpoint(revision: int, position: int, at: float, generation: str = "g") -> SeenCheckpoint:
    return SeenCheckpoint(revision, generation, position, at * 1000)


def test_a_seed_gives_the_same_faults_and_a_longer_run_begins_alike() -> None:
    longer = plan(7, 600, broker_keeps_data=True)
    assert plan(7, 600, broker_keeps_data=True) == longer
    assert longer[:5] == plan(7, 30, broker_keeps_data=True)[:5]
    assert plan(8, 600, broker_keeps_data=True) != longer


def test_an_embedded_broker_is_paused_and_never_killed() -> None:
    faults = [fault for seed in range(20) for fault in plan(seed, 600, broker_keeps_data=False)]
    assert {fault.kind for fault in faults if fault.target == "broker"} == {Kind.PAUSE}


def test_one_server_is_away_at_a_time() -> None:
    faults = [fault for fault in plan(3, 3600, broker_keeps_data=True) if fault.target in SERVERS]
    assert all(first.ends_s < second.at_s for first, second in itertools.pairwise(faults))


def test_a_standstill_is_the_longest_time_without_a_new_arrival() -> None:
    appends = [(0.0, 0), (1.0, 2), (2.0, 4), (12.0, 4)]
    firsts = [arrival(1.5, 1), arrival(2.5, 2), arrival(9.5, 3), arrival(9.6, 4)]
    assert findings.longest_standstill(firsts, appends, []) == Standstill(7.0, 2.5)


def test_records_that_never_come_are_a_standstill_to_the_end() -> None:
    assert findings.longest_standstill([arrival(1.0, 1)], [(0.0, 0), (0.5, 2), (60.0, 2)], []) == Standstill(59.0, 1.0)


def test_nothing_to_deliver_is_no_standstill() -> None:
    appends = [(0.0, 0), (0.5, 1), (60.0, 2), (61.0, 2)]
    assert findings.longest_standstill([arrival(1.0, 1), arrival(60.2, 2)], appends, []).seconds == 0.5


def test_a_standstill_counts_from_the_return_of_a_server() -> None:
    appends = [(0.0, 0), (0.5, 2), (60.0, 2)]
    firsts = [arrival(1.0, 1), arrival(30.0, 2)]
    assert findings.longest_standstill(firsts, appends, [(3.0, 10.0), (11.0, 14.0)]) == Standstill(16.0, 14.0)
    assert findings.longest_silence(firsts, 30.0, [(3.0, 10.0), (11.0, 14.0)]) == Standstill(16.0, 14.0)


def test_what_two_spans_have_in_common() -> None:
    assert findings.overlap(Standstill(10.0, 5.0).span, [(0.0, 6.0), (8.0, 9.0), (14.5, 30.0), (40.0, 50.0)]) == 2.5


def test_a_checkpoint_that_passes_a_record_which_comes_later_is_found() -> None:
    firsts = [arrival(1.0, 1), arrival(3.0, 2), arrival(2.0, 3)]
    good = [checkpoint(0, 10, 1.5), checkpoint(1, 30, 3.5)]
    assert findings.premature(good, firsts, LOG) == []
    bad = [checkpoint(0, 30, 2.5), checkpoint(1, 40, 9.0)]
    assert findings.premature(bad, firsts, LOG) == bad


def test_a_checkpoint_that_goes_back_is_found_within_its_generation() -> None:
    assert findings.backward([checkpoint(0, 30, 1), checkpoint(1, 10, 2, "other"), checkpoint(2, 40, 3)]) == []
    back = checkpoint(1, 20, 2)
    assert findings.backward([back, checkpoint(0, 30, 1)]) == [back]


def test_a_lost_redis_explains_what_comes_again_behind_the_checkpoint_and_nothing_else() -> None:
    first = [arrival(1.0, 1), arrival(1.1, 2)]
    again = [arrival(6.0, 1), arrival(6.0, 2)]
    assert findings.repeats([*first, *again]) == ([], again)
    assert findings.repeats([*first, *again], [(5.0, 10)]) == (again[1:], again[:1])
    assert findings.repeats([*first, *again], [(7.0, -1)]) == ([], again)


def test_a_stop_is_blamed_only_where_no_crash_can_be() -> None:
    crash, stop, later = (1.0, 3.0), (4.0, 5.0), (40.0, 41.0)
    assert findings.blamed([crash], [stop, later], [0.5, 1.5, 4.5]) == {None: 1, crash: 2}
    assert findings.blamed([crash], [stop, later], [30.0, 40.5]) == {stop: 1, later: 1}
