"""Where checkpoints fall while a filtered subscription catches up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sinkworker.local.kurrentdb.filters import Filter
from sinkworker.local.kurrentdb.subscriptions import CatchUpCheckpoints, Checkpoint, FilterOptions

FILTER = Filter(by_stream=False, accepts=lambda _: True)


def run(window: int, multiplier: int, matches: list[bool]) -> tuple[list[tuple[int, Checkpoint]], Checkpoint]:
    """The checkpoints over records at 100, 200, …, each with the position after which it was sent; and the last."""
    checkpoints = CatchUpCheckpoints(FilterOptions(FILTER, window, multiplier), Checkpoint(0), 0)
    sent = []
    for number, match in enumerate(matches, start=1):
        checkpoint = checkpoints.look_at(number * 100, match)
        if checkpoint is not None:
            sent.append((number * 100, checkpoint))
    return sent, checkpoints.caught_up()


def test_a_page_without_match_is_marked_at_its_start() -> None:
    sent, last = run(3, 1, [False] * 8)
    assert sent == [(300, Checkpoint(0)), (600, Checkpoint(400))]
    assert last == Checkpoint(700)


def test_a_page_with_matches_is_marked_at_the_last() -> None:
    sent, last = run(3, 1, [True, True, False, False, False, False, False, True])
    assert sent == [(300, Checkpoint(200, 200)), (600, Checkpoint(400))]
    assert last == Checkpoint(800, 800)


def test_the_multiplier_counts_pages() -> None:
    sent, _ = run(2, 3, [False] * 13)
    assert sent == [(600, Checkpoint(500)), (1200, Checkpoint(1100))]


@given(st.integers(1, 9), st.integers(1, 4), st.lists(st.booleans(), max_size=80))
def test_no_checkpoint_passes_a_match_that_was_not_sent(window: int, multiplier: int, matches: list[bool]) -> None:
    sent, last = run(window, multiplier, matches)
    for after, checkpoint in [*sent, (len(matches) * 100, last)]:
        assert checkpoint.commit <= after
    positions = [checkpoint.commit for _, checkpoint in sent] + [last.commit]
    assert positions == sorted(positions)
    interval = window * multiplier
    assert len(sent) == len(matches) // interval
