"""The documented settings (contract §2, §3): what is accepted, what it means, and every fault at once."""

from __future__ import annotations

import base64

import pytest

from sinkworker.connectors.errors import InvalidSettings
from sinkworker.connectors.settings import (
    FilterSettings,
    FilterType,
    Guarantee,
    InitialPosition,
    Scope,
    SinkSettings,
    generation_changes,
    parse,
)
from sinkworker.source.filters import WITHOUT_SYSTEM_EVENTS, Matching, OneStream, WholeLog, is_ours, server_filter

REQUIRED = {"instanceTypeName": "kafka-sink", "topic": "loans"}


def given(**settings: str) -> SinkSettings:
    return parse({**REQUIRED, **settings})


def faults(**settings: str) -> dict[str, list[str]]:
    with pytest.raises(InvalidSettings) as raised:
        parse({**REQUIRED, **settings})
    return raised.value.violations


def filtered(scope: str = "", kind: str = "", expression: str = "") -> FilterSettings:
    return given(
        **{
            "subscription:filter:scope": scope,
            "subscription:filter:filterType": kind,
            "subscription:filter:expression": expression,
        }
    ).filter


def test_the_defaults_are_the_documented_ones() -> None:
    settings = given()
    assert settings.initial_position is InitialPosition.LATEST
    assert (settings.autocommit.enabled, settings.autocommit.interval_ms) == (True, 5000)
    assert settings.autocommit.records_threshold == 1000
    assert settings.wait_for_broker_ack is False
    assert settings.servers() == "localhost:9092"
    assert settings.servers("kafka:9092") == "kafka:9092"


def test_the_options_of_the_producer_are_the_documented_ones() -> None:
    """A55"""
    assert (
        given().producer_options("loans-sink", "kafka:9092").items()
        >= {
            "bootstrap.servers": "kafka:9092",
            "client.id": "loans-sink",
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "message.send.max.retries": 2147483647,
            "compression.type": "zstd",
            "compression.level": 6,
            "broker.address.family": "v4",
            "reconnect.backoff.max.ms": 20000,
            "security.protocol": "PLAINTEXT",
        }.items()
    )


def test_the_additions_are_off_unless_set() -> None:
    settings = given()
    assert (settings.key.partitioner, settings.format, settings.trace_context) == ("consistent_random", "raw", False)
    assert settings.producer_options("loans-sink")["partitioner"] == "consistent_random"
    assert given(partitioner="consistent_random", format="RAW", **{"headers:traceContext": "false"}) == settings
    changed = given(Partitioner="MURMUR2_random", Format="CloudEvents", **{"headers:TraceContext": "true"})
    assert (changed.key.partitioner, changed.format, changed.trace_context) == ("murmur2_random", "cloudevents", True)
    # With extraction and without it: a record may have a key of its own.
    extracting = given(partitioner="murmur2_random", **{"partitionKeyExtraction:enabled": "true"})
    for each in (changed, extracting):
        assert each.producer_options("loans-sink")["partitioner"] == "murmur2_random"
    violations = faults(partitioner="murmur2", format="json", **{"headers:traceContext": "yes"})
    assert {key: len(texts) for key, texts in violations.items()} == {
        "partitioner": 1,
        "format": 1,
        "headers:traceContext": 1,
    }


def test_the_shortest_back_off_does_not_exceed_the_longest() -> None:
    options = given(**{"resilience:reconnectBackoffMaxMs": "10"}).producer_options("loans-sink")
    assert options["reconnect.backoff.ms"] == 10


def test_keys_and_values_have_no_case() -> None:
    """A26"""
    settings = parse({**REQUIRED, "SUBSCRIPTION:InitialPosition": "EARLIEST", "COMPRESSION:TYPE": "Snappy"})
    assert (settings.initial_position, settings.compression_type) == (InitialPosition.EARLIEST, "snappy")


def test_every_fault_is_named_under_its_documented_key() -> None:
    with pytest.raises(InvalidSettings) as raised:
        parse(
            {
                "topic": "no spaces please",
                "subscription:initialPosition": "middle",
                "autocommit:interval": "soon",
                "autocommit:recordsThreshold": "0",
                "compression:level": "13",
                "waitForBrokerAck": "maybe",
                "lanes:count": "0",
                "bootstrapServers": "a b",
                "resilience:messageSendMaxRetries": "0",
            }
        )
    assert raised.value.violations.keys() == {
        "instanceTypeName",
        "topic",
        "subscription:initialPosition",
        "autocommit:interval",
        "autocommit:recordsThreshold",
        "compression:level",
        "waitForBrokerAck",
        "lanes:count",
        "bootstrapServers",
        "resilience:messageSendMaxRetries",
    }
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("name", ["", "a\0b", "\n", "a\x7f", "\x85"])
def test_a_default_header_needs_a_name_without_control_characters(name: str) -> None:
    assert faults(**{f"DefaultHeaders:{name}": "x"}).keys() == {f"defaultHeaders:{name}"}


@pytest.mark.parametrize(
    ("settings", "faulty"),
    [
        ({"errors:policy": "skip"}, {"errors:policy"}),
        ({"errors:policy": "deadLetter"}, {"errors:deadLetterTopic"}),
        ({"errors:policy": "deadLetter", "errors:deadLetterTopic": "loans"}, {"errors:deadLetterTopic"}),
        ({"errors:policy": "deadLetter", "errors:deadLetterTopic": "a b"}, {"errors:deadLetterTopic"}),
        ({"errors:deadLetterTopic": "a b"}, {"errors:deadLetterTopic"}),
    ],
)
def test_dead_letters_need_a_topic_of_their_own(settings: dict[str, str], faulty: set[str]) -> None:
    assert faults(**settings).keys() == faulty


def test_dead_letters_are_off_unless_they_are_asked_for_and_open_no_generation() -> None:
    assert given().dead_letter_topic is None
    assert given(**{"errors:policy": "stop", "errors:deadLetterTopic": "dead"}).dead_letter_topic is None
    asked = given(**{"Errors:Policy": "DEADLETTER", "errors:deadLetterTopic": "dead"})
    assert asked.dead_letter_topic == "dead"
    assert asked.generation_fingerprint() == given().generation_fingerprint()


def test_unknown_and_unused_keys_change_nothing() -> None:
    """A27, A55"""
    assert given(**{"_topic": "x", "resilience:enabled": "true", "subscription:nodeAffinity": "any"}) == given()


@pytest.mark.check("A54")
@pytest.mark.parametrize("protocol", ["saslPlaintext", "SASLSSL"])
@pytest.mark.parametrize(
    ("mechanism", "option"),
    [("plain", "PLAIN"), ("scramSha256", "SCRAM-SHA-256"), ("SCRAMSHA512", "SCRAM-SHA-512"), ("", "PLAIN")],
)
def test_a_login_becomes_the_client_library_s_options(protocol: str, mechanism: str, option: str) -> None:
    """A54"""
    settings = {
        "authentication:securityProtocol": protocol,
        "authentication:saslMechanism": mechanism,
        "authentication:username": "loans",
        "AUTHENTICATION:Password": " hunter2 ",
    }
    options = given(**settings).producer_options("loans-sink")
    assert options["security.protocol"] == {"saslPlaintext": "SASL_PLAINTEXT", "SASLSSL": "SASL_SSL"}[protocol]
    assert {key: value for key, value in options.items() if key.startswith("sasl.")} == {
        "sasl.mechanism": option,
        "sasl.username": "loans",
        "sasl.password": " hunter2 ",
    }
    lacking = {"authentication:username": " ", "AUTHENTICATION:Password": ""}
    assert faults(**settings | lacking).keys() == {"authentication:username", "authentication:password"}
    impossible = {"authentication:username": "\0", "AUTHENTICATION:Password": "hunter2\0"}
    violations = faults(**settings | impossible)
    assert violations.keys() == {"authentication:username", "authentication:password"}
    assert "hunter2" not in str(violations)


@pytest.mark.parametrize("protocol", ["plaintext", "ssl", "saslPlaintext", "saslSsl"])
def test_no_repr_shows_a_password(protocol: str) -> None:
    sasl = {"authentication:username": "loans", "authentication:password": "hunter2"}
    parsed = given(**{"authentication:securityProtocol": protocol}, **sasl)
    options = parsed.producer_options("loans-sink")
    assert options.get("sasl.password") == ("hunter2" if parsed.authentication.is_sasl else None)
    assert "hunter2" not in f"{parsed!r} {parsed} {options!r} {options}"


def test_a_ca_of_ones_own_is_for_tls_alone() -> None:
    sasl = {"authentication:username": "loans", "authentication:password": "hunter2"}
    for protocol, expected in {"ssl": "/ca.pem", "saslSsl": "/ca.pem", "saslPlaintext": None, "": None}.items():
        tls = {"authentication:securityProtocol": protocol, "authentication:sslCaLocation": "/ca.pem"}
        assert given(**tls, **sasl).producer_options("loans-sink").get("ssl.ca.location") == expected
    assert "ssl.ca.location" not in given(**{"authentication:securityProtocol": "ssl"}).producer_options("loans-sink")
    assert faults(**{"authentication:sslCaLocation": "/ca\0.pem"}).keys() == {"authentication:sslCaLocation"}


def transforming(function: bytes, enabled: str = "true") -> dict[str, str]:
    return {"transformer:enabled": enabled, "transformer:function": base64.encodebytes(function).decode()}


def test_a_transformation_is_javascript_in_base64() -> None:
    source = "function transform(record) { record.value.é = 1; } // " + "long " * 30
    assert given(**transforming(source.encode())).transform == source  # its base64 has line breaks
    assert given(**transforming(source.encode("utf-8-sig"))).transform == source
    assert given(**transforming(source.encode(), "false")).transform is None
    assert given(**{"transformer:function": "not looked at"}).transform is None


@pytest.mark.parametrize(
    ("function", "says"),
    [("", "is required"), ("  ", "is required"), ("function()", "base64"), ("Zm9", "base64"), ("gICA", "UTF-8")],
)
def test_what_is_no_text_in_base64_is_refused(function: str, says: str) -> None:
    (told,) = faults(**{"transformer:enabled": "true", "transformer:function": function})["transformer:function"]
    assert says in told


def test_another_transformation_opens_no_generation() -> None:
    changed = given(**transforming(b"function transform(record) {}"))
    assert changed.generation_fingerprint() == given().generation_fingerprint()


@pytest.mark.parametrize(
    ("scope", "kind", "expression", "expected"),
    [
        ("", "", "", FilterSettings()),
        ("stream", "", "", FilterSettings(Scope.STREAM)),
        ("stream", "streamId", "loan-1", FilterSettings(Scope.STREAM, FilterType.STREAM_ID, "loan-1")),
        ("record", "regex", "^Loan", FilterSettings(Scope.RECORD, FilterType.REGEX, "^Loan")),
        ("", "", "order-.*?", FilterSettings(Scope.STREAM, FilterType.REGEX, "order-.*?")),
        ("record", "", "^x", FilterSettings(Scope.RECORD, FilterType.REGEX, "^x")),
        ("", "", "a(", FilterSettings(Scope.STREAM, FilterType.PREFIX, "a(")),
        ("record", "jsonPath", "$.value", FilterSettings(Scope.RECORD, FilterType.JSON_PATH, "$.value")),
        ("", "", "$[?($.value.x==1)]", FilterSettings(Scope.RECORD, FilterType.JSON_PATH, "$[?($.value.x==1)]")),
        ("", "", "c++-", FilterSettings(Scope.STREAM, FilterType.PREFIX, "c++-")),
    ],
)
def test_a_filters_type_and_scope_are_inferred(
    scope: str, kind: str, expression: str, expected: FilterSettings
) -> None:
    """A34"""
    assert filtered(scope, kind, expression) == expected


@pytest.mark.parametrize(
    ("scope", "kind", "expression", "key"),
    [
        ("record", "streamId", "loan-1", "subscription:filter:scope"),
        ("stream", "regex", "(", "subscription:filter:expression"),
        ("stream", "regex", "a++", "subscription:filter:expression"),
        ("stream", "", "[[:alpha:]]", "subscription:filter:expression"),
        ("stream", "", "a" * 4097, "subscription:filter:expression"),
        ("stream", "", "(" * 2000 + ")" * 2000, "subscription:filter:expression"),
        ("stream", "prefix", " , ", "subscription:filter:expression"),
        ("galaxy", "regex", "x", "subscription:filter:scope"),
    ],
)
def test_a_filter_that_means_nothing_is_refused(scope: str, kind: str, expression: str, key: str) -> None:
    """A35"""
    assert key in faults(
        **{
            "subscription:filter:scope": scope,
            "subscription:filter:filterType": kind,
            "subscription:filter:expression": expression,
        }
    )


def test_a_filter_becomes_what_the_database_runs() -> None:
    assert server_filter(filtered()) == WITHOUT_SYSTEM_EVENTS
    assert server_filter(filtered("record")) == WholeLog()
    assert server_filter(filtered("stream", "streamId", "loan-1")) == OneStream("loan-1")
    assert server_filter(filtered("record", "regex", "Loan")) == Matching("Loan", by_stream=False)
    assert server_filter(filtered("stream", "prefix", "a-,b.")) == Matching(r"^(?:a\-|b\.)", by_stream=True)


@pytest.mark.parametrize(
    ("stream", "type", "ours"),
    [
        ("$sinkworker", "$sinkworker-registered", True),
        ("$sinkworker/loans-sink", "$sinkworker-created", True),
        ("$$$sinkworker/loans-sink", "$metadata", True),
        ("$connectors/loans-sink/checkpoints", "$conn-ctrl-checkpoint", True),
        ("$$$connectors/loans-sink/checkpoints", "$metadata", True),
        ("loan-1", "LoanRequested", False),
        ("$connectors/native", "$conn-mngt-connector-created", False),
        ("sinkworker", "X", False),
    ],
)
def test_no_connector_delivers_our_own_bookkeeping(stream: str, type: str, ours: bool) -> None:
    assert is_ours(stream, type) is ours


def test_a_faulty_switch_hides_no_fault_of_what_it_switches() -> None:
    keys = {"partitionKeyExtraction:source": "stream", "partitionKeyExtraction:expression": "("}
    function = {"transformer:function": "no base64"}
    assert given(**keys, **function).transform is None  # switched off, both may be anything
    switched = {"partitionKeyExtraction:enabled": "yes", "transformer:enabled": "yes"}
    assert faults(**keys, **function, **switched).keys() == {
        "partitionKeyExtraction:enabled",
        "partitionKeyExtraction:expression",
        "transformer:enabled",
        "transformer:function",
    }


EXACTLY_ONCE = {"delivery:guarantee": "exactlyonce"}


def test_exactly_once_keeps_progress_with_the_topic_unless_told_otherwise() -> None:
    assert given().guarantee is Guarantee.AT_LEAST_ONCE
    asked = given(**EXACTLY_ONCE)
    assert (asked.exactly_once, asked.progress_topic) == (True, asked.topic)
    assert given(**EXACTLY_ONCE, **{"delivery:progressTopic": "marks"}).progress_topic == "marks"


def test_exactly_once_needs_checkpoints_and_a_topic_for_its_progress() -> None:
    told = faults(**EXACTLY_ONCE, **{"autocommit:enabled": "false", "topic": "loans.{category}"})
    assert "autocommit:enabled" in told["delivery:guarantee"][0]
    assert "is required" in told["delivery:progressTopic"][0]
    assert faults(**{"delivery:guarantee": "twice"})["delivery:guarantee"]


def test_the_guarantee_opens_a_generation() -> None:
    before, after = given().generation_fingerprint(), given(**EXACTLY_ONCE).generation_fingerprint()
    assert generation_changes(before, after) == generation_changes(after, before) == ["guarantee"]
