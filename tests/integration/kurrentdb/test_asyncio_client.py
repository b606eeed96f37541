"""The asyncio variant of kurrentdbclient, whose gRPC library is another one underneath."""

from __future__ import annotations

import asyncio

from kurrentdbclient import AsyncKurrentDBClient, StreamState

from tests.integration.kurrentdb.events import event, events, new_stream
from tests.integration.kurrentdb.standin import StandIn


def test_append_read_and_subscribe(shared: StandIn) -> None:
    async def scenario() -> list[int]:
        stream = new_stream()
        async with AsyncKurrentDBClient(shared.uri) as client:
            await client.connect()
            await client.append_to_stream(stream, current_version=StreamState.NO_STREAM, events=events(300))
            assert len(await client.get_stream(stream)) == 300
            revisions = []
            async with await client.subscribe_to_stream(stream) as subscription:
                async for received in subscription:
                    revisions.append(received.stream_position)
                    if received.stream_position == 299:
                        await client.append_to_stream(stream, current_version=299, events=event())
                    if received.stream_position == 300:
                        break
            return revisions

    assert asyncio.run(asyncio.wait_for(scenario(), 20)) == list(range(301))
