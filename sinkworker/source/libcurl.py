"""A subscription over libcurl: at the database's speed, in the thread that uses it.

libcurl speaks HTTP/2 (nghttp2) and hands over the bytes of the response, in which each gRPC message has a prefix of
five bytes; how the call ended stands in its trailers. While nobody reads, PINGs stay unanswered too, and the database
hangs up after some 22 s: a subscription that rests ends itself before, and is made again from the last record.
"""

from __future__ import annotations

import base64
import binascii
import select
import ssl
import time
from urllib.parse import unquote

import certifi
import pycurl
from kurrentdbclient.protos.v1 import streams_pb2

from sinkworker.bell import SocketBell
from sinkworker.database import Database, Endpoint
from sinkworker.errors import LIMITS, Exhausted, Fatal, KurrentDBUnavailable, SinkworkerError
from sinkworker.model import Cursor
from sinkworker.source import requests
from sinkworker.source.events import Item, items
from sinkworker.source.filters import ServerFilter
from sinkworker.source.framing import Splitter, frame
from sinkworker.source.node import LEFT, Node
from sinkworker.source.subscription import LetGo

PATH = "/event_store.client.streams.Streams/Read"

CONFIRMATION_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0

LONGEST_REST_S = 5.0
"""The database pings after 11 s of silence, and hangs up 11 s later where nobody answers."""

READ_BYTES = 256 << 10
"""Taken from the socket at once."""

READ_AHEAD_BYTES = 1 << 20
"""With so much waiting to be handed out, the socket waits (P6)."""

KEEP_ALIVE_S = 10
"""How often TCP itself asks a silent peer whether it is still there: one whose machine vanished would be waited for."""

_UNVERIFIED = {pycurl.E_PEER_FAILED_VERIFICATION, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CERTPROBLEM}

_STATUS_OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""The gRPC status where something between us and the database answered (gRPC's http-grpc-status-mapping.md)."""
_UNKNOWN = 2
_OK = 0


class LibcurlSubscription:
    """Reads a subscription through libcurl. See `sinkworker.source.subscription.Subscription`."""

    def __init__(self, database: Database, wanted: ServerFilter, after: Cursor, bell: SocketBell) -> None:
        """Subscribe, and await the database's confirmation. Raises what `Database` raises, and Exhausted."""
        self._database = database
        self._bell = bell
        self._splitter = Splitter()
        self._chunks: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._sockets: dict[int, int] = {}
        self._timer_at: float | None = None
        self._end: SinkworkerError | None = None
        self._read_at = time.monotonic()
        try:
            self._multi = pycurl.CurlMulti()
        except pycurl.error as exc:  # which opens a pair of sockets for itself, and says no more than that it failed
            raise Exhausted(f"libcurl has no room on this machine: {exc}.", hint=LIMITS) from exc
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._node = Node(database)
        self._node.close()  # the connection is our own
        self._transfer: pycurl.Curl | None = self._request(self._node.endpoint, requests.subscription(wanted, after))
        self._multi.add_handle(self._transfer)
        try:
            self._await_confirmation()
        except BaseException:
            self.close()
            raise

    def read(self, limit: int) -> list[Item]:
        self._read_at = time.monotonic()
        if self._end is None and self._node.is_left():
            self._finish(LetGo(LEFT))
        if self._splitter.waiting < READ_AHEAD_BYTES:
            self._work(0.0)
        while messages := self._splitter.take(limit):
            if found := items(messages):
                return found
        if self._end is not None:
            raise self._end
        return []

    def wait(self, timeout_s: float) -> None:
        if self._end is None:
            self._work(timeout_s)

    def rest(self) -> None:
        if self._end is None and time.monotonic() - self._read_at > LONGEST_REST_S:
            self._finish(LetGo("The subscription was let go of while there was no room for what it brings."))

    def close(self) -> None:
        self._finish(KurrentDBUnavailable("The subscription is closed."))
        self._multi.close()

    # -- the request

    def _request(self, endpoint: Endpoint, message: bytes) -> pycurl.Curl:
        headers = [
            "content-type: application/grpc",
            "te: trailers",
            "expect:",
            *(f"{name}: {value}" for name, value in endpoint.metadata),
        ]
        if endpoint.authorization is not None:
            headers.append(f"authorization: {endpoint.authorization.reveal()}")
        curl = pycurl.Curl()
        curl.setopt(pycurl.URL, f"{'https' if endpoint.tls else 'http'}://{endpoint.target}{PATH}")
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        curl.setopt(pycurl.HTTPPROXYTUNNEL, 1)  # the only way for HTTP/2 through a proxy
        curl.setopt(pycurl.HTTPHEADER, headers)
        curl.setopt(pycurl.USERAGENT, "sinkworker")
        curl.setopt(pycurl.POST, 1)
        curl.setopt(pycurl.POSTFIELDS, frame(message))
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(CONNECT_TIMEOUT_S * 1000))
        curl.setopt(pycurl.TCP_KEEPALIVE, 1)
        curl.setopt(pycurl.TCP_KEEPIDLE, KEEP_ALIVE_S)
        curl.setopt(pycurl.TCP_KEEPINTVL, KEEP_ALIVE_S)
        curl.setopt(pycurl.BUFFERSIZE, READ_BYTES)
        curl.setopt(pycurl.WRITEFUNCTION, self._chunks.append)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        if endpoint.tls:
            _trust(curl, endpoint)
        return curl

    def _await_confirmation(self) -> None:
        deadline = time.monotonic() + CONFIRMATION_TIMEOUT_S
        while not (messages := self._splitter.take(1)):
            if self._end is not None:
                raise self._end
            left = deadline - time.monotonic()
            if left <= 0:
                raise KurrentDBUnavailable(
                    f"KurrentDB at {self._database.name} did not confirm the subscription in time."
                )
            self._bell.clear()  # what it rings for is looked at when reading begins
            self._work(left)
        if streams_pb2.ReadResp.FromString(messages[0]).WhichOneof("content") != "confirmation":
            raise Fatal(f"KurrentDB at {self._database.name} did not confirm the subscription.")

    # -- the connection

    def _work(self, timeout_s: float) -> None:
        """Wait for the socket or the bell, at most so long, and let libcurl take in what has come."""
        if self._end is not None:
            return
        if self._timer_at is not None:
            timeout_s = min(timeout_s, max(0.0, self._timer_at - time.monotonic()))
        ready = self._bell.wait_with(self._sockets, timeout_s)
        if self._timer_at is not None and time.monotonic() >= self._timer_at:
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        for descriptor, mask in ready:
            self._multi.socket_action(descriptor, _for_curl(mask))
        if self._chunks:
            self._splitter.feed(b"".join(self._chunks))
            self._chunks.clear()
        _, completed, failed = self._multi.info_read()
        if completed:
            self._finish(self._status())
        elif failed:
            _, code, message = failed[0]
            self._finish(self._failure(code, message))

    def _finish(self, end: SinkworkerError) -> None:
        """The call is over: `end` is what `read` raises after the last message."""
        if self._end is None:
            self._end = end
        if self._transfer is not None:
            self._multi.remove_handle(self._transfer)
            self._transfer.close()
            self._transfer = None

    def _status(self) -> SinkworkerError:
        """What the trailers say, or the answer of something that is no gRPC server."""
        assert self._transfer is not None
        stated = self._headers.get("grpc-status", "")
        if stated.isdigit():
            code, message = int(stated), unquote(self._headers.get("grpc-message", ""))
        else:
            http = self._transfer.getinfo(pycurl.RESPONSE_CODE)
            code, message = _STATUS_OF_HTTP.get(http, _UNKNOWN), f"HTTP status {http} without a gRPC status"
        if code == _OK:
            return KurrentDBUnavailable(f"KurrentDB at {self._database.name} ended the subscription.")
        return self._database.failure("go on with the subscription", code, message, self._trailers())

    def _failure(self, code: int, message: str) -> SinkworkerError:
        if "grpc-status" in self._headers:
            return self._status()  # it ended the call before it closed the connection
        said = message.rstrip(".") or f"libcurl error {code}"
        if code in _UNVERIFIED:
            return self._database.untrusted(said)
        if not self._headers:
            return KurrentDBUnavailable(f"KurrentDB at {self._database.name} did not answer: {said}.")
        return KurrentDBUnavailable(f"The connection to KurrentDB at {self._database.name} was lost: {said}.")

    def _trailers(self) -> tuple[tuple[str, str | bytes], ...]:
        values = self._headers.items()
        return tuple((name, _decoded(value) if name.endswith("-bin") else value) for name, value in values)

    # -- what libcurl calls

    def _on_header(self, line: bytes) -> None:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            self._headers[name.strip().lower()] = value.strip()

    def _on_socket(self, what: int, descriptor: int, _multi: pycurl.CurlMulti, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._sockets.pop(descriptor, None)
            return
        wanted = select.POLLIN if what & pycurl.POLL_IN else 0
        self._sockets[descriptor] = wanted | (select.POLLOUT if what & pycurl.POLL_OUT else 0)

    def _on_timer(self, timeout_ms: int) -> None:
        self._timer_at = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000


def _trust(curl: pycurl.Curl, endpoint: Endpoint) -> None:
    """Whom to trust, and who we are: as gRPC has it, what the URI names or else the system's certificates."""
    system = ssl.get_default_verify_paths()
    if endpoint.root_certificates is not None:
        curl.setopt(pycurl.CAINFO_BLOB, endpoint.root_certificates)
    elif system.cafile or system.capath:
        if system.cafile:
            curl.setopt(pycurl.CAINFO, system.cafile)
        if system.capath:
            curl.setopt(pycurl.CAPATH, system.capath)
    else:
        curl.setopt(pycurl.CAINFO, certifi.where())
    if endpoint.certificate_chain is not None and endpoint.private_key is not None:
        curl.setopt(pycurl.SSLCERT_BLOB, endpoint.certificate_chain)
        curl.setopt(pycurl.SSLKEY_BLOB, endpoint.private_key.reveal())


def _for_curl(mask: int) -> int:
    """What a socket is ready for, in libcurl's words. A broken one is for it to find out."""
    ready = pycurl.CSELECT_IN if mask & (select.POLLIN | select.POLLHUP) else 0
    ready |= pycurl.CSELECT_OUT if mask & select.POLLOUT else 0
    return ready | (pycurl.CSELECT_ERR if mask & (select.POLLERR | select.POLLNVAL) else 0)


def _decoded(value: str) -> bytes:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error:
        return b""
