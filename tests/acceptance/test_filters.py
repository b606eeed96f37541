"""A28-A35: what a connector's filter lets through (contract §3).

All connectors of this module run at once over the same events, appended twice in the same order: when the second round
of what a filter lets through has arrived, the first round of what it does not would have come long before.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from kurrentdbclient import NewEvent

from tests.acceptance.product import WITHIN_S, Product, Sink, binary_event, json_event, unique
from tests.processes import eventually

MARK = unique("f")
"""In every name, so that nobody else's events match."""

OF_2018, OF_2019 = ({"vehicle": {"year": year, "make": "Kurrent"}} for year in (2018, 2019))
BY_YEAR = "$[?($.value.vehicle.year==2018)]"
"""The sample of the original's documentation."""

EVENTS: dict[str, tuple[str, NewEvent]] = {
    # what is delivered is told by these names, the types' endings
    "one": (f"{MARK}-name", json_event(f"{MARK}-one", 1)),
    "other": (f"{MARK}-name-2", json_event(f"{MARK}-other", 1)),
    "system": (f"{MARK}-name-2", json_event(f"${MARK}-system", 1)),
    "shipped": (f"x{MARK}-cart-7", json_event(f"Was{MARK}-Shipped-twice", 1)),
    "alpha": (f"{MARK}a-1", json_event(f"{MARK}p-alpha", 1)),
    "beta": (f"{MARK}b-1", json_event(f"{MARK}q-beta", 1)),
    "dotted": (f"{MARK}a.1", json_event(f"{MARK}p.dotted", 1)),
    "inside": (f"x{MARK}a-1", json_event(f"x{MARK}p-inside", 1)),
    "2018": (f"{MARK}-fleet", json_event(f"{MARK}-2018", OF_2018)),
    "2019": (f"{MARK}-fleet", json_event(f"{MARK}-2019", OF_2019)),
    "binary": (f"{MARK}-fleet", binary_event(f"{MARK}-binary", b'{"vehicle": {"year": 2018}}')),
    "damaged": (f"{MARK}-fleet", NewEvent(f"{MARK}-damaged", data=b'{"vehicle": {"year": 2018}')),
    "system 2018": (f"{MARK}-fleet", json_event(f"${MARK}-system 2018", OF_2018)),
    "order": ("order-17", json_event(f"{MARK}-order", 1)),
    "reorder": ("pre-order-17", json_event(f"{MARK}-reorder", 1)),
}
FILTERS: dict[str, tuple[str, str, str]] = {
    # scope, filterType, expression
    "none": ("", "", ""),
    "stream, empty": ("stream", "", ""),
    "record, empty": ("record", "", ""),
    "streamId": ("stream", "streamId", f"{MARK}-name"),
    "regex stream": ("stream", "regex", f"{MARK}-c.rt-[0-9]"),
    "regex record": ("record", "regex", f"{MARK}-Sh[a-z]+d"),
    "prefix stream": ("stream", "prefix", f"{MARK}a-,{MARK}b-"),
    "prefix record": ("record", "prefix", f"{MARK}p-, {MARK}q-"),
    "prefix with a dot": ("stream", "prefix", f"{MARK}a."),
    "jsonPath": ("record", "jsonPath", BY_YEAR),
    "inferred jsonPath": ("", "", BY_YEAR),
    "inferred regex": ("record", "", f"^{MARK}p"),
    "unscoped": ("", "", "order-.*?"),
}


@pytest.fixture(scope="module")
def sinks(product: Product) -> Mapping[str, Sink]:
    def settings(scope: str, type: str, expression: str) -> dict[str, str]:
        given = {"scope": scope, "filterType": type, "expression": expression}
        return {f"subscription:filter:{key}": value for key, value in given.items() if value}

    before = product.append(unique("before-"), json_event("Before", 0))
    for _ in range(2):
        for stream, event in EVENTS.values():
            product.append(stream, NewEvent(type=event.type, data=event.data, content_type=event.content_type))
    sinks = {name: product.sink(settings(*given)) for name, given in FILTERS.items()}
    for sink in sinks.values():
        sink.do(f"start/{before}")
    return sinks


def names(sink: Sink) -> list[str]:
    """What has come of this module's events, by name."""
    of_type = {event.type: name for name, (_, event) in EVENTS.items()}
    subjects = [message.headers["esdb-record-schema-subject"].decode() for message in sink.messages()]
    return [of_type[subject] for subject in subjects if subject in of_type]


def assert_delivers(sink: Sink, *expected: str) -> None:
    """These, in this order, in both rounds, and nothing else."""
    eventually(lambda: len(names(sink)) >= 2 * len(expected), within_s=WITHIN_S)
    assert names(sink) == [*expected, *expected]


SYSTEM = ["system", "system 2018"]
USER = [name for name in EVENTS if name not in SYSTEM]


@pytest.mark.check("A28")
def test_without_a_filter_user_events_flow_and_system_events_do_not(sinks: Mapping[str, Sink]) -> None:
    assert_delivers(sinks["none"], *USER)
    types = {message.headers["esdb-record-schema-subject"] for message in sinks["none"].messages()}
    assert not [type for type in types if type.startswith(b"$")]


@pytest.mark.check("A29")
@pytest.mark.parametrize("scope", ["stream", "record"])
def test_a_scope_without_an_expression_lets_system_events_flow(sinks: Mapping[str, Sink], scope: str) -> None:
    assert_delivers(sinks[f"{scope}, empty"], *EVENTS)


@pytest.mark.check("A30")
def test_a_stream_id_is_that_stream_and_not_one_whose_name_goes_on(sinks: Mapping[str, Sink]) -> None:
    assert_delivers(sinks["streamId"], "one")


@pytest.mark.check("A31")
@pytest.mark.parametrize("scope", ["stream", "record"])
def test_a_regex_is_searched_anywhere_in_the_stream_id_or_the_type(sinks: Mapping[str, Sink], scope: str) -> None:
    assert_delivers(sinks[f"regex {scope}"], "shipped")


@pytest.mark.check("A31")
def test_a_regex_that_does_not_come_to_an_end_stops_the_connector_and_nothing_hangs(product: Product) -> None:
    """Here the database is the stand-in, which has a single thread. A real server searches for as long as it takes."""
    product.append(unique("explosive-"), json_event("a" * 60 + "b", 1))
    explosive = {"scope": "record", "filterType": "regex", "expression": "^(a|aa)+$"}
    sink = product.running({f"subscription:filter:{key}": value for key, value in explosive.items()})
    reason = sink.fails()
    assert "The filter's regular expression" in reason["message"]
    assert "^(a|aa)+$" in reason["message"]


@pytest.mark.check("A32")
def test_any_of_several_prefixes_will_do(sinks: Mapping[str, Sink]) -> None:
    assert_delivers(sinks["prefix stream"], "alpha", "beta")
    assert_delivers(sinks["prefix record"], "alpha", "beta")


@pytest.mark.check("A32")
def test_a_dot_in_a_prefix_is_a_dot(sinks: Mapping[str, Sink]) -> None:
    assert_delivers(sinks["prefix with a dot"], "dotted")


@pytest.mark.check("A33")
def test_a_json_path_selects_by_content_and_skips_what_is_no_json(sinks: Mapping[str, Sink]) -> None:
    """Of the two of the documented sample one. A system event that matches is delivered, too (contract §3)."""
    assert_delivers(sinks["jsonPath"], "2018", "system 2018")


@pytest.mark.check("A34")
def test_the_type_of_a_filter_is_inferred(sinks: Mapping[str, Sink]) -> None:
    assert_delivers(sinks["inferred jsonPath"], "2018", "system 2018")
    assert_delivers(sinks["inferred regex"], "alpha", "dotted")
    assert_delivers(sinks["unscoped"], "order", "reorder")  # the names of streams, and not anchored


@pytest.mark.check("A35")
@pytest.mark.parametrize(
    ("scope", "type", "expression", "blamed"),
    [
        ("record", "streamId", "loan-1", "scope"),
        ("stream", "jsonPath", "$.value", "scope"),
        ("stream", "regex", "(", "expression"),
        ("record", "jsonPath", "$[?(", "expression"),
        ("stream", "prefix", " , ", "expression"),
        ("stream", "regex", "a{100000000}", "expression"),  # would fill the memory
    ],
)
def test_a_filter_that_means_nothing_is_refused(
    product: Product, scope: str, type: str, expression: str, blamed: str
) -> None:
    given = {"scope": scope, "filterType": type, "expression": expression}
    violations = product.refusal({f"subscription:filter:{key}": value for key, value in given.items()})
    assert violations.keys() == {f"subscription:filter:{blamed}"}
