"""Counts, and the text that Prometheus reads, as its own parser reads it."""

from __future__ import annotations

import random

import pytest
from prometheus_client.parser import text_string_to_metric_families

from sinkworker.ledger.contract import Survey, Watermark
from sinkworker.metrics import exposition, series
from sinkworker.metrics.exposition import Measured
from sinkworker.metrics.series import Kind
from sinkworker.metrics.stretches import MOST, Stretches
from sinkworker.metrics.tally import Tally
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Position
from sinkworker.scheduling.arrears import Arrears


def parsed(*measured: Measured) -> dict[str, dict[tuple[str, str], float]]:
    """By family: samples by name and value of their own label. The parser gives every counter a name in `_total`."""

    def own(labels: dict[str, str]) -> str:
        return next((value for name, value in labels.items() if not name.startswith("connector_")), "")

    return {
        family.name: {(sample.name, own(sample.labels)): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(exposition.text(measured))
    }


@pytest.mark.check("A58")
def test_the_documented_series_have_their_exact_names_and_types() -> None:
    lines = exposition.text([Measured("loans", {})]).splitlines()
    types = dict(line.split(" ")[2:] for line in lines if line.startswith("# TYPE "))
    assert dict(list(types.items())[:12]) == {
        "kurrent_connector_active_total": "gauge",
        "kurrent_sink_written_total_records": "histogram",
        "kurrent_sink_errors_total": "counter",
        "kurrent_sink_transform_duration_s": "histogram",
        "kurrent_sink_write_latency_s": "histogram",
        "messaging_kurrent_consumer_message_count": "counter",
        "messaging_kurrent_consumer_commit_latency_s": "histogram",
        "messaging_kurrent_consumer_lag": "gauge",
        "messaging_kurrent_producer_queue_length": "gauge",
        "messaging_kurrent_producer_message_count": "counter",
        "messaging_kurrent_producer_produce_duration_s": "histogram",
        "messaging_kurrent_processor_error_count": "counter",
    }


def test_a_scrape_shows_what_was_counted() -> None:
    tally = Tally()
    tally.observe("loans", series.WRITTEN, 1, times=3)
    tally.count("loans", series.CONSUMED, 5)
    tally.count("loans", series.ERRORS, label='odd "kind"\n\\')
    shown = parsed(Measured("loans", tally.drain()["loans"], {(series.DEPTH, "3"): 2, (series.ACTIVE, ""): 1}))
    assert shown["kurrent_sink_written_total_records"] == {
        ("kurrent_sink_written_total_records_bucket", "1"): 3,
        ("kurrent_sink_written_total_records_bucket", "+Inf"): 3,
        ("kurrent_sink_written_total_records_sum", ""): 3,
        ("kurrent_sink_written_total_records_count", ""): 3,
    }
    assert (
        shown["messaging_kurrent_consumer_message_count"][("messaging_kurrent_consumer_message_count_total", "")] == 5
    )
    assert list(shown["kurrent_sink_errors"].items()) == [(("kurrent_sink_errors_total", 'odd "kind"\n\\'), 1)]
    assert shown["sinkworker_lane_depth"] == {("sinkworker_lane_depth", "3"): 2}
    assert shown["kurrent_connector_active_total"] == {("kurrent_connector_active_total", ""): 1}
    assert (
        shown["messaging_kurrent_producer_message_count"][("messaging_kurrent_producer_message_count_total", "")] == 0
    )


def test_ages_of_many_are_counted_as_each_alone() -> None:
    rng = random.Random(7)
    together, alone = Tally(), Tally()
    since = [100 - rng.choice([0.25, 0.5, 1, 2.5, 3600, rng.random() / 10, rng.random() * 5000]) for _ in range(500)]
    together.observe_ages("loans", series.WRITE_S, since, 100)
    for each in since:
        alone.observe("loans", series.WRITE_S, 100 - each)
    counted, expected = together.drain()["loans"], alone.drain()["loans"]
    assert {field: round(amount, 3) for field, amount in counted.items() if amount} == {
        field: round(amount, 3) for field, amount in expected.items()
    }


def test_what_could_not_be_told_is_told_with_what_came_since() -> None:
    tally = Tally()
    tally.count("loans", series.CONSUMED, 2)
    kept = tally.drain()
    assert tally.drain() == {}
    tally.count("loans", series.CONSUMED, 3)
    tally.restore(kept)
    assert tally.drain() == {"loans": {series.CONSUMED.name: 5}}


def test_every_series_has_another_name_and_every_histogram_its_buckets() -> None:
    every = (*series.DOCUMENTED, *series.OURS)
    assert len({each.name for each in every}) == len(every)
    assert all(bool(each.buckets) is (each.kind is Kind.HISTOGRAM) for each in every)


def at(commit: int) -> Cursor:
    return Cursor(Position(commit), Position(commit))


def watermark(cursor: Cursor, acked: int) -> Watermark:
    return Watermark(Epoch(1), Generation("g"), cursor, at(90), acked, in_flight_batches=4, in_flight_bytes=9, held=1)


def test_arrears_are_what_was_read_and_not_confirmed() -> None:
    arrears = Arrears()
    arrears.read(1000.0, at(50))
    arrears.read(1007.0, at(90))
    arrears.dispatched_records = 30
    survey = Survey(1, {LaneNumber(2): 4}, 9)
    assert arrears.gauges(survey, watermark(at(40), 10), 5) == {
        "position": 40,
        "current": False,
        "records": 25,
        "oldest": 1000.0,
        "queued": 20,
        "batches": 4,
        "lanes": {"2": 4},
    }
    assert arrears.gauges(survey, watermark(at(50), 20), 0)["oldest"] == 1007.0
    arrears.read(1009.0, at(95))  # of which a replay had everything delivered
    arrears.live = True
    caught_up = arrears.gauges(survey, watermark(at(90), 30), 0)
    assert (caught_up["oldest"], caught_up["records"], caught_up["current"]) == (0, 0, True)
    arrears.dispatched_records += 1
    assert not arrears.gauges(survey, watermark(at(90), 30), 0)["current"]


def test_stretches_are_bounded_and_know_exactly_how_old_the_oldest_is() -> None:
    stretches = Stretches()
    for number in range(3 * MOST):
        stretches.add(at(number), float(number))
        stretches.add(at(number), 9e9)  # nothing new
    assert stretches.oldest_s == 0.0
    assert stretches.take(at(1)) == [0.0, 1.0]
    assert stretches.oldest_s == 2.0
    left = stretches.take(at(3 * MOST))
    assert len(left) == MOST - 2
    assert left[-1] == MOST - 1  # all of the rest count as of when the first of it came
    assert stretches.oldest_s is None
