"""Every intended difference between the stand-in and the server that the recordings come from, each with its reason.

The tests that replay recordings forgive these and nothing else, and fail where one of them occurs no more. What a real
server can do and the stand-in cannot is in the docstring of `sinkworker.local.kurrentdb`.
"""

from __future__ import annotations

# Fields of messages, wherever they are.
FIELDS = {
    "commit_position": "positions count the bytes of a log, and these are two; compared by the event that is there",
    "prepare_position": "as commit_position",
    "created": "the time of the append",
    "subscription_id": "chosen at random for each subscription",
    "instance_id": "chosen at random at each start",
    "time_stamp": "the time of the gossip",
    "port": "where the server listens",
}

# Fields of events that a server appends by itself: the marks of a deleted stream, and a tombstone.
FIELDS_OF_OWN_EVENTS = {"id": "chosen at random by the server, where a client chooses it otherwise"}

HEADERS = {
    "server": "names the server's software",
    "date": "the time of the answer",
}

# Headers whose value a real server sends with a blank before it, which HTTP/2 forbids (RFC 9113, 8.2.1), and so `h2`.
STRIPPED_HEADERS = ("grpc-message",)

# What announces itself in SETTINGS, by its number.
SETTINGS = {
    8: "ENABLE_CONNECT_PROTOCOL: for WebSockets over HTTP/2, which the stand-in has not",
}

# Those of the protocol's defaults that `h2` spells out; a real server leaves out what is the default.
DEFAULT_SETTINGS = {1: 4096, 2: 0, 5: 16384, 8: 0}

# The last stream that a stopping server's GOAWAY names. A real server names the last it has seen, 1 in the recording,
# and gRPC by itself makes calls with later numbers a second time. Where that finds no server, gRPC 1.85 can lose the
# end of the call: its caller waits for ever, in tests and demos that stop the stand-in all the time.
LAST_STREAM_OF_GOAWAY = 2**31 - 1
