"""A43, A44, A58: what a user's function makes of records, what its failure costs, and that it is counted."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pytest
from kurrentdbclient import NewEvent

from tests.acceptance.product import Product, binary_event, json_event, unique
from tests.acceptance.test_checkpoints import over
from tests.processes import eventually

HIDES = """
function transform(record) {
  let { name, email, ...rest } = record.value;
  record.value = { ...rest, name: `${name[0]}***`, email: email.replace(/^[^@]+/, "***") };
  record.schemaInfo.subject = "CustomerHidden";
  record.headers["Hidden-By"] = record.streamId;
}
"""
CUSTOMER = {"id": 7, "name": "Ada Lovelace", "email": "ada@example.org"}


def function(body: str) -> dict[str, str]:
    return {"transformer:enabled": "true", "transformer:function": base64.b64encode(body.encode()).decode()}


@pytest.mark.check("A43")
def test_a_transformation_changes_value_subject_and_headers_and_leaves_alone_what_is_no_json(product: Product) -> None:
    stream = unique("customer-")
    events: list[NewEvent] = [
        json_event("CustomerAdded", CUSTOMER, {"tenant": "north"}),
        binary_event("Scanned", b"\x00{}"),
    ]
    product.append(stream, *events)
    changed, scanned = product.running({**over(stream), **function(HIDES)}).messages(2)
    assert json.loads(changed.value or b"") == {"id": 7, "name": "A***", "email": "***@example.org"}
    assert {
        "esdb-record-is-transformed": b"true",
        "esdb-record-schema-subject": b"CustomerHidden",
        "esdb-record-headers-Hidden-By": stream.encode(),
        "esdb-record-headers-tenant": b"north",
    }.items() <= changed.headers.items()
    assert scanned.value == b"\x00{}"
    assert scanned.headers["esdb-record-schema-subject"] == b"Scanned"
    assert "esdb-record-is-transformed" not in scanned.headers


def errors(product: Product, connector_id: str) -> float:
    """What the errors counter of that connector stands at."""
    lines = product.http.get("/metrics").text.splitlines()
    mine = [line for line in lines if line.startswith("kurrent_sink_errors_total{") and connector_id in line]
    return sum(float(line.rpartition(" ")[2]) for line in mine)


@pytest.mark.check("A44")
@pytest.mark.check("A58")
def test_an_error_in_a_transformation_stops_the_connector_and_is_counted(product: Product) -> None:
    bodies: Mapping[str, str] = {
        "throw new Error('out of cheese')": "out of cheese",
        "return { value: 1 }": "transform returned a value (object)",
    }
    stream = unique("failing-")
    position = product.append(stream, json_event("CustomerAdded", CUSTOMER))
    sinks = {
        said: product.running({**over(stream), **function(f"function transform(record) {{ {body} }}")})
        for body, said in bodies.items()
    }
    for said, sink in sinks.items():
        reason = sink.fails()
        assert reason["code"] == "transform-failed"
        assert said in reason["message"]
        assert sink.position < position
        assert sink.messages() == []
        eventually(lambda sink=sink: errors(product, sink.id) >= 1)  # type: ignore[misc]


@pytest.mark.check("A44")
@pytest.mark.parametrize("text", [base64.b64encode(b"function other(r) {}").decode(), "no base64!", ""])
def test_what_is_no_function_named_transform_is_refused(product: Product, text: str) -> None:
    refused = product.refusal({"transformer:enabled": "true", "transformer:function": text})
    assert refused.keys() == {"transformer:function"}
