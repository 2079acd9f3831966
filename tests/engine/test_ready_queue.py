"""Batches of the ready queue: what bulk work may add to those who wait for an answer."""

from __future__ import annotations

import time

import numpy as np
import pytest

from embedder.engine.contents import ContentItem, EmbedOptions, Lane
from embedder.engine.interactive_times import InteractiveTimes
from embedder.engine.ready_queue import ReadyQueue
from embedder.engine.single_flight import Flight
from embedder.engine.ticket import Ticket
from embedder_client.content_hash import Modality

_SECONDS_A_TOKEN = 0.001
_BUDGET = 1_000.0
_DIM = 4


def _flight(lane: Lane, *, tokens: float) -> Flight:
    options = EmbedOptions(deadline=time.monotonic() + 60, lane=lane, task="t", client="c")
    item = ContentItem(b"h" * 32, Modality.TEXT, "text")
    return Flight(
        item,
        Ticket(np.zeros((1, _DIM), np.float16), np.zeros(1, np.bool_), options),
        lane,
        options.deadline,
        units=tokens,
    )


@pytest.fixture
def times() -> InteractiveTimes:
    return InteractiveTimes()


@pytest.fixture
def queue(times: InteractiveTimes) -> ReadyQueue:
    seconds = lambda modality, units: _SECONDS_A_TOKEN * units  # noqa: E731
    return ReadyQueue(max_batch_units={Modality.TEXT: _BUDGET, Modality.IMAGE: 8.0}, batch_seconds=seconds, times=times)


def test_bulk_batch_takes_a_share_of_an_interactive_contents_time(queue: ReadyQueue, times: InteractiveTimes) -> None:
    for _ in range(100):
        times.took(0.2)
    times.came()
    queue.push([_flight(Lane.BULK, tokens=10) for _ in range(40)])
    assert len(queue.take()) == 2  # 20 ms are a tenth of 200 ms


def test_bulk_work_lengthens_an_interactive_batch_by_no_more(queue: ReadyQueue, times: InteractiveTimes) -> None:
    for _ in range(100):
        times.took(0.2)
    queue.push([_flight(Lane.INTERACTIVE, tokens=50), *[_flight(Lane.BULK, tokens=10) for _ in range(40)]])
    lanes = [flight.lane for flight in queue.take()]
    assert lanes == [Lane.INTERACTIVE, *[Lane.BULK] * 2]


def test_one_bulk_content_is_taken_however_long_it_takes(queue: ReadyQueue, times: InteractiveTimes) -> None:
    for _ in range(100):
        times.took(0.001)
    times.came()
    queue.push([_flight(Lane.BULK, tokens=10) for _ in range(2)])
    assert [len(queue.take()), len(queue.take())] == [1, 1]


def test_nobody_asking_leaves_the_whole_batch_to_bulk_work(queue: ReadyQueue, times: InteractiveTimes) -> None:
    for _ in range(100):
        times.took(0.2)
    queue.push([_flight(Lane.BULK, tokens=10) for _ in range(40)])
    assert len(queue.take()) == 40


def test_few_times_say_nothing_and_an_eighth_of_the_budget_holds(queue: ReadyQueue, times: InteractiveTimes) -> None:
    times.took(0.001)
    times.came()
    queue.push([_flight(Lane.BULK, tokens=10) for _ in range(40)])
    assert len(queue.take()) == 12
