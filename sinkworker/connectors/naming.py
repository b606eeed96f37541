"""Pure: which ids and names a connector may have (contract §1.5)."""

from __future__ import annotations

import re

ID_LENGTHS = range(5, 51)
ID_CHARACTERS = "[A-Za-z0-9_-]*"
NAME_LENGTHS = range(3, 51)


def id_faults(connector_id: str) -> list[str]:
    """Every rule that the id breaks."""
    faults = []
    if len(connector_id) not in ID_LENGTHS:
        faults.append(f"must have 5 to 50 characters, {connector_id!r} has {len(connector_id)}")
    if not re.fullmatch(ID_CHARACTERS, connector_id):
        faults.append(f"may have only letters, digits, `_` and `-`, unlike {connector_id!r}")
    return faults


def name_faults(name: str) -> list[str]:
    """Every rule that the name breaks."""
    faults = []
    if len(name) not in NAME_LENGTHS:
        faults.append(f"must have 3 to 50 characters, {name!r} has {len(name)}")
    if not name.strip():
        faults.append("must not be blank")
    return faults
