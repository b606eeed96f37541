"""What metadata hides."""

from __future__ import annotations

import pytest

from sinkworker.local.kurrentdb.retention import DELETED, TICKS_PER_SECOND, Retention, parse_metadata, retention


@pytest.mark.parametrize(
    ("metadata", "last", "first"),
    [
        ({}, 9, 0),
        ({"$maxCount": 3}, 9, 7),
        ({"$maxCount": 100}, 9, 0),
        ({"$tb": 4}, 9, 4),
        ({"$tb": 8, "$maxCount": 3}, 9, 8),
        ({"$tb": 2, "$maxCount": 3}, 9, 7),
        ({"$maxCount": 0}, 9, 0),
        ({"$maxCount": "3", "$tb": True}, 9, 0),
        ({"$maxCount": -1, "$tb": -5}, 9, 0),
    ],
)
def test_the_first_visible_revision(metadata: dict[str, object], last: int, first: int) -> None:
    assert max(0, retention(metadata).first_visible(last)) == first


def test_only_the_greatest_truncation_means_deleted() -> None:
    assert retention({"$tb": DELETED}).deleted
    assert not retention({"$tb": DELETED - 1}).deleted
    assert not retention({}).deleted


def test_age_counts_back_from_now() -> None:
    assert Retention(max_age_s=60).oldest_visible_ticks(100 * TICKS_PER_SECOND) == 40 * TICKS_PER_SECOND
    assert Retention().oldest_visible_ticks(100) == 0


@pytest.mark.parametrize("data", [b"", b"[1]", b"null", b"\xff\xfe", b"{"])
def test_what_is_no_document_says_nothing(data: bytes) -> None:
    assert parse_metadata(data) == {}
