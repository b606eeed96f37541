"""A cluster of the KurrentDB stand-in, for tests: some nodes, of which one leads, or none.

Each node is a process with a data file of its own. A follower copies the leader's file, and so may lag behind it. Who
leads is the test's choice: a new leader first copies all that the last one acknowledged, so nothing of that is ever
lost. A node that does not lead answers as a real one (`ClusterVNodeController`, `RpcExceptions` of the server): with
the leader's address to writes and to what requires the leader, `Server Is Not Ready` where it knows none; a
subscription that is live stays so.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from kurrentdbclient.protos.google.rpc import code_pb2
from kurrentdbclient.protos.v1 import gossip_pb2, shared_pb2, streams_pb2

from sinkworker.local.kurrentdb.access import Access
from sinkworker.local.kurrentdb.appends import Outcome, Request
from sinkworker.local.kurrentdb.call import Call, next_request, only_request
from sinkworker.local.kurrentdb.connection import Connection, KeepAlive
from sinkworker.local.kurrentdb.errors import CallFailed, Code, Status
from sinkworker.local.kurrentdb.log import Log
from sinkworker.local.kurrentdb.protocol import fail_batch
from sinkworker.local.kurrentdb.records import encoded, structured_uuid
from sinkworker.local.kurrentdb.schema import connect, open_data_file
from sinkworker.local.kurrentdb.service import Service
from sinkworker.local.kurrentdb.wire import unframe
from sinkworker.local.kurrentdb.writer import Writer
from tests.ports import free_port
from tests.processes import clean_environment

REPLICATION_S = 0.01
"""How late a follower is that does not lag."""

LARGEST_MARK_BYTES = 64
"""A caught-up message is shorter, and hardly any event is."""

NOT_READY = Status(Code.UNAVAILABLE, "Server Is Not Ready")
NOT_FOUND = 5
"""A status that a node without a cluster never gives."""


def not_leader(port: int) -> Status:
    leader = (("leader-endpoint-host", "127.0.0.1"), ("leader-endpoint-port", str(port)))
    return Status(NOT_FOUND, "Leader info available", (("exception", "not-leader"), *leader))  # type: ignore[arg-type]


@dataclass(frozen=True)
class View:
    """What a node believes of its cluster."""

    members: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    """By port: the state, and whether it is alive."""
    leader: int | None = None
    """Its port."""
    copies: str | None = None
    """The data file that the node replicates, if any; a new leader once, before it leads."""


# -- one node, in its process


class _Writer(Writer):
    """Refuses what comes before the node leads, and after it has led."""

    refusal: Status | None = NOT_READY

    def submit(self, request: Request) -> Future[Outcome]:
        if self.refusal is not None:
            raise CallFailed(self.refusal)
        return super().submit(request)


class _UntilLive(Call):
    """A read or subscription that requires the leader: each of its pages does, and nothing once it is live."""

    def __init__(self, call: Call, node: _Node) -> None:
        self._call, self._node, self._live = call, node, False

    @property
    def headers(self) -> Mapping[str, str]:
        return self._call.headers

    @property
    def local_address(self) -> tuple[str, int]:
        return self._call.local_address

    async def receive(self) -> bytes | None:
        return await self._call.receive()

    async def send(self, messages: Iterable[bytes]) -> None:
        messages = list(messages)
        if not self._live:
            self._node.insist_on_leading()
            self._live = any(_is_caught_up(message) for message in messages)
        await self._call.send(messages)


def _is_caught_up(message: bytes) -> bool:
    if len(message) > LARGEST_MARK_BYTES:
        return False
    return streams_pb2.ReadResp.FromString(unframe(message)).WhichOneof("content") == "caught_up"


class _Node:
    def __init__(self, data: Path, port: int) -> None:
        self._data, self._port, self._id = data, port, uuid.uuid4()
        self._loop = asyncio.get_running_loop()
        self._lock = open_data_file(data)
        self._view = View()
        self._copied: sqlite3.Connection | None = None
        self._write_from_now_on()
        self._log = Log(data, self._writer.end)
        self._service = Service(self._log, self._writer, Access())

    @property
    def _leads(self) -> bool:
        return self._view.leader == self._port

    @property
    def _refusal(self) -> Status | None:
        if self._leads:
            return None
        return NOT_READY if self._view.leader is None else not_leader(self._view.leader)

    def insist_on_leading(self) -> None:
        if self._refusal is not None:
            raise CallFailed(self._refusal)

    def see(self, view: View) -> None:
        """Take its place. A leader that is one no more has then answered all that it took."""
        led, self._view = self._leads, view
        self._writer.refusal = self._refusal
        self._copy_from(view.copies)
        if led != self._leads:
            self.replicate()
            self._writer.close()
            self._write_from_now_on()
            self._log.grown(self._writer.end)
            self._service = Service(self._log, self._writer, Access())

    def _write_from_now_on(self) -> None:
        """A writer reads once, when it is made, how far the file goes."""
        self._writer = _Writer(self._data, self._committed)
        self._writer.refusal = self._refusal
        self._writer.start()

    def _committed(self, end: int) -> None:
        self._loop.call_soon_threadsafe(self._log.grown, end)

    def _copy_from(self, data: str | None) -> None:
        if self._copied is not None:
            self._copied.close()
            self._copied = None
        if data is not None:
            self._copied = connect(self._data)
            self._copied.execute("ATTACH ? AS leader", (data,))

    def replicate(self) -> None:
        """Copy what the leader's file has and this one has not."""
        if (own := self._copied) is None:
            return
        (last,) = own.execute("SELECT coalesce(max(position), -1) FROM main.events").fetchone()
        (until,) = own.execute("SELECT coalesce(max(position), -1) FROM leader.events").fetchone()
        if until <= last:
            return
        own.execute("BEGIN IMMEDIATE")
        own.execute(
            "INSERT INTO main.streams SELECT * FROM leader.streams"
            " WHERE id > (SELECT coalesce(max(id), 0) FROM main.streams)"
        )
        own.execute(
            "INSERT INTO main.events SELECT * FROM leader.events WHERE position > ? AND position <= ?", (last, until)
        )
        own.execute("COMMIT")
        self._log.grown(until + 1)

    async def follow(self) -> None:
        while True:
            if not self._leads:
                self.replicate()
            await asyncio.sleep(REPLICATION_S)

    async def answer(self, call: Call) -> None:
        service, _, method = call.headers.get(":path", "").removeprefix("/").partition("/")
        if service.endswith("Gossip"):
            await only_request(call, shared_pb2.Empty)
            await call.send([encoded(self._gossip())])
        elif method == "Read" and call.headers.get("requires-leader") == "true":
            await self._service.answer(_UntilLive(call, self))
        elif method == "BatchAppend" and self._refusal is NOT_READY:
            while (request := await next_request(call, streams_pb2.BatchAppendReq)) is not None:
                response = streams_pb2.BatchAppendResp(correlation_id=request.correlation_id)
                fail_batch(response, code_pb2.OK, NOT_READY.message, Empty())
                await call.send([encoded(response)])
        else:
            await self._service.answer(call)

    def _gossip(self) -> gossip_pb2.ClusterInfo:
        """Every member, the dead ones too."""
        members = [
            gossip_pb2.MemberInfo(
                instance_id=structured_uuid(self._id),
                time_stamp=time.time_ns() // 100,
                state=gossip_pb2.MemberInfo.VNodeState.Value(state),
                is_alive=alive,
                http_end_point=gossip_pb2.EndPoint(address="127.0.0.1", port=int(port)),
            )
            for port, (state, alive) in self._view.members.items()
        ]
        return gossip_pb2.ClusterInfo(members=members)


async def _serve(data: Path, port: int) -> None:
    """Serve, and take a view from each line of standard input, until that ends."""
    loop = asyncio.get_running_loop()
    node = _Node(data, port)
    following = asyncio.create_task(node.follow())
    # a connection asks its service for nothing but an answer
    await loop.create_server(lambda: Connection(node, KeepAlive()), "127.0.0.1", port)  # type: ignore[arg-type]
    views = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(views), sys.stdin)
    _say_done()
    while line := await views.readline():
        node.see(View(**json.loads(line)))
        _say_done()
    following.cancel()


def _say_done() -> None:
    sys.stdout.write("done\n")
    sys.stdout.flush()


# -- the cluster, in the test's process


class Member:
    """One node as the test has it: its process, its place."""

    def __init__(self, data: Path) -> None:
        self.data, self.port = data, free_port()
        self.state = "Follower"
        self.lags = False
        self.cut_off = False
        self._process: subprocess.Popen[str] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.data), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean_environment(),
        )

    def see(self, view: View) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(view)) + "\n")
        self._process.stdin.flush()
        self.await_done()

    def await_done(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()
            self._process.wait()
            self._process = None


class KurrentDBCluster:
    """Some nodes, the first of which leads once it is made."""

    def __init__(self, folder: Path, nodes: int = 3) -> None:
        self.members = [Member(folder / f"node-{number}.db") for number in range(nodes)]
        self.leader: Member | None = None
        self._last_leader = self.members[0]
        for member in self.members:
            member.start()
        for member in self.members:
            member.await_done()
        self.elect(self.members[0])

    @property
    def targets(self) -> list[str]:
        return [f"127.0.0.1:{member.port}" for member in self.members]

    def uri(self, **options: Any) -> str:
        query = "".join(f"&{name}={value}" for name, value in options.items())
        return f"kurrentdb://{','.join(self.targets)}?tls=false{query}"

    @property
    def followers(self) -> list[Member]:
        return [member for member in self.members if member.alive and not member.cut_off and member is not self.leader]

    def elect(self, leader: Member) -> None:
        """That node leads, with all that the last leader acknowledged; the others follow it."""
        last, self._last_leader, self.leader = self._last_leader, leader, leader
        for member in self.members:
            member.state = "Leader" if member is leader else "Follower" if member.alive else "Unknown"
        if last is not leader:
            self._tell(last)
            self._tell(leader, copies=last)
        self._tell(*self.members)

    def depose(self) -> None:
        """An election begins: nobody leads, and each node knows it."""
        self.leader = None
        for member in self.members:
            member.state = "Unknown"
        self._tell(*self.members)

    def kill(self, member: Member) -> None:
        """kill -9. That a follower has died its leader sees; that the leader has, only an election tells."""
        member.kill()
        if member is not self.leader:
            self._tell(*self.members)

    def revive(self, member: Member) -> None:
        """It comes back, as a follower."""
        member.start()
        member.await_done()
        member.state = "Follower"
        self._tell(*self.members)

    @contextmanager
    def lagging(self, *members: Member) -> Iterator[None]:
        """Inside, these followers get nothing new from the leader."""
        self._set(members, lags=True)
        try:
            yield
        finally:
            self._set(members, lags=False)

    @contextmanager
    def cut_off(self, member: Member) -> Iterator[None]:
        """Inside, clients reach the node and the other nodes do not: it knows of no leader, and gets nothing new."""
        self._set([member], cut_off=True)
        try:
            yield
        finally:
            self._set([member], cut_off=False)

    def destroy(self) -> None:
        for member in self.members:
            member.kill()

    def _set(self, members: Iterable[Member], **flags: bool) -> None:
        for member in members:
            for name, value in flags.items():
                setattr(member, name, value)
        self._tell(*self.members)

    def _tell(self, *members: Member, copies: Member | None = None) -> None:
        """What each of these nodes believes by now."""
        for member in members:
            if member.alive:
                member.see(self._view_of(member, copies or self.leader))

    def _view_of(self, member: Member, copies: Member | None) -> View:
        if member.cut_off:
            return View({str(each.port): ("Unknown", each is member) for each in self.members})
        members = {
            str(each.port): ("Unknown", False) if each.cut_off else (each.state, each.alive or each is self.leader)
            for each in self.members
        }
        source = None if copies is None or copies is member or member.lags else str(copies.data)
        return View(members, None if self.leader is None else self.leader.port, source)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
