"""Pure: what a subscription asks the database for."""

from __future__ import annotations

from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.model import Cursor
from sinkworker.source.filters import Matching, OneStream, ServerFilter

CHECKPOINT_WINDOW = 32
CHECKPOINT_MULTIPLIER = 8
"""The database sends a checkpoint after window x multiplier records looked at, also those that the filter drops."""


def subscription(wanted: ServerFilter, after: Cursor) -> bytes:
    """The `ReadReq` of a subscription to what `wanted` lets through after that cursor (exclusive)."""
    request = streams_pb2.ReadReq()
    options = request.options
    options.subscription.SetInParent()
    options.read_direction = streams_pb2.ReadReq.Options.Forwards
    options.uuid_option.string.SetInParent()
    if isinstance(wanted, OneStream):
        _place_in_stream(options.stream, wanted.name, after)
    else:
        _place_in_log(options.all, after)
    if isinstance(wanted, Matching):
        options.filter.max = CHECKPOINT_WINDOW
        options.filter.checkpointIntervalMultiplier = CHECKPOINT_MULTIPLIER
        subject = options.filter.stream_identifier if wanted.by_stream else options.filter.event_type
        subject.regex = wanted.pattern
    else:
        options.no_filter.SetInParent()
    return request.SerializeToString()


def _place_in_stream(stream: streams_pb2.ReadReq.Options.StreamOptions, name: str, after: Cursor) -> None:
    stream.stream_identifier.stream_name = name.encode()
    if after.revision is None:
        stream.start.SetInParent()
    else:
        stream.revision = after.revision


def _place_in_log(log: streams_pb2.ReadReq.Options.AllOptions, after: Cursor) -> None:
    if after == Cursor.BEGINNING:
        log.start.SetInParent()
    else:
        # A checkpoint may come without a prepare position; its commit position is a record's all the same.
        log.position.commit_position = after.commit
        log.position.prepare_position = after.commit
