"""The series: names and types of the original's documentation (contract §10), and those of ours. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Upper bounds of every histogram of durations: a broker's answer to a backlog of an hour."""

ONE = (1.0,)
"""Of a histogram whose observations are all 1: `written_total_records` is one in the original, sic."""


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Series:
    """One metric. Every sample has the labels `connector_id` and `connector_type`."""

    name: str
    kind: Kind
    help: str
    buckets: tuple[float, ...] = ()
    label: str = ""
    """Name of one more label, where samples have one."""


ACTIVE = Series("kurrent_connector_active_total", Kind.GAUGE, "1 while the connector runs.")
WRITTEN = Series(
    "kurrent_sink_written_total_records",
    Kind.HISTOGRAM,
    "Records that Kafka has confirmed: an observation of 1 each.",
    ONE,
)
ERRORS = Series(
    "kurrent_sink_errors_total",
    Kind.COUNTER,
    "Errors of the sink, those of transformations among them.",
    (),
    "error_type",
)
TRANSFORM_S = Series("kurrent_sink_transform_duration_s", Kind.HISTOGRAM, "Seconds to transform one record.", SECONDS)
WRITE_S = Series(
    "kurrent_sink_write_latency_s",
    Kind.HISTOGRAM,
    "Seconds from the creation of an event to its acknowledgement.",
    SECONDS,
)
CONSUMED = Series("messaging_kurrent_consumer_message_count", Kind.COUNTER, "Records read from the database.")
COMMIT_S = Series(
    "messaging_kurrent_consumer_commit_latency_s",
    Kind.HISTOGRAM,
    "Seconds from when records were seen dispatched to the checkpoint that covers them.",
    SECONDS,
)
LAG = Series(
    "messaging_kurrent_consumer_lag",
    Kind.GAUGE,
    "Log position of the database's last event minus that up to which all is delivered.",
)
QUEUE = Series(
    "messaging_kurrent_producer_queue_length", Kind.GAUGE, "Records dispatched and not yet confirmed by Kafka."
)
PRODUCED = Series("messaging_kurrent_producer_message_count", Kind.COUNTER, "Messages that Kafka has confirmed.")
PRODUCE_S = Series(
    "messaging_kurrent_producer_produce_duration_s",
    Kind.HISTOGRAM,
    "Seconds from when a batch was begun to when all of it was confirmed, once for each record.",
    SECONDS,
)
FAULTS = Series(
    "messaging_kurrent_processor_error_count", Kind.COUNTER, "Errors that interrupted reading or delivering."
)

DOCUMENTED = (
    ACTIVE, WRITTEN, ERRORS, TRANSFORM_S, WRITE_S, CONSUMED, COMMIT_S, LAG, QUEUE, PRODUCED, PRODUCE_S, FAULTS,
)  # fmt: skip
"""The twelve of the original."""

LAG_RECORDS = Series("sinkworker_lag_records", Kind.GAUGE, "Records read and not yet confirmed by Kafka.")
LAG_S = Series("sinkworker_lag_seconds", Kind.GAUGE, "Age of the oldest record that was read and not yet confirmed.")
BATCHES = Series("sinkworker_in_flight_batches", Kind.GAUGE, "Batches dispatched and not yet acknowledged.")
DEPTH = Series("sinkworker_lane_depth", Kind.GAUGE, "Batches in the mailbox of a lane.", (), "lane")
AVOIDED = Series(
    "sinkworker_duplicates_avoided_total",
    Kind.COUNTER,
    "Records that a replay skipped, since their lane had them delivered.",
)
TAKEOVERS = Series("sinkworker_takeovers_total", Kind.COUNTER, "Epochs begun by schedulers.")
REAPED = Series("sinkworker_reaped_lanes_total", Kind.COUNTER, "Lanes taken from workers that had fallen silent.")
DEAD_LETTERS = Series("sinkworker_dead_letters_total", Kind.COUNTER, "Records that went to the dead-letter topic.")

OURS = (LAG_RECORDS, LAG_S, BATCHES, DEPTH, AVOIDED, TAKEOVERS, REAPED, DEAD_LETTERS)
