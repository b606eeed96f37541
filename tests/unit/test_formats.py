"""Every format that two releases may share. Whoever changes one reads "To change a format" in CONTRIBUTING.md first."""

from __future__ import annotations

import re

from sinkworker.checkpoint import store
from sinkworker.connectors import lifecycle, protection, registry, vault
from sinkworker.ledger import payload
from sinkworker.ledger.scripts import script
from tasks.app import QUEUE
from tasks.produce import TASK
from tests.releases import PREVIOUS


def test_what_scheduler_and_worker_share_in_redis_changes_together() -> None:
    """A worker is sent nothing that it cannot read, since another format has another queue."""
    (ledger,) = re.findall(r"^local FORMAT = '(\d+)'$", script("takeover"), re.MULTILINE)
    assert (ledger, payload.VERSION, TASK, QUEUE) == ("1", 2, "sinkworker.deliver", "sinkworker")


def test_what_is_in_the_database_has_these_versions() -> None:
    versions = (lifecycle.VERSION, store.VERSION, vault.VERSION, registry.INDEX_VERSION, protection.MAGIC[-1])
    assert versions == (2, 1, 1, 1, 1)
    assert lifecycle.FIRST_VERSION == 1


def test_the_previous_release_is_named_by_its_commit() -> None:
    assert re.fullmatch("[0-9a-f]{8,40}", PREVIOUS)
