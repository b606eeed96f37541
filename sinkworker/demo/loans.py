"""Pure: the demo's events, loan requests on their way through a bank, one stream for each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from kurrentdbclient import NewEvent

from sinkworker.model import Revision

CATEGORY = "LoanRequest"
LARGEST_APPEND = 20
AUTOMATIC_FROM = 600
"""A credit score from which nobody has to look at the request."""

NAMES = ("Amina Diallo", "Björn Ólafsson", "Chen Wei", "Dolores Núñez", "Émile Zola", "Farah Haddad", "Gül Şahin")
BRANCHES = ("north", "south", "harbour", "old-town")


@dataclass(frozen=True, slots=True)
class Append:
    """Some events that go to one stream at once."""

    stream: str
    after: Revision | None
    """Revision of the stream's last event; None: there is no stream yet."""
    events: tuple[NewEvent, ...]


class LoanBook:
    """Tells so many loans' stories, interleaved; the same again for the same seed, but for the ids of the events."""

    def __init__(self, loans: int, *, seed: int = 1) -> None:
        self._random = random.Random(seed)  # noqa: S311  # made-up figures, no secrets
        self._loans = [_Loan(number, self._random) for number in range(1, loans + 1)]

    def appends(self, events: int) -> Iterator[Append]:
        """So many events, in the order in which they are to be appended. Every loan gets one before any gets two."""
        left = events
        for loan in self._loans[:events]:
            yield loan.proceed(1)
            left -= 1
        while left:
            size = min(left, self._random.randint(1, LARGEST_APPEND))
            yield self._random.choice(self._loans).proceed(size)
            left -= size


class _Loan:
    """One loan: requested, checked, approved by a machine or a person, paid out, paid back for ever."""

    def __init__(self, number: int, figures: random.Random) -> None:
        self._id = f"{number:06d}"
        self._name = figures.choice(NAMES)
        self._branch = figures.choice(BRANCHES)
        self._amount = figures.randrange(1_000, 90_000, 500)
        self._score = figures.randint(400, 850)
        self._told = 0

    def proceed(self, count: int) -> Append:
        """The next so many events of this loan."""
        after = Revision(self._told - 1) if self._told else None
        return Append(f"{CATEGORY}-{self._id}", after, tuple(self._next() for _ in range(count)))

    def _next(self) -> NewEvent:
        kind, body = self._step(self._told)
        metadata = {"$correlationId": f"loan-{self._id}", "branch": self._branch, "step": str(self._told)}
        self._told += 1
        return NewEvent(
            type=kind,
            data=orjson.dumps({"loanRequestId": self._id, **body}),
            metadata=orjson.dumps(metadata),
            content_type="application/json",
        )

    def _step(self, number: int) -> tuple[str, dict[str, Any]]:
        automatic = self._score >= AUTOMATIC_FROM
        match number:
            case 0:
                return "LoanRequested", {"applicant": self._name, "amount": self._amount, "currency": "EUR"}
            case 1:
                return "CreditChecked", {"score": self._score}
            case 2 if automatic:
                return "LoanAutomaticallyApproved", {"score": self._score}
            case 2:
                return "LoanManuallyApproved", {"approvedBy": f"{self._branch}-desk", "note": "Income is proven."}
            case 3:
                return "LoanPaidOut", {"amount": self._amount}
            case _:
                return "InstalmentPaid", {"number": number - 3, "amount": round(self._amount / 48, 2)}
