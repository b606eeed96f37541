"""A development stand-in for KurrentDB: its gRPC Streams service over asyncio, `h2` and one SQLite file.

It answers as a real server does (recorded answers are replayed in the tests), so that a program which works against it
works against the real one, and what a real server refuses does not work here. It is made for development and tests, and
never used where a KurrentDB is configured.

What it lacks, since nothing of ours needs it: other services than Streams, Gossip and ServerFeatures (persistent
subscriptions, projections and the streams they fill, users, operations: `UNIMPLEMENTED`), everything over HTTP/1.1,
access lists of streams (who knows a password may do everything), scavenging, other nodes, compressed requests, and the
message that a subscription fell behind: here none does, since each reads the log at its own pace. A caught-up message
has no time and place, as in the line that the answers were recorded from. How it differs from the recordings is listed
in `tests/integration/kurrentdb/differences.py`.

How the modules build on one another, lowest first:

    wire           gRPC messages in and out of HTTP/2 DATA frames
    errors         the statuses and trailers of a real server
    records        proposed events, and recorded ones in the encoding they are stored and sent in
    retention      what a stream's metadata hides from its readers
    schema         the SQLite file: opening it, and saying what is wrong with it
    appends        what can be asked of the writer, and what it answers
    writer         the one thread that appends: expected versions, idempotence, group commit
    log            reading what is committed, and waking those who wait for more
    filters        which records a subscription or read wants
    call           what a handler sees of the call it answers, and its requests decoded
    reads          finite reads
    subscriptions  catch-up, live, checkpoints
    access         who may call
    gossip         the one member there is
    features       the calls there are
    protocol       requests into our values, answers into responses
    batches        batch append: many appends in one call
    service        the calls, each answered from the log
    connection     HTTP/2: streams, flow control, keep-alive
    server         the listening socket, its connections, an orderly stop
"""
