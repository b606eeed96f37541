"""The random name of a deployment, which is all that shares one database. Redis may be lost, it stays."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import orjson
from kurrentdbclient import NewEvent

from sinkworker.connectors import streams
from sinkworker.connectors.lifecycle import Unreadable
from sinkworker.database import Database, WrongRevision
from sinkworker.model import Revision

NAMED = "$sinkworker-deployment-named"
"""Type of the one event."""

VERSION = 1


def deployment_name(database: Database) -> str:
    """The name of the deployment that this database is of (X1). Raises what `Database` raises, Unreadable."""
    event = database.event_at(streams.DEPLOYMENT, Revision(0))
    if event is None:
        data = {"version": VERSION, "time": datetime.now(UTC).isoformat(), "name": uuid4().hex[:12]}
        try:
            database.append(streams.DEPLOYMENT, None, [NewEvent(type=NAMED, data=orjson.dumps(data))])
        except WrongRevision:
            return deployment_name(database)  # another process was faster
        return str(data["name"])
    try:
        return str(orjson.loads(event.data)["name"])
    except (ValueError, KeyError, TypeError) as exc:
        raise Unreadable(f"The first event of the stream {streams.DEPLOYMENT} is damaged: {exc}.") from exc
