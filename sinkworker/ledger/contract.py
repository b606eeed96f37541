"""What the ledger of one connector promises: its values, its transitions, every answer they may give.

All shared state between scheduler, workers and coordinator lives here, and every transition is atomic. Two
implementations keep this contract: `memory.MemoryLedger` with a dict, `redis_ledger.RedisLedger` with Lua scripts.

Any call may raise `Unavailable`: the store did not answer and the outcome is unknown. `Stale` means that somebody else
owns what was asked about, or that the store lost data; the call changed nothing. `takeover`, `claim` and `watermark`
raise `OtherRelease` where the store holds what another release wrote in a format of its own; to other calls that is
`Stale`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sinkworker.errors import OtherRelease, Stale
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Layout, Position, SettingsId


class Damaged(Stale):
    """What the store holds of the connector is not as any transition leaves it. A takeover discards it."""

    code = "ledger-damaged"


class OlderFormat(OtherRelease):
    """The store holds what an older release left. A takeover discards it."""


FIRST_RESEND_MS = 3_000
"""A lane that waits unclaimed is sent again after this long, then after twice as long each time."""

LONGEST_RESEND_MS = 60_000


@dataclass(frozen=True, slots=True)
class Tenure:
    """One epoch's claim on a connector: what a scheduler brings to a takeover."""

    epoch: Epoch
    generation: Generation
    layout: Layout
    settings: SettingsId
    """The settings that this tenure runs with."""
    discards: bool = False
    """A person named the position that the generation began at: what a ledger has of another one does not count, not
    even epochs that seem newer, which are of a database that was restored since (R8)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one lane, stored and acknowledged as one."""

    lane: LaneNumber
    before: Cursor
    """Just before the first record: reading from here gives the batch again."""
    last: Cursor
    count: int
    """Of its records; without any it is there to have the lane's mark committed again (X5)."""
    payload: bytes
    number: int = 0
    """Given by the ledger at dispatch: 1, 2, 3, … in the lane within the epoch, so (epoch, lane, number) is its id."""


@dataclass(frozen=True, slots=True)
class Activation:
    """The right to claim a lane once. A later number makes an earlier one stale."""

    lane: LaneNumber
    number: int


Enqueue = Callable[[str, Epoch, Sequence[Activation]], None]
"""Sends one task for these activations of a connector. Raises Unavailable; the reaper makes up for a lost one."""

EnqueueAt = Callable[[str, str, Epoch, Sequence[Activation]], bool]
"""The same for one worker alone, by the name of its home. Answers False, and sends none, where another task waits."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a lane. The random token tells two holders of one activation apart (R2)."""

    epoch: Epoch
    lane: LaneNumber
    token: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A lane was handed over, with what its records have to be produced with."""

    claim: Claim
    generation: Generation
    layout: Layout
    settings: SettingsId


@dataclass(frozen=True, slots=True)
class Survey:
    """How the epoch stands, as the scheduler sees it after dispatch or advance."""

    counter: int
    """The counter that this scheduler has to present next (R1)."""
    mailboxes: Mapping[LaneNumber, int]
    """Batches in each mailbox that is not empty."""
    in_flight_bytes: int
    activations: Sequence[Activation] = ()
    """Lanes that became non-empty and need an activation each."""
    held: int = 0
    """Lanes that workers hold."""
    failure: str = ""
    """Why the connector cannot go on, as JSON; empty while all is well (P5)."""
    limit: Cursor | None = None
    """With a failure: what is handed out ends before it."""
    going_on: int = 0
    """Lanes that workers hold, or have to claim."""
    trouble: str = ""
    """What a lane waits for, as JSON, since it complained or failed and has not acknowledged anything; else empty."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A takeover's outcome."""

    counter: int
    progress: Mapping[LaneNumber, Cursor]
    """Per lane, the last record known to be delivered in this generation and layout: a replay skips up to it."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """What the coordinator sees: every record at or before `cursor` is delivered (P1)."""

    epoch: Epoch
    generation: Generation
    cursor: Cursor
    frontier: Cursor
    """Every matching record at or before it has at least been dispatched."""
    acked_records: int
    """Records acknowledged since the takeover of this epoch."""
    in_flight_batches: int
    in_flight_bytes: int
    held: int


@dataclass(frozen=True, slots=True)
class Reaped:
    """What the reaper found: lanes to activate, and how many of them a silent worker had held."""

    activations: Sequence[Activation] = ()
    expired: Sequence[LaneNumber] = ()
    epoch: Epoch | None = field(default=None, compare=False)
    """The epoch that the activations are of; None where there is none."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of an epoch: what the final checkpoint and the stored progress are made of (R9)."""

    watermark: Cursor
    progress: Mapping[LaneNumber, Cursor] = field(default_factory=dict)
    failure: str = ""


class Ledger(Protocol):
    """The ledger of one connector."""

    def takeover(self, tenure: Tenure, checkpoint: Cursor, progress: Mapping[LaneNumber, Cursor]) -> Taken:
        """Begin an epoch: empty mailboxes, frontier = checkpoint. Called by the scheduler that the epoch belongs to.

        Lane progress survives only within its generation and layout (R3); the farther of what is kept and what is
        given (stored in KurrentDB at the last stop) counts. Raises Stale unless the epoch is newer than the ledger's,
        or the tenure discards what a ledger of another generation knows. A damaged ledger counts as an empty one.
        Raises Full where there is no room.
        """

    def dispatch(self, epoch: Epoch, counter: int, frontier: Cursor, batches: Sequence[Batch]) -> Survey:
        """Append batches to their mailboxes and advance the frontier, all or nothing.

        The caller promises that every matching record at or before `frontier` is done, in a mailbox or in `batches`.
        Raises Stale when the epoch is not current, or when the ledger is not as this scheduler left it (R1): its
        counter differs, a key is gone, or the epoch is closed. Raises Full where there is no room for the batches:
        nothing happened, and the same dispatch may be tried again.
        """

    def advance(self, epoch: Epoch, counter: int, frontier: Cursor) -> Survey:
        """`dispatch` without batches: for the frontier alone, and to see how the mailboxes stand."""

    def claim(self, epoch: Epoch, activation: Activation, token: str) -> Granted:
        """Hand the lane to this worker, under a random token of its making that it uses once.

        Raises Stale unless the activation is current and the lane free, and where a failure leaves nothing to hand out.
        The same token again (the reply was lost) is granted again.
        """

    def next(self, claim: Claim, after: int, limit: int) -> list[Batch]:
        """Up to `limit` batches behind number `after` (0: from the head), and a renewed claim. Raises Stale if lost.

        After a failure only those that begin before its limit.
        """

    def ack(self, claim: Claim, number: int) -> None:
        """Record that Kafka has confirmed every record of the batch at the head of the mailbox; renews the claim.

        Durable once returned. Raises Stale, and changes nothing, for a lost claim or any batch but the head (a repeated
        ack included): let go of the lane. On Unavailable the outcome is unknown: call again.
        """

    def ack_and_next(self, claim: Claim, numbers: Sequence[int], after: int, limit: int) -> list[Batch]:
        """`ack` of several batches, in order from the head, and the `next` that follows: in one step, or not at all."""

    def release(self, claim: Claim) -> Activation | None:
        """Free the lane; an answer is the activation to send for what its mailbox still holds. Raises Stale if lost."""

    def complain(self, claim: Claim, trouble: str) -> None:
        """Say, as JSON, what the lane waits for; forgotten when it acknowledges something. Raises Stale if lost."""

    def fail(self, claim: Claim, delay_ms: int, trouble: str = "") -> None:
        """Free the lane after trouble, and complain of it; the reaper activates it again after the delay.

        Raises Stale if lost.
        """

    def condemn(self, claim: Claim, reason: str, done: Cursor | None = None, at: Position | None = None) -> None:
        """Free the lane because it cannot go on, with the reason as JSON (P5). Raises Stale if lost.

        The lane is not handed out again in this epoch. `at`: where the record stands that the reason is about. Other
        lanes go on up to there, and of several reasons the one of the first record is kept; a reason that is about no
        record stops them all.

        `done`: everything of the lane up to there is confirmed, within the batch at its head, too. The lane's progress
        says so; the watermark stays before that batch (P1).
        """

    def reap(self) -> Reaped:
        """Free lanes whose claim was not renewed, and send activations again that nobody claimed, with back-off."""

    def watermark(self) -> Watermark | None:
        """The watermark, in one step; None from a ledger that is empty or has lost a key."""

    def quiesce(self, epoch: Epoch) -> int:
        """Hand out nothing more; batches already handed out may still be acknowledged. Answers how many lanes are held.

        Raises Stale when the epoch is not current, or when a key is gone: the holders could not be counted then.
        """

    def close(self, epoch: Epoch) -> Closed:
        """End the epoch: from now on every worker's call is stale. A second call answers the same.

        Raises Stale when the epoch is not current, or when a key is gone.
        """
