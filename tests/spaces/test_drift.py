"""What drift measures, on vectors whose answer is known, and the page that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedder.errors import InvalidRequest
from embedder.spaces.drift import Compared, compare_heads, measure_drift
from embedder.spaces.drift_page import drift_page
from embedder.spaces.pairing import PairedVectors, count_held, find_pairs
from embedder_cache import CacheSettings, SpaceKey, VectorCache
from embedder_client import hash_texts
from embedder_heads import Task
from embedder_heads.training.examples import make_examples
from embedder_heads.training.neighbours import nearest, neighbour_overlap

DIM = 24
SPACES = Compared("a@1", "a@2", "0" * 64, "1" * 64, 1_000)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def draw() -> Callable[..., np.ndarray]:
    generator = np.random.default_rng(1)
    return lambda count, dim=DIM: unit(generator.standard_normal((count, dim)))


def rotation(dim: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(5).standard_normal((dim, dim)))[0].astype(np.float32)


def pairs_of(old: np.ndarray, new: np.ndarray) -> PairedVectors:
    return PairedVectors(np.zeros((len(old), 32), np.uint8), old, new)


def test_rotated_space_has_the_same_neighbours(draw: Callable[..., np.ndarray]) -> None:
    old = draw(300)
    report = measure_drift(SPACES, pairs_of(old, old @ rotation(DIM)), k=10)
    assert report.overlap.value > 0.999
    assert report.cka == pytest.approx(1.0, abs=1e-4)
    assert report.rank_correlation == pytest.approx(1.0, abs=1e-4)


def test_unrelated_space_has_neighbours_by_chance_alone(draw: Callable[..., np.ndarray]) -> None:
    report = measure_drift(SPACES, pairs_of(draw(400), draw(400, 40)), k=10)
    assert report.overlap.low <= report.chance * 1.4
    assert report.overlap.value == pytest.approx(report.chance, abs=0.02)
    assert abs(report.rank_correlation) < 0.05


def test_overlap_is_that_of_a_search_by_hand(draw: Callable[..., np.ndarray]) -> None:
    old = draw(60)
    new = unit(old + 0.6 * draw(60))
    cosines = [side @ side.T - 2 * np.eye(60) for side in (old, new)]
    sets = [[set(np.argsort(-row)[:5]) for row in matrix] for matrix in cosines]
    by_hand = [len(left & right) / 5 for left, right in zip(*sets, strict=True)]
    assert neighbour_overlap(old, new, 5) == pytest.approx(by_hand)
    assert {*nearest(old, old, 5, skip_self=True)[7]} == sets[0][7]


def test_too_few_pairs_are_refused(draw: Callable[..., np.ndarray]) -> None:
    old = draw(30)
    with pytest.raises(InvalidRequest, match="30 contents in common; at least 40"):
        measure_drift(SPACES, pairs_of(old, old), k=20)


def labelled(count: int, noise: float, seed: int) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(9)
    centres = generator.standard_normal((3, DIM))
    which = generator.integers(0, 3, count)
    scatter = np.random.default_rng(seed).standard_normal((count, DIM))
    return unit(centres[which] + noise * scatter), [f"topic{number}" for number in which]


def test_heads_are_compared_on_the_same_examples() -> None:
    old = make_examples(*labelled(240, 3.2, 1), task=Task.SINGLE_LABEL)
    new = make_examples(*labelled(240, 0.7, 2), task=Task.SINGLE_LABEL)
    same, better = compare_heads(old, old), compare_heads(old, new)
    assert same.accuracy_change.value == 0.0
    assert same.agreement.value == 1.0
    assert all(change.gained == change.lost == 0 for change in same.labels)
    assert better.accuracy_change.low > 0.0
    assert better.new["accuracy"].value - better.old["accuracy"].value == pytest.approx(better.accuracy_change.value)
    assert sum(change.examples for change in better.labels) == 240
    assert better.flips is not None
    assert better.flips.sum() == 240
    assert np.trace(better.flips) == round(better.agreement.value * 240)
    gained = sum(change.gained - change.lost for change in better.labels)
    assert gained == round(better.accuracy_change.value * 240)


def test_page_needs_nothing_beside_it_and_has_pictures_for_light_and_dark(draw: Callable[..., np.ndarray]) -> None:
    old = draw(120)
    heads = compare_heads(
        make_examples(*labelled(120, 1.5, 1), task=Task.SINGLE_LABEL),
        make_examples(*labelled(120, 0.8, 2), task=Task.SINGLE_LABEL),
    )
    page = drift_page(measure_drift(SPACES, pairs_of(old, unit(old + 0.3 * draw(120))), k=5, heads=heads))
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert len(sources) == 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert page.count("prefers-color-scheme: dark") == 4
    assert "<script" not in page
    for word in ("a@1", "a@2", "topic0", "topic2", "Label by label"):
        assert word in page


def test_pairs_are_a_sample_of_what_both_spaces_hold(tmp_path: Path) -> None:
    old_key, new_key = SpaceKey(b"o" * 16, DIM), SpaceKey(b"n" * 16, 8)
    texts = [f"pair {number}" for number in range(400)]
    vectors = unit(np.random.default_rng(0).standard_normal((400, DIM)))
    with VectorCache.open(tmp_path / "cache", CacheSettings(max_bytes=64 << 20)) as cache:
        cache.put_many(old_key, hash_texts(texts[:200]), vectors[:200]).result()
        cache.rotate()
        cache.put_many(old_key, hash_texts(texts[200:]), vectors[200:]).result()
        both = texts[100:300]
        cache.put_many(new_key, hash_texts(both), unit(vectors[100:300, :8])).result()
        every = find_pairs(cache, old_key, new_key, limit=1_000)
        some = find_pairs(cache, old_key, new_key, limit=50)
        assert count_held(cache, old_key) == 400
    names = sorted(hash_texts([text]) for text in both)
    assert [row.tobytes() for row in every.hashes] == names
    assert [row.tobytes() for row in some.hashes] == names[:50]
    left = every.without(frozenset(names[:20]))
    assert [row.tobytes() for row in left.hashes] == names[20:]
    row = both.index(next(text for text in both if hash_texts([text]) == names[0]))
    assert some.old[0] == pytest.approx(vectors[100 + row], abs=1e-3)
    assert some.new[0] == pytest.approx(unit(vectors[100 + row : 101 + row, :8])[0], abs=1e-3)
