"""A45-A50: where a connector begins, and what it remembers of how far it has come (contract §7)."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping

import pytest
from kurrentdbclient.exceptions import NotFoundError

from tests.acceptance.product import WITHIN_S, Product, Sink, json_event, unique
from tests.processes import eventually

HOUR_MS = "3600000"


def over(prefix: str, **settings: str) -> dict[str, str]:
    """Settings of a connector over the streams of that prefix."""
    given = {"scope": "stream", "filterType": "prefix", "expression": prefix}
    filtered = {f"subscription:filter:{key}": value for key, value in given.items()}
    return {**filtered, **{key.replace("__", ":"): value for key, value in settings.items()}}


def append(product: Product, prefix: str, *numbers: int) -> list[int]:
    """One event for each number; their positions."""
    return [product.append(f"{prefix}1", json_event("Counted", number)) for number in numbers]


def numbers(sink: Sink, count: int) -> list[int]:
    """The numbers that have been delivered, once there are so many."""
    return [int(message.value or b"") for message in sink.messages(count)]


@pytest.mark.check("A45")
def test_latest_skips_history_and_earliest_does_not(product: Product) -> None:
    prefix = unique("initial-")
    append(product, prefix, 1, 2, 3)
    latest = product.running(over(prefix, subscription__initialPosition="latest"))
    earliest = product.running(over(prefix))
    append(product, prefix, 4, 5)  # the starts are accepted; whether they run already does not matter
    assert numbers(earliest, 5) == [1, 2, 3, 4, 5]
    assert numbers(latest, 2) == [4, 5]


@pytest.mark.check("A45")
def test_latest_is_fixed_before_the_first_read_whatever_dies(product: Product) -> None:
    """The scheduler dies just after one start was accepted, before it has looked at it, and while the other runs."""
    prefix = unique("latest-")
    append(product, prefix, 1, 2)
    scheduler = product.system.roles["scheduler"]
    seen, unseen = (product.sink(over(prefix, subscription__initialPosition="latest")) for _ in range(2))
    seen.start()
    seen.runs()
    scheduler.signal(signal.SIGSTOP)
    unseen.start()
    scheduler.kill()
    append(product, prefix, 3, 4, 5)
    product.system.redis.delete(f"sink:{{{seen.id}}}:scheduler")  # the dead one's lease, which only costs time
    scheduler.start()
    assert numbers(seen, 3) == [3, 4, 5]
    assert numbers(unseen, 3) == [3, 4, 5]


@pytest.mark.check("A46")
def test_a_start_after_a_stop_delivers_only_what_is_new(product: Product) -> None:
    prefix = unique("resume-")
    append(product, prefix, 1, 2, 3)
    sink = product.running(over(prefix))
    assert numbers(sink, 3) == [1, 2, 3]
    sink.stop()
    append(product, prefix, 4, 5)
    sink.start()
    assert numbers(sink, 5) == [1, 2, 3, 4, 5]


@pytest.mark.check("A47")
def test_a_position_is_exclusive_zero_is_everything_and_a_reset_runs(product: Product) -> None:
    prefix = unique("position-")
    positions = append(product, prefix, 1, 2, 3, 4)
    sink = product.sink(over(prefix))
    delivered: list[int] = []
    for command, expected in {
        f"start/{positions[1]}": [3, 4],
        "start/0": [1, 2, 3, 4],
        f"reset/{positions[2]}": [4],
        "reset": [1, 2, 3, 4],
    }.items():
        sink.do(command)
        sink.runs()
        delivered += expected
        assert numbers(sink, len(delivered)) == delivered
        sink.stop()
    sink.start()  # the positions were for those activations: now the checkpoint counts
    append(product, prefix, 5)
    assert numbers(sink, len(delivered) + 1) == [*delivered, 5]


@pytest.mark.check("A48")
def test_checkpoints_are_where_and_what_is_documented(product: Product) -> None:
    prefix = unique("shape-")
    (position,) = append(product, prefix, 1)
    sink = product.running(over(prefix))
    sink.reaches(position)
    stream = f"$connectors/{sink.id}/checkpoints"
    metadata, _ = product.system.client.get_stream_metadata(stream)
    assert metadata == {"$maxCount": 10}
    last = product.events(stream)[-1]
    assert last.type == "$conn-ctrl-checkpoint"
    assert last.content_type == "application/json"
    data = json.loads(last.data)
    assert data.keys() == {"consumerId", "logPosition", "streamId", "streamRevision", "timestamp"}
    assert all(isinstance(value, str) for value in data.values())
    assert (data["consumerId"], int(data["logPosition"])) == (sink.id, sink.position)
    first = product.events(stream)[0]
    assert json.loads(first.data)["streamRevision"] in {"0", "-1"}  # of the record, where it is a record's


@pytest.fixture(scope="module")
def cadences(product: Product) -> tuple[str, Mapping[str, Sink]]:
    """Connectors over the same streams, caught up with them and live."""
    prefix = unique("cadence-")
    (position,) = append(product, prefix, 0)
    settings = {
        "threshold": {"interval": HOUR_MS, "recordsThreshold": "10"},
        "neither": {"interval": HOUR_MS},
        "interval": {"interval": "500"},
        "off": {"enabled": "false", "interval": "1", "recordsThreshold": "1"},
    }
    sinks = {
        name: product.running(over(prefix, **{f"autocommit__{key}": value for key, value in each.items()}))
        for name, each in settings.items()
    }
    for name, sink in sinks.items():
        if name == "off":
            sink.messages(1)
        else:
            sink.reaches(position)  # being caught up is worth a commit, whatever the interval
    return prefix, sinks


@pytest.mark.check("A49")
def test_commits_come_by_count_by_time_or_not_at_all(
    product: Product, cadences: tuple[str, Mapping[str, Sink]]
) -> None:
    prefix, sinks = cadences
    threshold, neither, interval = sinks["threshold"], sinks["neither"], sinks["interval"]
    caught_up = neither.position
    tenth = append(product, prefix, *range(1, 10))[-1]
    threshold.reaches(tenth)
    nineteenth = append(product, prefix, *range(10, 19))[-1]
    interval.reaches(nineteenth)
    assert numbers(threshold, 19) == numbers(neither, 19) == list(range(19))
    assert threshold.position == tenth
    (twentieth,) = append(product, prefix, 19)
    threshold.reaches(twentieth)
    interval.reaches(twentieth)
    assert numbers(neither, 20) == list(range(20))
    assert neither.position == caught_up
    assert threshold.position == twentieth

    off = sinks["off"]
    assert numbers(off, 20) == list(range(20))
    off.stop()
    with pytest.raises(NotFoundError):
        product.events(f"$connectors/{off.id}/checkpoints")
    assert "position" not in off.listed
    assert product.system.roles["scheduler"].said(f"no checkpoint is ever written connector={off.id}")


@pytest.mark.check("A50")
def test_traffic_that_does_not_match_moves_the_position(product: Product) -> None:
    prefix = unique("idle-")
    (position,) = append(product, prefix, 1)
    sink = product.running(over(prefix))
    sink.reaches(position)
    reached = sink.position
    for _ in range(6):
        product.append(unique("traffic-"), *(json_event("Passing", number) for number in range(100)))
    eventually(lambda: sink.position > reached, within_s=WITHIN_S)
    assert numbers(sink, 1) == [1]
