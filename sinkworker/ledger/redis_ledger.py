"""The ledger's contract kept with Lua: call a script, map its answer. The transitions themselves are in `scripts/`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import redis
from redis.commands.core import Script

from sinkworker.errors import Misconfigured, OtherRelease, Stale
from sinkworker.ledger import contract
from sinkworker.ledger.contract import (
    Activation,
    Batch,
    Claim,
    Closed,
    Damaged,
    Granted,
    OlderFormat,
    Reaped,
    Survey,
    Taken,
    Tenure,
    Watermark,
)
from sinkworker.ledger.redis_client import KEEPS_ALL, eviction_policies
from sinkworker.ledger.redis_errors import translated
from sinkworker.ledger.scripts import script
from sinkworker.model import Cursor, Epoch, Generation, LaneNumber, Layout, Position, SettingsId

TRANSITIONS = (
    "takeover",
    "dispatch",
    "quiesce",
    "close",
    "claim",
    "next",
    "ack",
    "release",
    "complain",
    "fail",
    "condemn",
    "reap",
    "watermark",
)
KEYS = ("state", "lanes", "batches", "payloads", "progress")

REFUSALS = {
    b"EPOCH": "The epoch is not current.",
    b"CLOSED": "The epoch is over.",
    b"ENDING": "The epoch is ending.",
    b"COUNTER": "The ledger counts other dispatches than this scheduler made.",
    b"LOST": "The ledger has lost a key.",
    b"LANES": "The ledger has other lanes than this scheduler.",
    b"ACTIVATION": "The activation is over.",
    b"CLAIM": "The lane is no longer held under this claim.",
    b"HEAD": "The batch is not the head of its lane.",
}
"""Every word that a script may answer instead of OK, but for FORMAT. Each means Stale."""


_P = ParamSpec("_P")
_T = TypeVar("_T")


def _readable(transition: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turns what an answer that makes no sense comes to into Damaged."""

    @functools.wraps(transition)
    def read(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return transition(*args, **kwargs)
        except (ValueError, TypeError, AttributeError, KeyError) as exc:
            raise Damaged(f"The ledger in Redis is damaged: {exc}.") from exc

    return read


SCRIPT_FAULTS = ("WRONGTYPE", "attempt to ", "bad argument ")
"""What Redis and Lua say of a script that met values which no transition leaves."""


class RedisLedger:
    """One connector's ledger in Redis, for any number of processes.

    `redis` must hand out bytes (`decode_responses=False`): payloads are binary. A client that repeats a call after a
    lost connection does no harm: a transition that already happened answers Stale.
    """

    def __init__(self, redis: redis.Redis, connector_id: str, lease_ms: int) -> None:
        self._redis = redis
        self._lease_ms = lease_ms
        self._connector_id = connector_id
        self.keys = {name: f"sink:{{{connector_id}}}:{name}" for name in KEYS}
        self.wake_channel = f"sink:{{{connector_id}}}:wake"
        """Published to when a lane was acknowledged or let go: scheduler and coordinator need not poll."""
        self._scripts: dict[str, Script] = {name: redis.register_script(script(name)) for name in TRANSITIONS}

    # -- the scheduler's transitions

    def takeover(self, tenure: Tenure, checkpoint: Cursor, progress: Mapping[LaneNumber, Cursor]) -> Taken:
        self._check_eviction()
        args: list[str | int] = [
            tenure.epoch,
            tenure.generation,
            tenure.layout.encode(),
            tenure.layout.lanes,
            tenure.settings,
            int(tenure.discards),
            checkpoint.encode(),
        ]
        for lane, cursor in progress.items():
            args += (lane, cursor.encode())
        try:
            return self._take_over(*args)
        except Damaged:
            # Redis holds no truth: what nobody can read is as good as lost (R1).
            with translated():
                self._redis.unlink(*self.keys.values())
            return self._take_over(*args)

    @_readable
    def _take_over(self, *args: str | int) -> Taken:
        return Taken(counter=0, progress=_progress(self._call("takeover", *args)))

    def _check_eviction(self) -> None:
        # R1: what an evicting Redis loses would be noticed, but it would lose it again and again.
        with translated():
            policies = eviction_policies(self._redis)
        for policy in policies - {KEEPS_ALL}:
            raise Misconfigured(
                f"Redis may evict the connector's state: its maxmemory-policy is {policy}.",
                hint="Set maxmemory-policy to noeviction, or use a Redis of its own.",
            )

    @_readable
    def dispatch(self, epoch: Epoch, counter: int, frontier: Cursor, batches: Sequence[Batch]) -> Survey:
        args: list[str | int | bytes] = [epoch, counter, frontier.encode(), contract.FIRST_RESEND_MS]
        for batch in batches:
            size = len(batch.payload)
            about = f"{batch.count} {size} {batch.before.encode()} {batch.last.encode()}"
            args += (batch.lane, about, batch.payload)
        after, size, held, failure, limit, going_on, trouble, mailboxes, activations = self._call("dispatch", *args)
        return Survey(
            counter=after,
            mailboxes={LaneNumber(lane): depth for lane, depth in _pairs(mailboxes)},
            in_flight_bytes=size,
            activations=_activations(activations),
            held=held,
            failure=failure.decode(),
            limit=Cursor.decode(limit.decode()) if limit else None,
            going_on=going_on,
            trouble=trouble.decode(),
        )

    def advance(self, epoch: Epoch, counter: int, frontier: Cursor) -> Survey:
        return self.dispatch(epoch, counter, frontier, ())

    @_readable
    def quiesce(self, epoch: Epoch) -> int:
        return int(self._call("quiesce", epoch)[0])

    @_readable
    def close(self, epoch: Epoch) -> Closed:
        watermark, failure, *progress = self._call("close", epoch)
        return Closed(Cursor.decode(watermark.decode()), _progress(progress), failure.decode())

    # -- the worker's transitions

    @_readable
    def claim(self, epoch: Epoch, activation: Activation, token: str) -> Granted:
        generation, layout, settings = self._call(
            "claim", epoch, activation.lane, activation.number, token, self._lease_ms
        )
        return Granted(
            Claim(epoch, activation.lane, token),
            Generation(generation.decode()),
            Layout.decode(layout.decode()),
            SettingsId(settings.decode()),
        )

    @_readable
    def next(self, claim: Claim, after: int, limit: int) -> list[Batch]:
        answer = self._call("next", *self._held(claim), after, limit)
        return _batches(claim.lane, answer)

    def ack(self, claim: Claim, number: int) -> None:
        self._call("ack", *self._held(claim), self.wake_channel, 0, 0, number)

    @_readable
    def ack_and_next(self, claim: Claim, numbers: Sequence[int], after: int, limit: int) -> list[Batch]:
        if not numbers:
            return self.next(claim, after, limit)
        answer = self._call("ack", *self._held(claim), self.wake_channel, after, limit, *numbers)
        return _batches(claim.lane, answer)

    @_readable
    def release(self, claim: Claim) -> Activation | None:
        (number,) = self._call(
            "release", claim.epoch, claim.lane, claim.token, contract.FIRST_RESEND_MS, self.wake_channel
        )
        return Activation(claim.lane, number) if number else None

    def complain(self, claim: Claim, trouble: str) -> None:
        self._call("complain", claim.epoch, claim.lane, claim.token, trouble, self.wake_channel)

    def fail(self, claim: Claim, delay_ms: int, trouble: str = "") -> None:
        self._call("fail", claim.epoch, claim.lane, claim.token, delay_ms, trouble, self.wake_channel)

    def condemn(self, claim: Claim, reason: str, done: Cursor | None = None, at: Position | None = None) -> None:
        reached = Cursor.BEGINNING if done is None else done
        limit = Cursor.BEGINNING if at is None else Cursor(at, at)
        cursors = reached.encode(), limit.encode()
        self._call("condemn", claim.epoch, claim.lane, claim.token, reason, self.wake_channel, *cursors)

    def _held(self, claim: Claim) -> tuple[int, int, str, int]:
        return claim.epoch, claim.lane, claim.token, self._lease_ms

    # -- the coordinator's transitions

    @_readable
    def reap(self) -> Reaped:
        activations, expired, epoch = self._call(
            "reap", contract.FIRST_RESEND_MS, contract.LONGEST_RESEND_MS, self._lease_ms
        )
        return Reaped(
            _activations(activations),
            tuple(LaneNumber(int(lane)) for lane in expired.split()),
            Epoch(int(epoch)) if epoch else None,
        )

    def watermark(self) -> Watermark | None:
        try:
            return self._watermark()
        except Damaged:
            return None

    @_readable
    def _watermark(self) -> Watermark | None:
        word, *answer = self._ask("watermark")
        if word == b"LOST":
            return None
        self._check_format(word, answer)
        epoch, generation, cursor, frontier, acked_records, batches, size, held = answer
        return Watermark(
            epoch=Epoch(int(epoch)),
            generation=Generation(generation.decode()),
            cursor=Cursor.decode(cursor.decode()),
            frontier=Cursor.decode(frontier.decode()),
            acked_records=acked_records,
            in_flight_batches=batches,
            in_flight_bytes=size,
            held=held,
        )

    # -- how a script is asked

    def _call(self, transition: str, *args: str | int | bytes) -> list[Any]:
        """What follows OK in a transition's answer. Raises OtherRelease, Stale for every other word."""
        word, *answer = self._ask(transition, *args)
        self._check_format(word, answer)
        if word != b"OK":
            raise Stale(f"{REFUSALS[word]} ({transition})")
        return answer

    def _check_format(self, word: bytes, answer: Sequence[bytes]) -> None:
        """Raises OtherRelease for the word FORMAT, ValueError where the ledger's is garbage."""
        if word != b"FORMAT":
            return
        found, known = map(int, answer)
        what = f"The ledger of {self._connector_id} in Redis has format {found}, this release knows {known}."
        if found < known:
            raise OlderFormat(what, hint="A scheduler of this release has to take over.")
        raise OtherRelease(
            what,
            hint="Run the newer release that wrote it, or delete the keys "
            f"sink:{{{self._connector_id}}}:* in Redis: the connector then goes on from its checkpoint.",
        )

    def _ask(self, transition: str, *args: str | int | bytes) -> list[Any]:
        with translated():
            try:
                answer: list[Any] = self._scripts[transition](keys=list(self.keys.values()), args=args)
            except redis.ResponseError as exc:
                if not any(fault in str(exc) for fault in SCRIPT_FAULTS):
                    raise
                raise Damaged(f"The ledger in Redis is damaged: {exc}.") from exc
        return answer


def _pairs(text: bytes) -> Iterator[tuple[int, int]]:
    numbers = [int(word) for word in text.split()]
    return zip(numbers[::2], numbers[1::2], strict=True)


def _activations(text: bytes) -> tuple[Activation, ...]:
    return tuple(Activation(LaneNumber(lane), number) for lane, number in _pairs(text))


def _progress(flat: Sequence[bytes]) -> dict[LaneNumber, Cursor]:
    lanes, cursors = flat[::2], flat[1::2]
    return {LaneNumber(int(lane)): Cursor.decode(cursor.decode()) for lane, cursor in zip(lanes, cursors, strict=True)}


def _batches(lane: LaneNumber, flat: Sequence[bytes]) -> list[Batch]:
    batches = []
    for about, payload in zip(flat[::2], flat[1::2], strict=True):
        number, count, _, before, last = about.decode().split(" ")
        batches.append(Batch(lane, Cursor.decode(before), Cursor.decode(last), int(count), payload, number=int(number)))
    return batches
