"""How a request about a connector is refused. One type for each outcome of contract §1.6, which the API maps."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from sinkworker.errors import Invalid, Misconfigured


class NotFound(Invalid):
    """There is no such connector, or it was deleted."""

    code = "not-found"


class AlreadyExists(Invalid):
    """A living connector has this id."""

    code = "already-exists"


class FailedPrecondition(Invalid):
    """Not in the state that the connector, or this deployment, is in."""

    code = "failed-precondition"


class SecretsUnprotected(FailedPrecondition):
    """A sensitive setting was given, and nothing is there to encrypt it with."""

    code = "secrets-unprotected"


class SecretsUnreadable(Misconfigured):
    """A stored sensitive setting cannot be decrypted here: no token, another one, or the data key is gone."""

    code = "secrets-unreadable"


class InvalidArgument(Invalid):
    """Fields of the request are wrong: every one of them, with every rule that it breaks."""

    code = "invalid-argument"

    def __init__(self, violations: Mapping[str, Sequence[str]]) -> None:
        self.violations = {field: list(texts) for field, texts in violations.items()}
        super().__init__(json.dumps(self.violations, ensure_ascii=False))

    def __str__(self) -> str:
        return " ".join(f"{field}: {text}" for field, texts in self.violations.items() for text in texts)


class InvalidSettings(InvalidArgument):
    """Settings are wrong: `violations` has every fault under the documented key of its setting."""

    code = "invalid-settings"
