"""A subscription over `kurrentdbclient`, for where libcurl has no HTTP/2. The client's types stop here."""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import UTC, datetime, timedelta

from kurrentdbclient import CaughtUp, Checkpoint, RecordedEvent
from kurrentdbclient.common import AbstractCatchupSubscription
from kurrentdbclient.protos.v1 import shared_pb2, streams_pb2

from sinkworker.bell import Bell
from sinkworker.database import Database
from sinkworker.errors import Fatal, KurrentDBUnavailable, SinkworkerError
from sinkworker.model import Cursor, Passed, Position, Record, Revision
from sinkworker.source.events import Item
from sinkworker.source.filters import OneStream, ServerFilter
from sinkworker.source.node import LEFT, Node
from sinkworker.source.requests import CHECKPOINT_MULTIPLIER, CHECKPOINT_WINDOW
from sinkworker.source.subscription import LetGo

log = logging.getLogger(__name__)

BUFFERED_BYTES = 8 << 20
BUFFERED_ITEMS = 8192
"""What a reader holds at most; beyond it the database's own flow control holds the rest back (P6)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class ClientSubscription(threading.Thread):
    """Reads a subscription of `kurrentdbclient` in a thread of its own, as far ahead as its bounds allow.

    See `sinkworker.source.subscription.Subscription`.
    """

    def __init__(self, database: Database, wanted: ServerFilter, after: Cursor, bell: Bell) -> None:
        """Subscribe, and await the database's confirmation. Raises what `Database` raises."""
        super().__init__(name="subscription", daemon=True)
        self._node = Node(database)
        try:
            self._subscription = _asked_for(self._node.database, wanted, after)
        except BaseException:
            self._node.close()
            raise
        self._bell = bell
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._room = threading.Condition()
        self._closed = False
        self._end: SinkworkerError | None = None
        self.start()

    def read(self, limit: int) -> list[Item]:
        with self._room:
            items = [self._items.popleft() for _ in range(min(limit, len(self._items)))]
            self._bytes -= sum(len(item.raw) for item in items if isinstance(item, Record))
            self._room.notify()
            if self._items:
                self._bell.set()
            elif not items and self._end is not None:
                raise self._end
        if not items and self._node.is_left():
            raise LetGo(LEFT)
        return items

    def wait(self, timeout_s: float) -> None:
        self._bell.wait(timeout_s)

    def rest(self) -> None:
        """Nothing to do: the database's flow control holds the rest back, and gRPC answers its PINGs."""

    def close(self) -> None:
        with self._room:
            self._closed = True
            self._room.notify()
        self._subscription.stop(cancel=True)
        self._node.close()

    def run(self) -> None:
        try:
            with self._node.database.translated("go on with the subscription"):
                for event in self._subscription:
                    self._put(_item(event))
                    if self._closed:
                        return
            end: SinkworkerError = KurrentDBUnavailable("KurrentDB ended the subscription.")
        except SinkworkerError as exc:
            end = exc
        except Exception as exc:
            log.exception("a bug ends the subscription")
            end = Fatal(f"Unexpected {type(exc).__name__}: {exc}.")  # P5: a reader that says nothing looks idle
        with self._room:
            self._end = end
        self._bell.set()

    def _put(self, item: Item) -> None:
        with self._room:
            while (self._bytes >= BUFFERED_BYTES or len(self._items) >= BUFFERED_ITEMS) and not self._closed:
                self._room.wait()
            self._items.append(item)
            if isinstance(item, Record):
                self._bytes += len(item.raw)
        self._bell.set()


def _asked_for(database: Database, wanted: ServerFilter, after: Cursor) -> AbstractCatchupSubscription:
    with database.translated("subscribe") as client:
        if isinstance(wanted, OneStream):
            return client.subscribe_to_stream(
                **wanted.subscribe_options(), stream_position=after.revision, include_caught_up=True
            )
        return client.subscribe_to_all(
            **wanted.subscribe_options(),
            commit_position=None if after == Cursor.BEGINNING else after.commit,
            include_checkpoints=True,
            include_caught_up=True,
            window_size=CHECKPOINT_WINDOW,
            checkpoint_interval_multiplier=CHECKPOINT_MULTIPLIER,
        )


def _item(event: RecordedEvent) -> Item:
    if isinstance(event, CaughtUp):
        return Passed(None, caught_up=True)
    if isinstance(event, Checkpoint):
        return Passed(Cursor(Position(event.commit_position), Position(event.prepare_position)))
    record_id = str(event.id)
    return Record(
        commit=Position(event.commit_position),
        prepare=Position(event.prepare_position),
        revision=Revision(event.stream_position),
        record_id=record_id,
        stream=event.stream_name,
        type=event.type,
        metadata=event.metadata,
        raw=_encoded(event, record_id),
    )


def _encoded(event: RecordedEvent, record_id: str) -> bytes:
    """The event as the database had encoded it, but for the last digit of its time, which the client drops."""
    recorded_at = event.recorded_at or _EPOCH
    recorded = streams_pb2.ReadResp.ReadEvent.RecordedEvent(
        id=shared_pb2.UUID(string=record_id),
        stream_identifier=shared_pb2.StreamIdentifier(stream_name=event.stream_name.encode()),
        stream_revision=event.stream_position,
        prepare_position=event.prepare_position,
        commit_position=event.commit_position,
        metadata={
            "type": event.type,
            "content-type": event.content_type,
            "created": str((recorded_at - _EPOCH) // _MICROSECOND * 10),
        },
        custom_metadata=event.metadata,
        data=event.data,
    )
    read = streams_pb2.ReadResp.ReadEvent(event=recorded, commit_position=event.commit_position)
    return streams_pb2.ReadResp(event=read).SerializeToString()
