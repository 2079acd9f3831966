"""The engine: every content computed once, every item answered once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from embedder.encoders.base import Tokens
from embedder.engine.contents import ContentItem, DeviceUsage, EmbedOptions, Lane, Source
from embedder.errors import (
    ContentNotCached,
    DeadlineExpired,
    EncoderError,
    InvalidContent,
    LimitExceeded,
    NonFiniteVector,
    OutOfDeviceMemory,
    Overloaded,
    Unavailable,
)
from embedder_cache import Lookup, SpaceKey
from embedder_cache.memory_tier import MemoryTier
from embedder_client.content_hash import Modality, hash_text

from .conftest import DIM, Bench, image_item, options, running_bench, text_items, vector_of, wait_until


def test_computed_vectors_are_right_and_in_the_order_of_asking(bench: Bench) -> None:
    outcome = bench.engine.embed(text_items("one", "two", "three"), options())
    expected = np.stack([vector_of(text.encode()) for text in ("one", "two", "three")]).astype(np.float16)
    assert np.array_equal(outcome.vectors, expected)
    assert outcome.sources.tolist() == [Source.COMPUTED] * 3
    assert not outcome.failures
    assert outcome.device_seconds == pytest.approx(bench.ledger.device_seconds)


def test_second_ask_comes_from_the_cache_without_an_encode(bench: Bench) -> None:
    bench.engine.embed(text_items("one"), options(durable=True))
    outcome = bench.engine.embed(text_items("one"), options())
    assert outcome.sources.tolist() == [Source.CACHE]
    assert bench.encoder.encodes == 1
    assert outcome.device_seconds == 0
    assert outcome.unshared_seconds > 0


def test_repeats_inside_one_call_are_computed_once(bench: Bench) -> None:
    outcome = bench.engine.embed(text_items("a", "b", "a", "a"), options())
    assert outcome.sources.tolist() == [Source.COMPUTED, Source.COMPUTED, Source.IN_FLIGHT, Source.IN_FLIGHT]
    assert np.array_equal(outcome.vectors[0], outcome.vectors[3])
    assert bench.encoder.encodes == 2


def test_ten_clients_asking_for_the_same_500_contents_cause_500_encodes(bench: Bench) -> None:
    texts = [f"content {number}" for number in range(500)]
    barrier = threading.Barrier(10)

    def ask(seed: int) -> np.ndarray:
        order = np.random.default_rng(seed).permutation(500)
        barrier.wait()
        rows = np.empty((500, 8), np.float16)
        for chunk in np.array_split(order, 7):
            rows[chunk] = bench.engine.embed(text_items(*[texts[index] for index in chunk]), options()).vectors
        return rows

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(ask, range(10)))
    assert bench.encoder.encodes == 500
    assert bench.ledger.encodes == 500
    assert all(np.array_equal(answers[0], answer) for answer in answers)


def test_contents_between_compute_and_commit_are_not_computed_again(bench: Bench) -> None:
    for number in range(200):
        bench.engine.embed(text_items(f"text {number}"), options())
        bench.engine.embed(text_items(f"text {number}"), options())
    assert bench.encoder.encodes == 200


def test_durable_call_is_answered_after_the_commit(bench: Bench) -> None:
    outcome = bench.engine.embed(text_items("kept"), options(durable=True))
    assert not outcome.failures
    assert bench.cache.get_many(bench.engine.space, hash_text("kept")).found.all()


def test_bad_items_fail_alone(bench: Bench) -> None:
    items = [
        *text_items("good", "   ", "x" * 300_000, "fine"),
        ContentItem(b"", error=InvalidContent("unset")),
        ContentItem(hash_text("never seen")),
        image_item(b"\x07"),
    ]
    outcome = bench.engine.embed(items, options())
    kinds = {index: type(error) for index, error in outcome.failures.items()}
    assert kinds == {1: InvalidContent, 2: LimitExceeded, 4: InvalidContent, 5: ContentNotCached}
    assert np.array_equal(outcome.vectors[0], vector_of(b"good").astype(np.float16))
    assert np.array_equal(outcome.vectors[6], vector_of(b"\x07").astype(np.float16))
    assert not outcome.vectors[[1, 2, 4, 5]].any()


def test_hash_of_a_content_in_flight_joins_it(bench: Bench) -> None:
    bench.encoder.may_run.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(bench.engine.embed, text_items("slow"), options())
        wait_until(lambda: bench.engine.in_flight == 1)
        ticket = bench.engine.start([ContentItem(hash_text("slow"))], options())
        bench.encoder.may_run.set()
        ticket.wait()
        assert bench.engine.outcome(ticket, [ContentItem(hash_text("slow"))]).sources.tolist() == [Source.IN_FLIGHT]
        assert first.result().sources.tolist() == [Source.COMPUTED]


def test_failed_batch_fails_only_its_own_items(bench: Bench) -> None:
    def fail_on_poison(tokens: Sequence[Tokens]) -> None:
        if any(row.astype(np.uint8).tobytes() == b"poison" for row in tokens):
            raise RuntimeError("kernel died")

    bench.encoder.on_encode = fail_on_poison
    texts = [f"t{number}" for number in range(20)]
    texts[13] = "poison"
    outcome = bench.engine.embed(text_items(*texts), options())
    assert list(outcome.failures) == [13]
    assert isinstance(outcome.failures[13], EncoderError)
    assert "kernel died" in str(outcome.failures[13])
    assert np.array_equal(outcome.vectors[12], vector_of(b"t12").astype(np.float16))


def test_non_finite_vector_is_an_error_and_is_never_stored(bench: Bench) -> None:
    encode = bench.encoder.encode_texts

    def with_nan(tokens: Sequence[Tokens]) -> np.ndarray:
        vectors = encode(tokens)
        for row, token_ids in enumerate(tokens):
            if token_ids.astype(np.uint8).tobytes() == b"nan":
                vectors[row, 3] = np.nan
        return vectors

    bench.encoder.encode_texts = bench.encoder.encode_texts_exact = with_nan  # type: ignore[method-assign]
    outcome = bench.engine.embed(text_items("good", "nan"), options(durable=True))
    assert isinstance(outcome.failures[1], NonFiniteVector)
    assert outcome.sources[0] == Source.COMPUTED
    assert not bench.cache.get_many(bench.engine.space, hash_text("nan")).found.any()


def test_non_finite_vector_is_made_once_more_in_float32(bench: Bench) -> None:
    exact = bench.encoder.encode_texts
    bench.encoder.encode_texts = lambda tokens: np.full((len(tokens), DIM), np.nan, np.float32)  # type: ignore[method-assign]
    bench.encoder.encode_texts_exact = exact  # type: ignore[method-assign]
    outcome = bench.engine.embed(text_items("overflows in 16 bits"), options(durable=True))
    assert not outcome.failures
    assert np.allclose(outcome.vectors[0], vector_of(b"overflows in 16 bits"), atol=1e-3)
    assert bench.cache.get_many(bench.engine.space, hash_text("overflows in 16 bits")).found.all()


def test_vector_erased_while_it_is_computed_is_served_and_not_stored(bench: Bench) -> None:
    bench.encoder.may_run.clear()
    ticket = bench.engine.start(text_items("erased", "kept"), options(durable=True))
    assert bench.cache.delete_many(bench.engine.space, hash_text("erased")) == 0
    bench.encoder.may_run.set()
    ticket.wait()
    assert not ticket.failures
    assert bench.cache.get_many(bench.engine.space, hash_text("erased") + hash_text("kept")).found.tolist() == [
        False,
        True,
    ]


def test_call_without_a_thread_is_told_when_it_is_done(bench: Bench) -> None:
    bench.encoder.may_run.clear()
    ticket = bench.engine.start(text_items("waits"), options())
    done = threading.Event()
    ticket.when_done(done.set)
    assert not done.is_set()
    bench.encoder.may_run.set()
    assert done.wait(10)
    again = threading.Event()
    ticket.when_done(again.set)
    assert again.is_set()


def test_shared_tier_is_asked_before_anything_is_computed_and_filled_after(tmp_path: Path) -> None:
    shared = MemoryTier()
    with running_bench(tmp_path / "first", shared=shared) as first:
        computed = first.engine.embed(text_items("a", "b"), options(durable=True))
    with running_bench(tmp_path / "second", shared=shared) as second:
        outcome = second.engine.embed(text_items("b", "c", "a"), options(durable=True))
        assert outcome.sources.tolist() == [Source.SHARED_CACHE, Source.COMPUTED, Source.SHARED_CACHE]
        assert np.array_equal(outcome.vectors[[2, 0]], computed.vectors)
        assert second.encoder.encodes == second.ledger.encodes == 1
        again = second.engine.embed(text_items("a", "b", "c"), options())
        assert again.count(Source.CACHE) == 3, "what the shared tier held is kept here too"


def test_lookup_by_hash_reads_the_shared_tier_too(tmp_path: Path) -> None:
    shared = MemoryTier()
    with running_bench(tmp_path / "first", shared=shared) as first:
        computed = first.engine.embed(text_items("a"), options(durable=True))
    with running_bench(tmp_path / "second", shared=shared) as second:
        second.engine.embed(text_items("b"), options(durable=True))
        lookup, held = second.engine.lookup(hash_text("a") + hash_text("nowhere") + hash_text("b"), options())
        assert lookup.found.tolist() == [True, False, True]
        assert held.sources.tolist() == [Source.SHARED_CACHE, Source.CACHE]
        assert np.array_equal(lookup.vectors[0], computed.vectors[0])


def test_shared_tier_that_raises_costs_an_encode(tmp_path: Path) -> None:
    class Broken(MemoryTier):
        def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
            raise RuntimeError("not today")

    with running_bench(tmp_path / "cache", shared=Broken()) as bench:
        outcome = bench.engine.embed(text_items("a"), options())
        assert outcome.sources.tolist() == [Source.COMPUTED]


def test_out_of_memory_halves_the_batch_and_is_remembered(bench: Bench) -> None:
    def run_out(tokens: Sequence[Tokens]) -> None:
        if sum(map(len, tokens)) > 60:
            raise OutOfDeviceMemory("no room")

    bench.encoder.on_encode = run_out
    bench.encoder.may_run.clear()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(bench.engine.embed, text_items(*[f"text number {n:02}" for n in range(18)]), options())
        wait_until(lambda: bench.engine.in_flight == 18)
        bench.encoder.may_run.set()
        assert not asked.result().failures
    sizes = len(bench.encoder.batches)
    bench.engine.embed(text_items(*[f"more number {n:02}" for n in range(18)]), options())
    assert max(bench.encoder.batches[sizes:]) * 14 <= 128


def test_expired_work_never_reaches_the_device(bench: Bench) -> None:
    bench.encoder.may_run.clear()
    with ThreadPoolExecutor(2) as pool:
        blocking = pool.submit(bench.engine.embed, text_items("blocks the device"), options())
        assert bench.encoder.is_running.wait(10)
        late = bench.engine.embed(text_items("too late"), options(seconds=0.05))
        assert isinstance(late.failures[0], DeadlineExpired)
        bench.encoder.may_run.set()
        blocking.result()
    bench.engine.embed(text_items("afterwards"), options())
    assert bench.encoder.encodes == 2
    wait_until(lambda: bench.engine.in_flight == 0)


def test_one_waiter_leaving_does_not_concern_the_others(bench: Bench) -> None:
    bench.encoder.may_run.clear()
    leaver = bench.engine.start(text_items("shared"), options())
    stayer = bench.engine.start(text_items("shared"), options())
    leaver.abandon()
    bench.encoder.may_run.set()
    stayer.wait()
    assert np.array_equal(stayer.vectors[0], vector_of(b"shared").astype(np.float16))
    assert isinstance(leaver.failures[0], DeadlineExpired)


def test_hits_are_answered_while_the_device_is_busy(bench: Bench) -> None:
    bench.engine.embed(text_items("held"), options(durable=True))
    bench.encoder.may_run.clear()
    ticket = bench.engine.start(text_items("slow"), options())
    assert bench.engine.embed(text_items("held"), options(seconds=1)).sources.tolist() == [Source.CACHE]
    bench.encoder.may_run.set()
    ticket.wait()


def test_device_goes_on_while_the_last_batch_is_answered(bench: Bench) -> None:
    may_answer = threading.Event()
    record = bench.ledger.record_encodes

    def record_when_allowed(options: EmbedOptions, *, encodes: int, usage: DeviceUsage) -> None:
        assert may_answer.wait(10)
        record(options, encodes=encodes, usage=usage)

    bench.ledger.record_encodes = record_when_allowed  # type: ignore[method-assign]
    first = bench.engine.start(text_items("first"), options())
    wait_until(lambda: len(bench.encoder.batches) == 1)
    second = bench.engine.start(text_items("second"), options())
    wait_until(lambda: len(bench.encoder.batches) == 2)
    assert not first.is_done
    may_answer.set()
    for ticket in (first, second):
        ticket.wait()
        assert ticket.sources.tolist() == [Source.COMPUTED]


def test_a_call_is_looked_up_first_and_computed_when_it_proceeds(bench: Bench) -> None:
    bench.engine.embed(text_items("held"), options(durable=True))
    assert bench.engine.ask(text_items("held"), options()).ticket.is_done
    asked = bench.engine.ask(text_items("held", "new"), options())
    assert not asked.ticket.is_done
    assert bench.engine.in_flight == 0
    ticket = bench.engine.proceed(asked)
    ticket.wait()
    assert ticket.sources.tolist() == [Source.CACHE, Source.COMPUTED]


def test_what_was_committed_between_look_up_and_start_is_not_computed_again(bench: Bench) -> None:
    asked = bench.engine.ask(text_items("twice"), options())
    bench.engine.embed(text_items("twice"), options(durable=True))
    ticket = bench.engine.proceed(asked)
    ticket.wait()
    assert ticket.sources.tolist() == [Source.CACHE]
    assert bench.encoder.encodes == 1


def test_a_full_queue_is_told_before_anything_is_started(bench: Bench) -> None:
    assert not bench.engine.is_full(options())
    bench.engine._admission.admit(Lane.INTERACTIVE, [1.0], batch_s=0.0, seconds_left=10.0)
    assert bench.engine.is_full(options(seconds=1.0))
    assert not bench.engine.is_full(options(seconds=5.0))
    bench.engine._admission.release(Lane.INTERACTIVE, 1.0)
    assert not bench.engine.is_full(options(seconds=1.0))


def test_interactive_work_overtakes_bulk_work(bench: Bench) -> None:
    order: list[bytes] = []
    bench.encoder.on_encode = lambda tokens: order.extend(row.astype(np.uint8).tobytes() for row in tokens)
    bench.encoder.may_run.clear()
    first = bench.engine.start(text_items("first"), options())
    assert bench.encoder.is_running.wait(10)
    bulk = bench.engine.start(text_items(*[f"bulk {n} {'x' * 50}" for n in range(10)]), options(lane=Lane.BULK))
    wait_until(lambda: bench.engine.in_flight == 11)
    urgent = bench.engine.start(text_items("urgent"), options())
    wait_until(lambda: bench.engine.in_flight == 12)
    time.sleep(0.02)  # prepared and queued
    bench.encoder.may_run.set()
    for ticket in (first, bulk, urgent):
        ticket.wait()
    assert order.index(b"urgent") == 1


@pytest.mark.parametrize(("interactive_at", "largest"), [(math.inf, 1), (-math.inf, 4)])
def test_bulk_batches_are_small_while_somebody_asks_in_the_interactive_lane(
    bench: Bench, interactive_at: float, largest: int
) -> None:
    bench.encoder.may_run.clear()
    first = bench.engine.start(text_items("first"), options())
    assert bench.encoder.is_running.wait(10)
    bulk = bench.engine.start(text_items(*[f"bulk {n} {'x' * 53}" for n in range(8)]), options(lane=Lane.BULK))
    queue = bench.engine._queue
    wait_until(lambda: len(queue._heaps[Lane.BULK, Modality.TEXT]) == 8)
    bench.engine._times._last_at = interactive_at
    bench.encoder.may_run.set()
    for ticket in (first, bulk):
        ticket.wait()
    assert max(bench.encoder.batches[1:]) == largest  # of 60 tokens each; a batch takes 256


def test_overload_is_refused_at_once_with_a_time_to_come_back(bench: Bench) -> None:
    from embedder_client.content_hash import Modality

    bench.engine.cost_model.learn_batch(Modality.TEXT, seconds=1_000.0, units=1_000.0, items=100)  # 1 s a token
    bench.encoder.may_run.clear()
    first = bench.engine.start(text_items("x" * 40), options(seconds=60))
    with pytest.raises(Overloaded, match="interactive lane") as refusal:
        bench.engine.start(text_items("y" * 40), options(seconds=60))
    assert refusal.value.retry_after_ms > 0
    assert bench.engine.in_flight == 1
    bench.encoder.may_run.set()
    first.wait()
    assert bench.engine.queued_s(Lane.INTERACTIVE) == 0


def test_closing_answers_what_is_in_flight(bench: Bench) -> None:
    bench.engine.close()
    with pytest.raises(Unavailable):
        bench.engine.embed(text_items("after"), options())


def test_idle_lane_admits_a_call_however_large_after_many_were_answered(bench: Bench) -> None:
    from embedder_client.content_hash import Modality

    for number in range(40):
        bench.engine.embed(text_items(*[f"text {number} {'x' * item}" for item in range(7)]), options())
    wait_until(lambda: bench.engine.queued_s(Lane.INTERACTIVE) == 0)
    bench.engine.cost_model.learn_batch(Modality.TEXT, seconds=1_000.0, units=1.0, items=1)
    assert not bench.engine.embed(text_items("a call that is estimated at minutes"), options()).failures
