"""Pure: which ids and names a connector may have (contract §1.5)."""

from __future__ import annotations

import re

_ID_CHARACTERS = re.compile(r"[A-Za-z0-9_-]*")


def id_faults(connector_id: str) -> list[str]:
    """Every rule that the id breaks."""
    faults = []
    if not 5 <= len(connector_id) <= 50:
        faults.append(f"must have 5 to 50 characters, {connector_id!r} has {len(connector_id)}")
    if not _ID_CHARACTERS.fullmatch(connector_id):
        faults.append(f"may have only letters, digits, `_` and `-`, unlike {connector_id!r}")
    return faults


def name_faults(name: str) -> list[str]:
    """Every rule that the name breaks."""
    faults = []
    if not 3 <= len(name) <= 50:
        faults.append(f"must have 3 to 50 characters, {name!r} has {len(name)}")
    if not name.strip():
        faults.append("must not be blank")
    return faults
