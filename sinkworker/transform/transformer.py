"""Records through a user's function, many in one call, and the one to blame found where a call does not come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from sinkworker.errors import Undeliverable
from sinkworker.transform.sandbox import Overrun, Rejected, Sandbox, shown

CODE = "transform-failed"
UNUSABLE = Rejected.code
"""Of an error that is the function's with any record."""

HINT = "Correct `transformer:function` and start the connector: it goes on here."

RECORDS_PER_CALL = 1000


class Subject(NamedTuple):
    """What the function's argument is made of, as `driver.js` takes it."""

    value: str
    """As it was written: JSON, or what claims to be."""
    record_id: str
    stream: str
    position: int
    subject: str
    type: int
    headers: str
    """A JSON object of texts."""


class Outcome(NamedTuple):
    """What the function made of a record."""

    value: str
    """Compact JSON."""
    changes: dict[str, Any]
    """What else it changed: `recordId`, `streamId`, `logPosition`, `subject`, `type`, `headers`."""


class Transformer:
    """One function, and the process that runs it: started by the first records. Not for use by several threads."""

    def __init__(self, source: str, timed: Callable[[float, int], None] = lambda _seconds, _records: None) -> None:
        """`timed` is told of every call that came back: seconds for each record, and how many there were."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Called now and then while the function runs."""
        self._source = source
        self._timed = timed
        self._sandbox: Sandbox | None = None
        self._at_once = RECORDS_PER_CALL

    def outcomes(self, subjects: Sequence[Subject]) -> Iterator[Outcome | None]:
        """The outcome of each, in order; None for one whose value is no JSON.

        Raises, once those before it are answered, Undeliverable for one that the function throws at, returns a value
        for, or exceeds its limits with. Raises Transient or Misconfigured for trouble that is no record's fault.
        """
        done = 0
        while done < len(subjects):
            piece = subjects[done : done + self._at_once]
            try:
                sandbox = self._started()
                begun_s = time.monotonic()
                answer = orjson.loads(sandbox.run(orjson.dumps(piece, default=tuple)))
            except Overrun as exc:
                self.close()
                if len(piece) == 1:
                    raise Undeliverable(f"The function {exc}.", hint=HINT, code=CODE) from exc
                # It stays small: the limit is for one record, and a slow function needs it for each.
                self._at_once = max(1, len(piece) // 8)
                continue
            except BaseException:
                self.close()  # it may yet answer this call, when it is asked something else
                raise
            if transformed := len(answer["outcomes"]):
                self._timed((time.monotonic() - begun_s) / transformed, transformed)
            for outcome in answer["outcomes"]:
                yield None if outcome is None else Outcome(outcome[0], outcome[1] or {})
            done += transformed
            if answer["error"] is not None:
                raise Undeliverable(f"The function failed: {shown(answer['error'])}.", hint=HINT, code=CODE)

    def close(self) -> None:
        """End the process; the next records start another."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.close()

    def _started(self) -> Sandbox:
        if self._sandbox is None:
            try:
                self._sandbox = Sandbox(self._source, lambda: self.meanwhile())
            except (Rejected, Overrun) as exc:
                raise Undeliverable(f"The function cannot be used: {exc}.", hint=HINT, code=UNUSABLE) from exc
        return self._sandbox
