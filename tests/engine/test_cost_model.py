"""The cost model: what batches took, told apart into what a batch and what a unit costs."""

from __future__ import annotations

import pytest

from embedder.engine.contents import CallSize, ContentItem
from embedder.engine.cost_model import CostModel
from embedder_client.content_hash import Modality, hash_text


def _model() -> CostModel:
    return CostModel(max_tokens=256, max_batch_units={Modality.TEXT: 4_096.0, Modality.IMAGE: 16.0})


def _texts(*lengths: int) -> list[ContentItem]:
    return [ContentItem(hash_text("x" * length), Modality.TEXT, "x" * length) for length in lengths]


def test_fixed_and_unit_costs_are_told_apart() -> None:
    model = _model()
    for units in (10, 100, 1_000, 50, 700):
        model.learn_batch(Modality.IMAGE, seconds=0.02 + 0.001 * units, units=units, items=units)
    assert model.call_seconds(CallSize(images=1)) == pytest.approx(0.021)
    assert model.call_seconds(CallSize(images=16)) == pytest.approx(0.036)
    assert model.call_seconds(CallSize(images=17)) == pytest.approx(0.04 + 0.017)  # a second batch


def test_disturbed_long_batches_do_not_decide_what_a_short_one_costs() -> None:
    model = _model()
    for round_ in range(60):
        disturbance = (1.0, 1.6, 0.9, 2.2)[round_ % 4]
        model.learn_batch(Modality.TEXT, seconds=4.0 * disturbance, units=4_000 - 10 * (round_ % 7), items=16)
    model.learn_batch(Modality.TEXT, seconds=0.05, units=10, items=1)
    assert model.call_seconds(CallSize([36])) == pytest.approx(0.05, rel=0.1)


def test_batches_of_one_size_give_a_line_through_the_origin() -> None:
    model = _model()
    for _ in range(5):
        model.learn_batch(Modality.IMAGE, seconds=0.4, units=8, items=8)
    assert model.call_seconds(CallSize(images=4)) == pytest.approx(0.2)


def test_text_is_cut_at_the_token_limit() -> None:
    model = _model()
    for units in (100, 1_000):
        model.learn_batch(Modality.TEXT, seconds=units / 1_000, units=units, items=1)
    assert model.call_seconds(CallSize([100_000])) == pytest.approx(0.256)
    assert model.call_seconds(CallSize([45])) == pytest.approx(0.012)


def test_content_by_hash_counts_as_a_mean_text() -> None:
    model = _model()
    model.learn_batch(Modality.TEXT, seconds=2.0, units=200, items=4)
    assert model.call_seconds(CallSize(unknown=3)) == pytest.approx(1.5)


def test_shares_of_a_full_batch_add_up_to_it() -> None:
    model = _model()
    for units in (10, 100, 1_000) * 20:
        model.learn_batch(Modality.IMAGE, seconds=0.02 + 0.001 * units, units=units, items=units)
    image = ContentItem(b"x" * 32, Modality.IMAGE, b"file")
    assert sum(model.shares([image] * 16)) == pytest.approx(model.call_seconds(CallSize(images=16)), rel=1e-3)
    assert model.batch_overhead_s() == pytest.approx(0.02, rel=1e-3)


def test_what_waits_is_estimated_at_the_last_batches_pace_and_the_ledger_is_not() -> None:
    model = _model()
    for units in (10, 100, 1_000) * 20:
        model.learn_batch(Modality.IMAGE, seconds=0.02 + 0.001 * units, units=units, items=units)
    usual, ledger = model.batch_seconds(Modality.IMAGE, 16), model.call_seconds(CallSize(images=16))
    for _ in range(5):
        model.learn_batch(Modality.IMAGE, seconds=2 * 0.036, device_s=0.036, units=16, items=16)
    assert model.batch_seconds(Modality.IMAGE, 16) > 1.5 * usual
    assert model.call_seconds(CallSize(images=16)) == pytest.approx(ledger, rel=0.01)


def test_a_longer_text_has_a_larger_share_up_to_the_token_limit() -> None:
    model = _model()
    for units in (10, 100, 500):
        model.learn_batch(Modality.TEXT, seconds=0.01 + units / 5_000, units=units, items=units // 10)
    short, long, longest, cut = model.shares(_texts(10, 500, 5_000, 50_000))
    assert short < long < longest == cut


def test_newer_batches_count_more() -> None:
    model = _model()
    for _ in range(1_000):
        model.learn_batch(Modality.IMAGE, seconds=8.0, units=8, items=8)
    for _ in range(1_000):
        model.learn_batch(Modality.IMAGE, seconds=4.0, units=8, items=8)
    assert model.call_seconds(CallSize(images=1)) == pytest.approx(0.5, rel=0.05)
