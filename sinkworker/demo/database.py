"""The demo's view of the database: it appends loans, and reads the log back for the judge."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import orjson
from kurrentdbclient import KurrentDBClient, RecordedEvent, StreamState
from kurrentdbclient.exceptions import KurrentDBClientError, NotFoundError

from sinkworker.connectors import streams
from sinkworker.demo.loans import CATEGORY, Append
from sinkworker.errors import Unavailable

TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0


class LoanDatabase:
    """One connection with the client library as anyone has it. Every call raises Unavailable without an answer."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._client: KurrentDBClient | None = None

    def append(self, append: Append) -> int:
        """Append and answer the last event's commit position. The ids make a second try of the same append harmless."""
        expected = StreamState.NO_STREAM if append.after is None else append.after
        with self._answering() as client:
            return client.append_to_stream(
                append.stream, current_version=expected, events=append.events, timeout=TIMEOUT_S
            )

    def log(self) -> list[RecordedEvent]:
        """Every loan's events in the order of the log."""
        with self._answering() as client:
            return list(
                client.read_all(
                    filter_include=[f"{CATEGORY}-"],
                    filter_by_stream_name=True,
                    filter_by_prefix=True,
                    timeout=READ_TIMEOUT_S,
                )
            )

    def checkpoint(self, connector_id: str) -> int | None:
        """Position of the connector's last checkpoint; None before the first."""
        with self._answering() as client:
            try:
                (last,) = client.get_stream(
                    streams.checkpoints(connector_id), backwards=True, limit=1, timeout=TIMEOUT_S
                )
            except NotFoundError:
                return None
            return int(orjson.loads(last.data)["logPosition"])

    @contextlib.contextmanager
    def _answering(self) -> Iterator[KurrentDBClient]:
        try:
            if self._client is None:
                self._client = KurrentDBClient(self._uri)
            yield self._client
        except KurrentDBClientError as exc:
            raise Unavailable(f"The database does not answer: {exc}.") from exc
