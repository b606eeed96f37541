"""What producers put on the wire: a relay before the broker that forwards everything and notes what it has seen."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Callable
from functools import partial

PRODUCE = 0
"""The API key of Kafka's Produce requests."""

_RECORD_ID = re.compile(rb"esdb-record-id.([0-9a-f-]{36})", re.DOTALL)


class Wire:
    """Where connectors find the broker instead of at its own address. Their messages must not be compressed."""

    def __init__(self, broker: str) -> None:
        host, _, port = broker.rpartition(":")
        self._broker = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        # The broker tells its clients where it is; of that only the port is changed, so that no length changes.
        self._told = host.encode() + struct.pack(">i", int(port))
        self._told_instead = host.encode() + struct.pack(">i", self._listener.getsockname()[1])
        self._seen: dict[str, list[str]] = defaultdict(list)
        self._producing: set[tuple[str, int]] = set()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def records(self, client_id: str) -> list[str]:
        """The ids of all records that this client has sent, each once, in the order of their first sending."""
        return list(dict.fromkeys(self._seen[client_id]))

    def producers(self, client_id: str) -> int:
        """How many connections this client has sent records over: one for each process that has."""
        return sum(name == client_id for name, _ in self._producing)

    def close(self) -> None:
        for each in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                broker = socket.create_connection(self._broker)
                self._open += [client, broker]
                threading.Thread(
                    target=self._relay, args=(client, broker, partial(self._note, len(self._open))), daemon=True
                ).start()
                threading.Thread(target=self._relay, args=(broker, client, self._redirect), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, look: Callable[[bytes], bytes]) -> None:
        """Whole frames, as `look` gives them back."""
        with contextlib.suppress(OSError), source.makefile("rb") as stream:
            while len(size := stream.read(4)) == 4:
                frame = look(stream.read(struct.unpack(">i", size)[0]))
                target.sendall(size + frame)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def _note(self, connection: int, request: bytes) -> bytes:
        api_key, _, _, length = struct.unpack_from(">hhih", request)
        if api_key == PRODUCE:
            client_id = request[10 : 10 + length].decode()
            self._seen[client_id] += [each.decode() for each in _RECORD_ID.findall(request)]
            self._producing.add((client_id, connection))
        return request

    def _redirect(self, response: bytes) -> bytes:
        return response.replace(self._told, self._told_instead)
