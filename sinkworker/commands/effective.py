"""Pure: what settings come to: every one with its default filled in, and the producer options, secrets masked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sinkworker.connectors.settings import ErrorPolicy, FilterType, KeySource, SinkSettings, is_sensitive

MASK = "*****"
Value: TypeAlias = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. `note` says what its value alone does not."""

    key: str
    value: Value
    note: str = ""


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as they may be shown: what is sensitive is only said to be there."""
    return {key: MASK if is_sensitive(key) and value else value for key, value in settings.items()}


def settings_rows(given: Mapping[str, str], settings: SinkSettings, deployment_servers: str | None) -> list[Row]:
    """What `settings`, parsed from `given`, mean, by their documented keys."""
    key, commit, filter = settings.key, settings.autocommit, settings.filter
    elsewhere = "the deployment's" if deployment_servers else "unless KAFKA_BOOTSTRAP_SERVERS names others"
    rows = [
        Row("topic", settings.topic, "a template: each record's own" if settings.topic_is_template else ""),
        Row("bootstrapServers", settings.servers(deployment_servers), "" if settings.bootstrap_servers else elsewhere),
        Row("subscription:filter:scope", filter.scope, _scope_note(settings)),
        Row("subscription:filter:filterType", filter.type, _type_note(given, settings)),
        Row("subscription:filter:expression", filter.expression, _expression_note(settings)),
        Row("subscription:initialPosition", settings.initial_position),
        Row("partitionKeyExtraction:enabled", key.source is not KeySource.PARTITION_KEY),
        Row("partitionKeyExtraction:source", key.source),
        Row("partitionKeyExtraction:expression", key.expression),
        Row("partitioner", key.partitioner),
        Row("waitForBrokerAck", settings.wait_for_broker_ack),
        Row("autocommit:enabled", commit.enabled, "" if commit.enabled else "no checkpoint is ever written"),
        Row("autocommit:interval", commit.interval_ms, "ms"),
        Row("autocommit:recordsThreshold", commit.records_threshold),
        Row("headers:ignoreSystem", settings.ignore_system_headers),
        Row("headers:traceContext", settings.trace_context),
        Row("format", settings.format),
        *(Row(f"defaultHeaders:{name}", value) for name, value in settings.default_headers.items()),
        Row("transformer:enabled", settings.transform is not None),
        Row("logging:enabled", settings.logging_enabled),
        Row("lanes:count", settings.lanes, "" if settings.lanes else _lanes_note(settings)),
        Row("errors:policy", ErrorPolicy.STOP if settings.dead_letter_topic is None else ErrorPolicy.DEAD_LETTER),
        Row("errors:deadLetterTopic", settings.dead_letter_topic),
        Row("delivery:guarantee", settings.guarantee),
        Row("delivery:progressTopic", settings.progress_topic if settings.exactly_once else None),
    ]
    return [row for row in rows if row.value != "" and (row.value is not None or row.note)]


def producer_rows(connector_id: str, settings: SinkSettings, deployment_servers: str | None) -> list[Row]:
    """librdkafka's options. What the topic decides is not among them: it is asked for when delivery begins."""
    return [
        Row(name, value) for name, value in masked(settings.producer_options(connector_id, deployment_servers)).items()
    ]


def _lanes_note(settings: SinkSettings) -> str:
    return "32, with a template" if settings.topic_is_template else "one for each partition, at most 64"


def _scope_note(settings: SinkSettings) -> str:
    if settings.filter.type is not None:
        return ""
    return "everything but system events" if settings.filter.scope is None else "everything, system events too"


def _type_note(given: Mapping[str, str], settings: SinkSettings) -> str:
    named = next((value for key, value in given.items() if key.lower() == "subscription:filter:filtertype"), "")
    inferred = settings.filter.type is not None and named.strip().lower() in {"", "unspecified"}
    return "inferred from the expression" if inferred else ""


def _expression_note(settings: SinkSettings) -> str:
    match settings.filter.type:
        case FilterType.REGEX:
            return "found anywhere in the name, unless anchored"
        case FilterType.PREFIX:
            return f"{len(settings.filter.prefixes)} prefixes" if len(settings.filter.prefixes) > 1 else ""
        case FilterType.JSON_PATH:
            return "looked for by the workers: the database sends everything"
    return ""
