"""What a stream's metadata says about which of its events its readers still see. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

# A truncate-before of this value marks a stream as deleted, until the next append sets it to that append's revision.
DELETED = 2**63 - 1

TICKS_PER_SECOND = 10_000_000


@dataclass(frozen=True)
class Retention:
    """`$maxCount`, `$maxAge` and `$tb` of a stream. They hide events from the stream's readers, not from `$all`."""

    max_count: int | None = None
    max_age_s: int | None = None
    truncate_before: int = 0

    @property
    def deleted(self) -> bool:
        """The stream was deleted and nothing was appended since."""
        return self.truncate_before == DELETED

    def first_visible(self, last_revision: int) -> int:
        """The smallest revision that count and truncation leave visible."""
        if self.max_count is None:
            return self.truncate_before
        return max(self.truncate_before, last_revision - self.max_count + 1)

    def oldest_visible_ticks(self, now_ticks: int) -> int:
        """Events created before this are hidden by age."""
        if self.max_age_s is None:
            return 0
        return now_ticks - self.max_age_s * TICKS_PER_SECOND


KEEP_ALL = Retention()

# A metadata stream answers with its latest event only.
METADATA_STREAM = Retention(max_count=1)


def parse_metadata(data: bytes) -> dict[str, Any]:
    """The metadata document of a stream; anything that is not a JSON object says nothing."""
    try:
        document = json.loads(data)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def retention(metadata: dict[str, Any]) -> Retention:
    """The limits in a metadata document; a value that is no limit counts as absent."""
    truncate_before = _limit(metadata.get("$tb"))
    return Retention(
        max_count=_limit(metadata.get("$maxCount")) or None,
        max_age_s=_limit(metadata.get("$maxAge")) or None,
        truncate_before=truncate_before or 0,
    )


def _limit(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
