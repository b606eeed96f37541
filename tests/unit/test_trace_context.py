"""The trace of an event as headers (our `headers:traceContext`): what OpenTelemetry reads out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from sinkworker.delivery.trace_context import headers

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-00"


def read(metadata: Mapping[str, Any]) -> SpanContext:
    """What a consumer goes on with."""
    carrier = {name: value.decode() for name, value in headers(metadata)}
    return get_current_span(TraceContextTextMapPropagator().extract(carrier)).get_span_context()


def test_a_trace_in_the_metadata_goes_on_as_it_is() -> None:
    metadata = {"traceparent": PARENT, "tracestate": "rojo=00f067aa0ba902b7, congo@x=t61 r , ,k=v", "tenant": "north"}
    assert headers(metadata) == [(name, metadata[name].encode()) for name in ("traceparent", "tracestate")]
    found = read(metadata)
    assert (found.trace_id, found.span_id) == (int(TRACE_ID, 16), int(SPAN_ID, 16))
    assert (found.trace_flags, found.trace_state.get("congo@x")) == (0, "t61 r")


@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [
        pytest.param(TRACE_ID, SPAN_ID, id="digits"),
        pytest.param(f"0x{TRACE_ID[1:]}", f"0x{SPAN_ID}", id="a number without leading zeros"),
    ],
)
def test_what_the_clients_of_kurrentdb_write_becomes_a_sampled_trace(trace_id: str, span_id: str) -> None:
    metadata = {"$traceId": trace_id, "$spanId": span_id, "tracestate": "a=b"}
    assert headers(metadata) == [("traceparent", f"00-{TRACE_ID}-{SPAN_ID}-01".encode())]
    assert read(metadata).trace_flags.sampled


def test_a_traceparent_counts_before_what_the_clients_write() -> None:
    ids = {"$traceId": "1" * 32, "$spanId": "2" * 16}
    assert headers({**ids, "traceparent": PARENT}) == [("traceparent", PARENT.encode())]
    assert headers({**ids, "traceparent": "no"}) == [("traceparent", f"00-{'1' * 32}-{'2' * 16}-01".encode())]


def test_a_version_to_come_may_have_more_at_its_end() -> None:
    later = f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes"
    assert headers({"traceparent": later}) == [("traceparent", later.encode())]


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"traceparent": None},
        {"traceparent": 7},
        {"traceparent": ""},
        {"traceparent": PARENT.upper()},
        {"traceparent": f"{PARENT} "},
        {"traceparent": f"{PARENT}\n"},
        {"traceparent": f"{PARENT}-more"},
        {"traceparent": f"ff{PARENT[2:]}"},
        {"traceparent": f"00-{'0' * 32}-{SPAN_ID}-01"},
        {"traceparent": f"00-{TRACE_ID}-{'0' * 16}-01"},
        {"traceparent": f"cc-{TRACE_ID}-{SPAN_ID}-01."},
        {"tracestate": "a=b"},
        {"Traceparent": PARENT},
        {"$traceId": TRACE_ID},
        {"$spanId": SPAN_ID},
        {"$traceId": TRACE_ID[1:], "$spanId": SPAN_ID},
        {"$traceId": 7, "$spanId": SPAN_ID},
        {"$traceId": "0x", "$spanId": SPAN_ID},
        {"$traceId": TRACE_ID, "$spanId": "0x1" + SPAN_ID},
        {"$traceId": TRACE_ID, "$spanId": "-b7ad6b716920333"},
    ],
)
def test_what_is_no_trace_is_not_passed_on(metadata: dict[str, Any]) -> None:
    assert headers(metadata) == []
    assert not read(metadata).is_valid


@pytest.mark.parametrize(
    "state", ["", ",", "a", "a=", "=b", "A=b", "a=b=c", "a=\x07", "a=ä", 7, ",".join(["a=b"] * 33), "a=" + "b" * 257]
)
def test_a_malformed_state_is_left_out(state: object) -> None:
    assert headers({"traceparent": PARENT, "tracestate": state}) == [("traceparent", PARENT.encode())]


def test_32_members_are_a_state() -> None:
    state = ",".join(f"k{number}={'v' * 256}" for number in range(32))
    assert headers({"traceparent": PARENT, "tracestate": state})[1] == ("tracestate", state.encode())
