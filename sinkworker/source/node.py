"""The node of a cluster that a subscription is read from, and when to read from another."""

from __future__ import annotations

import time

from sinkworker.database import Database

LOOK_S = 2.0
"""How often a leader is asked whether a follower is still one of its cluster."""

LEFT = "The subscription was let go of: another node of the cluster is to be read from."


class Node:
    """The node that the URI prefers. A subscription to one that was left by the others stays open, and says nothing."""

    def __init__(self, database: Database) -> None:
        """Raises what `Database` raises."""
        self._leader = database
        self.database = database.preferred()
        """To subscribe with."""
        self._looked_at = time.monotonic()
        try:
            self.endpoint = self.database.endpoint()
        except BaseException:
            self.close()
            raise

    def is_left(self) -> bool:
        """Whether another node leads or, of a node that never did, whether the leader has lost sight of it."""
        if self.database is self._leader:
            return self._leader.has_moved(self.endpoint)
        if time.monotonic() - self._looked_at < LOOK_S:
            return False
        self._looked_at = time.monotonic()
        return not self._leader.sees(self.endpoint)

    def close(self) -> None:
        """Close what was opened for this subscription alone."""
        if self.database is not self._leader:
            self.database.close()
