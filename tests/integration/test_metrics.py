"""What a scrape of the API shows of a running connector, added up over every process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sinkworker.config import Config, Secret
from sinkworker.management.server import ApiServer
from tests.ports import free_port
from tests.processes import eventually
from tests.system import Flow, System

COMMITS = "messaging_kurrent_consumer_commit_latency_s_count"

Scrape = Callable[[Flow], dict[str, float]]


@pytest.fixture(scope="module")
def scrape(system: System) -> Iterator[Scrape]:
    config = Config(
        kurrentdb_uri=Secret(system.addresses["KURRENTDB_URI"]),
        redis_url=Secret(system.addresses["REDIS_URL"]),
        api_port=free_port(),
    )
    stop = threading.Event()
    server = threading.Thread(target=ApiServer(config).run, args=(stop,))
    server.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{config.api_port}", timeout=10) as client:

        def scrape(flow: Flow) -> dict[str, float]:
            answer = client.get("/metrics")
            assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
            samples = [each for family in text_string_to_metric_families(answer.text) for each in family.samples]
            assert all(each.labels["connector_type"] == "kafka" for each in samples)
            # The parser gives every counter a name in `_total`.
            return {each.name: each.value for each in samples if each.labels["connector_id"] == flow.id}

        yield scrape
    stop.set()
    server.join(10)


@pytest.mark.check("A58")
def test_a_connectors_metrics_count_every_record_of_every_worker(system: System, scrape: Scrape) -> None:
    flow = system.flow()
    flow.append(300)
    assert flow.delivered().holds
    eventually(lambda: everyone_has_told(scrape(flow), 300))
    shown = scrape(flow)
    assert shown["messaging_kurrent_consumer_message_count_total"] == 300
    assert shown["messaging_kurrent_producer_message_count_total"] == 300
    assert shown["kurrent_sink_write_latency_s_count"] == 300
    assert 0 < shown["kurrent_sink_write_latency_s_sum"] < 300 * 60
    assert shown["messaging_kurrent_producer_produce_duration_s_count"] == 300
    assert shown[COMMITS] <= 300
    assert shown["messaging_kurrent_consumer_lag"] >= 0
    assert shown["kurrent_connector_active_total"] == 1
    assert shown["sinkworker_takeovers_total"] == 1
    eventually(lambda: nothing_waits(scrape(flow)))  # gauges are told a moment late: what they say may be of before
    flow.stop()
    assert scrape(flow)["kurrent_connector_active_total"] == 0


def test_who_has_everything_delivered_is_not_behind_whatever_else_is_appended(system: System, scrape: Scrape) -> None:
    """Of the whole log a connector reads its own checkpoints, too, and delivers them never."""
    everything = system.flow(**{"subscription:filter:filterType": "", "subscription:filter:expression": ""})
    one_stream = system.flow(**{"subscription:filter:filterType": "streamId"})
    eventually(lambda: scrape(everything).get("messaging_kurrent_consumer_message_count_total", 0) > 0)
    for flow in (everything, one_stream):
        eventually(lambda flow=flow: is_current(scrape(flow)))  # type: ignore[misc]
        flow.stop()


def nothing_waits(shown: dict[str, float]) -> bool:
    gauges = ("messaging_kurrent_producer_queue_length", "sinkworker_lag_records", "sinkworker_lag_seconds")
    return all(shown.get(name) == 0 for name in gauges)


def is_current(shown: dict[str, float]) -> bool:
    return shown.get("messaging_kurrent_consumer_lag") == 0 and nothing_waits(shown)


def test_what_stops_a_connector_before_it_reads_is_an_error_too(system: System, scrape: Scrape) -> None:
    missing = Flow(system, "no-such-topic")
    missing.create()
    missing.start()
    eventually(lambda: scrape(missing).get("kurrent_sink_errors_total") == 1)
    assert scrape(missing)["messaging_kurrent_processor_error_count_total"] == 1


def everyone_has_told(shown: dict[str, float], records: int) -> bool:
    counts = ("kurrent_sink_written_total_records_count", "messaging_kurrent_consumer_message_count_total")
    return all(shown.get(name) == records for name in counts) and shown.get(COMMITS, 0) > 0
