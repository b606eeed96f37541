"""Pure: the names of our streams in the database."""

from __future__ import annotations

INDEX = "$sinkworker"
"""Names the id of every connector that was ever created, in that order."""

DEPLOYMENT = "$sinkworker-deployment"
"""Names this deployment, once and for all, to brokers that others may use too (X1)."""

CHECKPOINT_TYPE = "$conn-ctrl-checkpoint"
"""Type of a checkpoint event (contract §7.1)."""

CHECKPOINTS_KEPT = 10


def of_connector(connector_id: str) -> str:
    """The connector's own events."""
    return f"{INDEX}/{connector_id}"


def data_key(connector_id: str, key_id: str) -> str:
    """One key, wrapped, that a connector's sensitive settings are encrypted with."""
    return f"{of_connector(connector_id)}/keys/{key_id}"


def checkpoints(connector_id: str) -> str:
    """The connector's positions, where the original has them."""
    return f"$connectors/{connector_id}/checkpoints"


def of_native_connector(connector_id: str) -> str:
    """Where the server's own plugin keeps a connector of that id. Never written by us: it would run the sink itself."""
    return f"$connectors/{connector_id}"
