"""Where large inputs are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from embedder_client.splitting import split_runs


@given(sizes=st.lists(st.integers(0, 50)), max_bytes=st.integers(1, 100), max_items=st.integers(1, 10))
def test_runs_cover_every_item_in_order_and_keep_both_budgets(sizes: list[int], max_bytes: int, max_items: int) -> None:
    runs = split_runs(sizes, max_bytes=max_bytes, max_items=max_items)
    assert [position for run in runs for position in run] == list(range(len(sizes)))
    for run in runs:
        assert 1 <= len(run) <= max_items
        assert len(run) == 1 or sum(sizes[position] for position in run) <= max_bytes


def test_runs_are_as_long_as_the_budgets_allow() -> None:
    assert split_runs([1] * 5, max_bytes=100, max_items=2) == [range(2), range(2, 4), range(4, 5)]
    assert split_runs([3, 3, 3], max_bytes=6, max_items=9) == [range(2), range(2, 3)]


def test_item_over_the_byte_budget_travels_alone() -> None:
    assert split_runs([1, 99, 1, 1], max_bytes=10, max_items=9) == [range(1), range(1, 2), range(2, 4)]
