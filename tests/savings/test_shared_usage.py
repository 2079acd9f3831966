"""Usage that many groups share adds up as if each had been counted by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedder.savings.ledger import Ledger
from embedder.savings.usage import DIMENSIONS, Counts, Group, Slice

HEADS = ("topic", "mood", "spam")
CALL = Group("", "client", "space", "interactive")
GROUPS = tuple(replace(CALL, task=head, head=head) for head in HEADS)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path / "savings.sqlite")
    yield opened
    opened.close()


def test_calls_of_the_same_heads_add_up_head_by_head(ledger: Ledger) -> None:
    hashes = np.random.default_rng(0).bytes(5 * 32)
    for _ in range(4):
        ledger.shared.record(CALL, HEADS, Counts(asked=5, cache_hits=5), hashes, head_ns=np.array([1, 20, 300]))
    ledger.shared.record(CALL, HEADS[:1], Counts(asked=2), b"", head_ns=np.array([7]))
    totals = ledger.totals(Slice(), by=DIMENSIONS)
    assert {Group(*names): counts for names, counts in totals.items()} == {
        GROUPS[0]: Counts(asked=22, cache_hits=20, head_ns=11),
        GROUPS[1]: Counts(asked=20, cache_hits=20, head_ns=80),
        GROUPS[2]: Counts(asked=20, cache_hits=20, head_ns=1200),
    }
    assert {group: counter.count() for group, counter in ledger.distinct()} == dict.fromkeys(GROUPS, 5)


def test_head_and_tenant_totals_add_up_to_the_whole(ledger: Ledger) -> None:
    group = replace(CALL, tenant="team")
    for number in range(3):
        ledger.shared.record(group, HEADS[number:], Counts(asked=2, cache_hits=2), b"", head_ns=np.arange(3 - number))
    by_head = ledger.totals(Slice(), by=("head",))
    assert {head: (counts.asked, counts.head_ns) for (head,), counts in by_head.items()} == {
        "topic": (2, 0),
        "mood": (4, 1),
        "spam": (6, 3),
    }
    [whole] = ledger.totals(Slice(tenant="team")).values()
    assert whole == sum(by_head.values(), Counts())
