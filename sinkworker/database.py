"""The database as we use it: a thin adapter over `kurrentdbclient`. Its errors become ours here, once.

Every call may be made from any thread, has a timeout for each of its (at most two) attempts, and finds its way back by
itself when the server returns. Nothing connects before the first call. Of a cluster the leader is asked, whatever node
the URI prefers: what a follower answers may be old. Only subscriptions go to the preferred node.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import grpc
import grpc.aio
import grpc.experimental
from kurrentdbclient import KurrentDBClient, NewEvent, RecordedEvent, StreamState
from kurrentdbclient import exceptions as theirs
from kurrentdbclient.client import autoreconnect, retrygrpc
from kurrentdbclient.common import GrpcStreamers
from kurrentdbclient.connection import KurrentDBConnection
from kurrentdbclient.connection_spec import NODE_PREFERENCE_LEADER
from kurrentdbclient.gossip import ClusterMember, GossipService
from kurrentdbclient.protos.v1 import gossip_pb2
from kurrentdbclient.streams import handle_streams_rpc_error

from sinkworker.config import Secret, without_password
from sinkworker.errors import (
    Fatal,
    Invalid,
    KurrentDBUnavailable,
    KurrentDBUntrusted,
    Misconfigured,
    SinkworkerError,
    Stale,
    Unavailable,
)
from sinkworker.model import Cursor, Position, Revision

TIMEOUT_S = 5.0
"""Of each attempt of a call. The client makes a second one where the first failed on the way."""

PAGE = 1000
"""Events asked for in one call when a whole stream is read, so that no timeout covers more than these."""


class WrongRevision(Stale):
    """The stream does not end where the append expected it to: somebody else wrote. Nothing was appended."""

    code = "wrong-revision"

    def __init__(self, message: str, actual: Revision | None) -> None:
        super().__init__(message)
        self.actual = actual
        """The stream's last revision; None where it does not exist."""


class NoBoundary(Fatal):
    """The position is no record boundary of this log: it was never handed out by this database."""

    code = "no-record-boundary"
    exit_code = 3


class ServerFault(Unavailable):
    """The server failed at this very call, though it answers: the call may be what it cannot do."""

    code = "server-fault"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as the database keeps it."""

    id: str
    type: str
    data: bytes
    metadata: bytes
    stream: str
    revision: Revision
    commit: Position
    prepare: Position
    recorded_at: datetime | None

    @property
    def cursor(self) -> Cursor:
        """Just after this event."""
        return Cursor(self.commit, self.prepare, self.revision, self.id)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the database is at this moment and how to come in, for a reader that makes a connection of its own."""

    target: str
    """HOST:PORT of the node that the client is connected to: the preferred one of a cluster."""
    tls: bool
    root_certificates: bytes | None
    """Whom to trust (PEM); None for the system's own."""
    certificate_chain: bytes | None
    private_key: Secret | None
    """Who we are (PEM), where the URI names a certificate."""
    authorization: Secret | None
    """The header's value. Never sent over a connection without TLS, as the client has it."""
    metadata: tuple[tuple[str, str], ...]
    """Further headers of every call."""


class Database:
    """One connection to the database `uri`, shared by whoever needs it in this process."""

    def __init__(self, uri: Secret, *, timeout_s: float = TIMEOUT_S, heeds_preference: bool = False) -> None:
        """`heeds_preference`: ask the node that the URI prefers, not the leader. See `preferred`."""
        self._uri = uri
        self._asked = uri.reveal() if heeds_preference else _without_preference(uri.reveal())
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The address as it may be shown: without its password."""
        return without_password(self._uri.reveal())

    def preferred(self) -> Database:
        """What subscriptions go to: this one, unless the URI prefers other nodes than the leader and one is alive.

        Then another one, connected anew so that the choice is too; the caller closes it. What it lacks of the log may
        be in this one.
        """
        if self._asked == self._uri.reveal():
            return self
        found = Database(self._uri, timeout_s=self._timeout_s, heeds_preference=True)
        try:
            found._connected()
        except KurrentDBUnavailable:
            return self
        return found

    def has_moved(self, endpoint: Endpoint) -> bool:
        """Whether the client has left that node for another: it leads no more, or is cut off from those that do."""
        client = self._client
        return client is not None and client.connection_target != endpoint.target

    def sees(self, endpoint: Endpoint) -> bool:
        """Whether that node is an alive one of the cluster, as the node that is asked has it; true if none answers."""
        try:
            with self.translated("ask who is in the cluster") as client:
                members = client.living_members()
        except KurrentDBUnavailable:
            return True
        return len(members) <= 1 or endpoint.target in members  # a lone node may be known to itself by another name

    def endpoint(self) -> Endpoint:
        """Where the client is connected. Raises Misconfigured for a bad URI, Unavailable where none answers."""
        client = self._connected()
        spec = client.connection_spec
        options = spec.options
        credentials = f"{spec.username}:{spec.password}" if options.tls and spec.username and spec.password else None
        return Endpoint(
            target=client.connection_target,
            tls=options.tls,
            root_certificates=client.root_certificates,
            certificate_chain=client.certificate_chain,
            private_key=None if client.private_key is None else Secret(client.private_key.decode()),
            authorization=None if credentials is None else Secret(f"Basic {b64encode(credentials.encode()).decode()}"),
            metadata=(
                ("connection-name", options.connection_name),
                ("requires-leader", str(options.node_preference == NODE_PREFERENCE_LEADER).lower()),
            ),
        )

    def failure(
        self, what: str, code: int, details: str, trailers: Sequence[tuple[str, str | bytes]]
    ) -> SinkworkerError:
        """The status that a call of another reader ended with, in our terms; `what` completes "did not …"."""
        status = next((each for each in grpc.StatusCode if each.value[0] == code), grpc.StatusCode.UNKNOWN)
        ended = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details=details)
        fault = handle_streams_rpc_error(ended)
        fault.__cause__ = ended
        return self._ours(fault, what)

    def untrusted(self, why: str) -> KurrentDBUntrusted:
        """What it means that TLS failed for that reason."""
        return KurrentDBUntrusted(
            f"No TLS connection to KurrentDB at {self.name}: {why.rstrip('.')}.",
            hint="Check the database's certificate, and tls, tlsCaFile and userCertFile in the URI.",
        )

    def append(self, stream: str, expected: Revision | None, events: Sequence[NewEvent]) -> Position:
        """Append all of `events` or none, at the end of a stream whose last revision is `expected` (None: no stream).

        Durable on return. Raises WrongRevision when the stream ends elsewhere, and Invalid for more at once than the
        database takes. After Unavailable the outcome is unknown; the same events (by id) with the same expectation may
        be appended again, which writes them once.
        """
        with self.translated(f"append to {stream}") as client:
            try:
                position = client.append_to_stream(
                    stream,
                    # one event goes over the unary call, whose faults the server reports more precisely
                    events=events[0] if len(events) == 1 else events,
                    current_version=StreamState.NO_STREAM if expected is None else expected,
                    timeout=self._timeout_s,
                )
            except theirs.WrongCurrentVersionError as exc:
                actual = exc.actual_version
                raise WrongRevision(
                    f"Stream {stream} does not end at revision {'none' if expected is None else expected}.",
                    Revision(actual) if isinstance(actual, int) else None,
                ) from exc
        return Position(position)

    def read_stream(self, stream: str, after: Revision | None = None) -> Iterator[StoredEvent]:
        """Every event of the stream after that revision (None: from its first), oldest first. No stream, no events."""
        position = 0 if after is None else after + 1
        while True:
            page = self._get_stream(stream, stream_position=position, limit=PAGE)
            yield from page
            if len(page) < PAGE:
                return
            position = page[-1].revision + 1

    def last_event(self, stream: str) -> StoredEvent | None:
        """The newest event of the stream, None where it has none."""
        return next(iter(self._get_stream(stream, backwards=True, limit=1)), None)

    def event_at(self, stream: str, revision: Revision) -> StoredEvent | None:
        """The event of exactly this revision, None where it is gone or was never written."""
        events = self._get_stream(stream, stream_position=revision, limit=1)
        return next((event for event in events if event.revision == revision), None)

    def record_at(self, position: Position) -> StoredEvent | None:
        """The event of the log at exactly this commit position, None where a scavenge removed it.

        Raises NoBoundary when the position is none that this log ever had. Compare the id, and the prepare position
        where the cursor's differs from its commit: events of an old explicit transaction share a commit position.
        """
        events = self._get_all(commit_position=position, limit=1)
        return next((event for event in events if event.commit == position), None)

    def head(self) -> Position:
        """Position of the last event of the log, system events included; `Cursor.BEGINNING.commit` in an empty one."""
        return self.head_cursor().commit

    def head_cursor(self) -> Cursor:
        """Just after the last event of the log, system events included."""
        return next((event.cursor for event in self._get_all(backwards=True, limit=1)), Cursor.BEGINNING)

    def set_max_count(self, stream: str, count: int) -> None:
        """Let the database keep only the newest `count` events of the stream. A second call changes nothing.

        Keeps the rest of the stream's metadata: in a deleted stream that is what hides its former events.
        """
        while True:
            with self.translated(f"read the metadata of {stream}") as client:
                metadata, version = client.get_stream_metadata(stream, timeout=self._timeout_s)
            if metadata.get("$maxCount") == count:
                return
            with self.translated(f"set the metadata of {stream}") as client:
                try:
                    client.set_stream_metadata(
                        stream,
                        metadata={**metadata, "$maxCount": count},
                        current_version=version,
                        timeout=self._timeout_s,
                    )
                except theirs.WrongCurrentVersionError:
                    continue  # somebody else set metadata in between: merge with theirs
            return

    def delete_stream(self, stream: str) -> None:
        """Soft-delete the stream: reads find none, a later append goes on with its numbers. Repeatable."""
        if self.last_event(stream) is None:
            return
        with self.translated(f"delete {stream}") as client:
            try:
                client.delete_stream(stream, current_version=StreamState.ANY, timeout=self._timeout_s)
            except (theirs.NotFoundError, theirs.StreamIsDeletedError):
                return  # somebody else was faster

    def close(self) -> None:
        """Close the connection, and with it every subscription made over it. Later calls raise Unavailable."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _get_stream(self, stream: str, **options: Any) -> list[StoredEvent]:
        with self.translated(f"read {stream}") as client:
            try:
                return [_stored(event) for event in client.get_stream(stream, timeout=self._timeout_s, **options)]
            except theirs.NotFoundError:
                return []

    def _get_all(self, **options: Any) -> list[StoredEvent]:
        with self.translated("read $all") as client:
            # no excludes: the client would leave out system events, on which positions may rest
            return [_stored(event) for event in client.get_all(filter_exclude=(), timeout=self._timeout_s, **options)]

    def _connected(self) -> _Client:
        with self._lock:
            if self._closed:
                raise KurrentDBUnavailable(f"The connection to {self.name} is closed.")
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> _Client:
        try:
            return _Client(self._asked)
        except ValueError as exc:
            # Not `from exc`: the client's message quotes the URI, password included.
            problem = str(exc).split(self._asked)[0].rstrip(": ")
            raise Misconfigured(f"The address {self.name} is not understood: {problem}.") from None
        except OSError as exc:  # a certificate or key named in the URI
            raise Misconfigured(f"The address {self.name} names a file that cannot be read: {exc}.") from exc
        except theirs.KurrentDBClientError as exc:
            raise self._ours(exc, "connect") from exc

    @contextmanager
    def translated(self, what: str) -> Iterator[_Client]:
        """Inside, what the client raises becomes ours; `what` completes "did not …". For subscriptions, too."""
        try:
            yield self._connected()
        except theirs.KurrentDBClientError as exc:
            raise self._ours(exc, what) from exc
        except OSError as exc:  # of this machine: no descriptors left, a client's `sleep` under libfaketime
            raise KurrentDBUnavailable(f"KurrentDB at {self.name} could not be asked to {what}: {exc}.") from exc
        except ValueError as exc:
            if "closed" not in str(exc):
                raise
            # gRPC's way to say that another thread closed the channel
            raise KurrentDBUnavailable(f"The connection to {self.name} is closed.") from exc

    def _ours(self, exc: theirs.KurrentDBClientError, what: str) -> SinkworkerError:
        """The same fault in our terms, split by what the caller can do."""
        detail = _detail(exc)
        kind = _kind(exc)
        match exc:
            case theirs.UnauthenticatedError():
                return Misconfigured(
                    f"KurrentDB at {self.name} refused the credentials.", hint="Check the user and password of the URI."
                )
            case theirs.AccessDeniedError():
                return Misconfigured(
                    f"KurrentDB at {self.name} did not let us {what}: access denied.",
                    hint="The user needs the rights of $admins: checkpoints are written to system streams.",
                )
            case theirs.SSLError():
                return self.untrusted(detail)
            case theirs.InvalidCommitPositionError():
                return NoBoundary(f"KurrentDB at {self.name} could not {what}: the position is no record boundary.")
            case theirs.UnknownError() | theirs.GrpcError() if "invalid position" in detail.lower() or (
                "InvalidPosition" in detail
            ):
                return NoBoundary(f"KurrentDB at {self.name} could not {what}: the position is no record boundary.")
            case _ if kind == "maximum-append-size-exceeded" or isinstance(exc, theirs.MaximumAppendSizeExceededError):
                return Invalid(
                    f"What there is to {what} is larger than KurrentDB at {self.name} takes at once: {detail}."
                )
            case _ if kind == "stream-deleted" or isinstance(
                exc, theirs.StreamIsDeletedError | theirs.StreamTombstonedError
            ):
                return Misconfigured(
                    f"KurrentDB at {self.name} could not {what}: the stream was tombstoned.",
                    hint="It can never be read or written again: choose another stream where a filter names it, "
                    "another connector id where it is the connector's own.",
                )
            case theirs.LeaderNotFoundError():
                return KurrentDBUnavailable(f"KurrentDB at {self.name} did not {what}: no node of the cluster leads.")
            case theirs.NodeIsNotLeaderError():
                return KurrentDBUnavailable(
                    f"KurrentDB at {self.name} did not {what}: this node does not lead its cluster.",
                    hint="Where this stays so, name every node in the URI, so that the leader is found.",
                )
            case _ if "Server Is Not Ready" in detail or "Server Is Busy" in detail:
                return KurrentDBUnavailable(f"KurrentDB at {self.name} did not {what}: it is not ready.")
            case theirs.ExceptionThrownByHandlerError():
                return ServerFault(f"KurrentDB at {self.name} failed to {what}: {detail}.")
            case theirs.GrpcError() if _refused_as_asked(exc):
                return Misconfigured(f"KurrentDB at {self.name} refused to {what}: {detail}.")
            case (
                theirs.GrpcError()
                | theirs.DeadlineExceededError()
                | theirs.DiscoveryFailedError()
                | theirs.AbortedByServerError()
                | theirs.UnknownError()
            ):
                return KurrentDBUnavailable(f"KurrentDB at {self.name} did not {what}: {detail}.")
            case _:
                return Fatal(f"KurrentDB at {self.name} refused to {what}: {detail}.")


class _Client(KurrentDBClient):
    """The client with the channel options, the timeouts and the eye for dead nodes that it lacks."""

    def _construct_grpc_channel(self, grpc_target: str, grpc_options: tuple[Any, ...] = ()) -> grpc.Channel:
        options = (
            *grpc_options,
            # A subscription over gRPC's consumer thread costs five times the CPU for each event.
            (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1),
            # gRPC's own back-off grows to two minutes; a database that is back should be found sooner.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 1000),
            ("grpc.max_reconnect_backoff_ms", 2000),
        )
        return super()._construct_grpc_channel(grpc_target, options)

    def _construct_esdb_connection(self, grpc_target: str, grpc_options: tuple[Any, ...] = ()) -> KurrentDBConnection:
        channel = self._construct_grpc_channel(grpc_target, grpc_options)
        connection = KurrentDBConnection(channel, grpc_target, self.connection_spec)
        connection.gossip = _GossipOfTheLiving(channel, self.connection_spec, GrpcStreamers())
        return connection

    def _discover_preferred_node(self) -> KurrentDBConnection:
        # A node that is cut off from the others answers too, and knows of no leader: the next time ask another first.
        targets = cast(list[str], self.connection_spec.targets)
        targets.append(targets.pop(0))
        return super()._discover_preferred_node()

    def living_members(self) -> list[str]:
        """HOST:PORT of each."""
        members = self.gossip.read(TIMEOUT_S, self._call_metadata, self._call_credentials)
        return [f"{member.address}:{member.port}" for member in members]

    def _get_commit_position(self, **options: Any) -> int:
        # `reconnect` asks for it without a timeout: a server that accepts and never answers would hang us for ever
        options["timeout"] = options.get("timeout") or TIMEOUT_S
        return super()._get_commit_position(**options)

    @retrygrpc
    @autoreconnect
    def get_all(self, **options: Any) -> tuple[RecordedEvent, ...]:
        """`read_all`, read to its end inside the retries: the client's own returns before the server was asked."""
        with self.read_all(**options) as events:
            return tuple(events)


class _GossipOfTheLiving(GossipService):
    """Leaves out the members that are dead: a cluster names them for half an hour."""

    @staticmethod
    def _construct_cluster_members(cluster_info: gossip_pb2.ClusterInfo) -> Sequence[ClusterMember]:
        alive = [member for member in cluster_info.members if member.is_alive]
        return GossipService._construct_cluster_members(gossip_pb2.ClusterInfo(members=alive))


def _without_preference(uri: str) -> str:
    """The same address with no word about which node of a cluster to ask; the leader, then."""
    address, mark, query = uri.partition("?")
    kept = [option for option in query.split("&") if not _prefers_another(option.lower())]
    return address + mark + "&".join(kept)


def _prefers_another(option: str) -> bool:
    name, _, value = option.partition("=")
    return name == "nodepreference" and value != NODE_PREFERENCE_LEADER


def _stored(event: RecordedEvent) -> StoredEvent:
    return StoredEvent(
        id=str(event.id),
        type=event.type,
        data=event.data,
        metadata=event.metadata,
        stream=event.stream_name,
        revision=Revision(event.stream_position),
        commit=Position(event.commit_position),
        prepare=Position(event.prepare_position),
        recorded_at=event.recorded_at,
    )


def _detail(exc: theirs.KurrentDBClientError) -> str:
    """What the server or gRPC said, in one line without the call's dump."""
    call = _call(exc)
    said = str(exc) if call is None else call.details()
    text = (said or "").partition("<_")[0].strip(" \n:")
    return (text or type(exc).__name__).splitlines()[0].rstrip(".")


def _kind(exc: theirs.KurrentDBClientError) -> str:
    """The server's own name of what is wrong, where it gave one; the client knows only some of them."""
    call = _call(exc)
    trailers = call.trailing_metadata() if call is not None else None
    return next((str(value) for key, value in trailers or () if key == "exception"), "")


def _refused_as_asked(exc: theirs.KurrentDBClientError) -> bool:
    """Whether the server says that the request itself is wrong: asking again changes nothing."""
    call = _call(exc)
    return call is not None and call.code() is grpc.StatusCode.INVALID_ARGUMENT


def _call(exc: theirs.KurrentDBClientError) -> grpc.Call | grpc.aio.AioRpcError | None:
    """The call that failed. The client raises its errors `from None` or from themselves; the context knows more."""
    for origin in (exc.__cause__, exc.__context__):
        if isinstance(origin, grpc.Call | grpc.aio.AioRpcError):
            return origin
    return None
