"""KurrentDB in, records and marks out: the one interface to a subscription, whatever reads it from its connection."""

from __future__ import annotations

from typing import Protocol

from sinkworker.errors import Unavailable
from sinkworker.source.events import Item


class LetGo(Unavailable):
    """We ended the subscription ourselves, since nobody could take in what it brought: nothing is wrong."""

    code = "let-go"


class Subscription(Protocol):
    """A catch-up subscription that the database has confirmed. One thread uses it."""

    def read(self, limit: int) -> list[Item]:
        """What has come in, up to `limit` items, without waiting; nothing only where nothing has come in.

        After the last item of a subscription that ended, raises why: Unavailable (subscribe again from the last
        cursor; LetGo where we ended it ourselves), NoBoundary (the cursor is no record's), Misconfigured.
        """

    def wait(self, timeout_s: float) -> None:
        """Return when `read` has something, when the bell given to `subscribe` rings, or after so many seconds."""

    def rest(self) -> None:
        """To be called instead of `read`, now and then, while nothing can be taken in (P6).

        A subscription that rests for long may end itself: the database hangs up on a connection that nobody reads.
        """

    def close(self) -> None:
        """Let go of it. What was not read is dropped."""
