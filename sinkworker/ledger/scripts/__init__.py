"""The Lua of the ledger's transitions, one per file, and how it is loaded."""

from __future__ import annotations

from functools import cache
from importlib import resources


@cache
def script(transition: str) -> str:
    """The text of one transition as Redis gets it: what all of them share, then its own."""
    folder = resources.files(__name__)
    return (folder / "_shared.lua").read_text("utf-8") + (folder / f"{transition}.lua").read_text("utf-8")
