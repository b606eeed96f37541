"""What a benchmark's runs come to: medians over what counts, ratios, percentiles, the shape of the JSON."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from sinkworker.bench import table
from sinkworker.bench.figures import NAIVE, TUNED, Latency, Results, Run, rotated
from sinkworker.demo.judge import Verdict


def run(contestant: str, seconds: float, number: int = 1, verdict: Verdict | None = None) -> Run:
    """A run of 1,000 events that used 2 ms of CPU in each second, most of it in `first`."""
    cpu = {"first": seconds * 1500.0, "second": seconds * 500.0}
    return Run(contestant, number, 1000, seconds, cpu, {"kafka": 100.0}, verdict or Verdict())


def test_a_run_tells_events_a_second_and_microseconds_for_each_event() -> None:
    speed = run(NAIVE, 2.0).speed
    assert speed.events_per_second == 500
    assert speed.cpu_us_per_event == {"total": 4.0, "first": 3.0, "second": 1.0}
    assert speed.servers_cpu_us_per_event == {"kafka": 0.1}


def test_a_run_too_short_to_be_timed_is_no_error() -> None:
    assert run(NAIVE, 0.0).speed.events_per_second == 1_000_000


def test_each_number_is_the_median_of_the_rounds() -> None:
    results = Results(1000, 3, [run(NAIVE, 4.0, 1), run(NAIVE, 1.0, 2), run(NAIVE, 2.0, 3)])
    median = results.medians[NAIVE]
    assert median is not None
    assert median.events_per_second == 500
    assert median.cpu_us_per_event["total"] == 4.0


@pytest.mark.parametrize("verdict", [Verdict(missing=["a"]), Verdict(altered=["a"])])
def test_a_run_without_every_event_does_not_count(verdict: Verdict) -> None:
    results = Results(1000, 2, [run(NAIVE, 1.0, 1, verdict), run(NAIVE, 2.0, 2), run(TUNED, 1.0, 1, verdict)])
    assert results.medians[NAIVE] == run(NAIVE, 2.0).speed
    assert results.medians[TUNED] is None
    assert "to_tuned" not in results.ratios()[NAIVE]
    assert json.loads(results.as_json())["medians"][TUNED] is None
    assert [found["counted"] for found in json.loads(results.as_json())["runs"]] == [False, True, False]


def test_duplicates_and_wrong_order_are_told_and_count() -> None:
    found = run(NAIVE, 1.0, verdict=Verdict(duplicates=3, out_of_order=["a"]))
    assert found.counts
    assert (found.as_dict()["duplicates"], found.as_dict()["out_of_order"]) == (3, 1)


def test_ratios_compare_with_both_scripts() -> None:
    results = Results(1000, 1, [run(NAIVE, 8.0), run(TUNED, 4.0), run("sinkworker-1", 2.0)])
    assert results.ratios()["sinkworker-1"] == {
        "to_naive": {"events_per_second": 4.0, "cpu_us_per_event": 0.25},
        "to_tuned": {"events_per_second": 2.0, "cpu_us_per_event": 0.5},
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [([7.0], (7, 7, 7)), (list(range(1, 101)), (50, 95, 99)), ([3.0, 1.0, 2.0], (2, 3, 3)), ([1.0, 2.0], (1, 2, 2))],
)
def test_percentiles_are_values_that_occurred(values: list[float], expected: tuple[int, int, int]) -> None:
    latency = Latency(values)
    assert tuple(latency.percentile(percent) for percent in (50, 95, 99)) == expected


def test_the_json_has_the_documented_shape() -> None:
    results = Results(1000, 1, [run(NAIVE, 8.0), run("sinkworker-1", 2.0)], {NAIVE: Latency([1.0, 2.0])})
    found = json.loads(results.as_json())
    assert found.keys() == {"events", "rounds", "runs", "medians", "ratios", "latency_ms"}
    assert (found["events"], found["rounds"], len(found["runs"])) == (1000, 1, 2)
    assert found["medians"][NAIVE]["cpu_us_per_event"] == {"total": 16.0, "first": 12.0, "second": 4.0}
    assert found["latency_ms"] == {NAIVE: {"p50": 1.0, "p95": 2.0, "p99": 2.0, "events": 2}}


def test_the_table_has_a_row_for_each_contestant_and_says_what_does_not_count() -> None:
    faulty = run(TUNED, 4.0, verdict=Verdict(missing=["a"]))
    results = Results(1000, 1, [run(NAIVE, 8.0), faulty, run("sinkworker-1", 2.0)], {NAIVE: Latency([1.5])})
    console = Console(file=io.StringIO(), width=150)
    console.print(table.of_results(results))
    told = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "no run counts" in told
    assert "Round 1, tuned: 1 missing" in told
    assert "4.00" in told
    assert "1.5" in told


def test_each_round_begins_with_another() -> None:
    assert [rotated(["a", "b", "c"], by)[0] for by in range(4)] == ["a", "b", "c", "a"]
    assert sorted(rotated(["a", "b", "c"], 2)) == ["a", "b", "c"]
