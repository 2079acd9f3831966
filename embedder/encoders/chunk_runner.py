"""Runs a batch's chunks: on a CPU many at a time with one thread each, on an accelerator one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain, repeat
from math import ceil
from threading import Barrier
from typing import TypeVar

import torch

from embedder.encoders.thread_priority import yield_to_callers

_Chunk = TypeVar("_Chunk")

CHUNK_THREADS = "encoder-chunk"
"""How the names begin of the threads that compute chunks; whoever meters them finds them by it."""

# Measured on an AMD EPYC with 1 MB of L2 a core: smaller chunks read the weights more often, larger ones gain nothing.
_MAX_CPU_TOKENS = 2_048
# Below this a second core gains nothing (measured: batches of 150 to 250 tokens take 0.7 of the time on two cores).
_MIN_CPU_TOKENS = 64
# Each core's last chunk is cut in two from this size on: halves this large multiply as fast as a whole.
_HALVED_TOKENS = 1_024
# Chunks are filled with whole texts, so some room keeps the last one from being a leftover.
_ROOM = 1.05
_MAX_CUDA_TOKENS = 65_536


class ChunkRunner:
    """Spreads chunks over the processor's cores.

    A core for each chunk keeps every core busy without a barrier behind each layer, and where another process takes
    a core away, one chunk waits instead of all threads of all layers (measured beside a busy process: 1.6 times the rate).
    """

    def __init__(self, device: torch.device) -> None:
        """Start as many threads as torch computes with on the CPU; none for an accelerator."""
        self._on_cpu = device.type == "cpu"
        self._threads = torch.get_num_threads() if self._on_cpu else 1
        self._pool = _start_pool(self._threads) if self._threads > 1 else None

    def chunk_tokens(self, total: int) -> int:
        """Return how many tokens a chunk may hold, so that chunks of a batch of `total` tokens end together."""
        if not self._on_cpu:
            return _MAX_CUDA_TOKENS
        rounds = ceil(total / (self._threads * _MAX_CPU_TOKENS))
        return max(_MIN_CPU_TOKENS, ceil(_ROOM * total / (self._threads * rounds)))

    def chunk_budgets(self, total: int) -> Iterator[int]:
        """Yield how many tokens the first, second, ... chunk of a batch of `total` tokens may hold, without end.

        Each core's last chunk is halved, so that a core that lost time to another process leaves its last half to the others.
        """
        most = self.chunk_tokens(total)
        if not self._on_cpu or most < _HALVED_TOKENS:
            return repeat(most)
        full = self._threads * (ceil(total / (self._threads * _MAX_CPU_TOKENS)) - 1)
        return chain(repeat(most, full), repeat(ceil(most / 2)))

    def chunk_items(self, count: int, most: int) -> int:
        """Return how many of `count` equal items a chunk may hold: `most`, or less where that leaves a core idle."""
        return max(1, min(most, ceil(count / self._threads)))

    def run(
        self, forward: Callable[[_Chunk], torch.Tensor], chunks: Sequence[_Chunk], *, small: bool
    ) -> list[torch.Tensor]:
        """Run chunks.

        Args:
            forward: one chunk to its rows; called from any thread.
            chunks: in order.
            small: whether a single chunk is too little work to be shared by all cores.
        Returns:
            `forward` of each chunk, in order.
        Raises:
            Exception: the first that `forward` raised, when all chunks have ended.
        """
        if self._pool is None or (len(chunks) == 1 and not small):
            return [forward(chunk) for chunk in chunks]
        futures = [self._pool.submit(forward, chunk) for chunk in chunks]
        wait(futures)
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def _start_pool(threads: int) -> ThreadPoolExecutor:
    """Start threads in each of which torch computes with one."""
    pool = ThreadPoolExecutor(threads, CHUNK_THREADS, initializer=_compute_with_one_thread)
    ready = Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(ready.wait)
    ready.wait()
    # torch gives a new thread the number that was set last, by whichever thread: keep the process's own.
    torch.set_num_threads(threads)
    return pool


def _compute_with_one_thread() -> None:
    yield_to_callers()
    torch.set_num_threads(1)
    # A thread takes that number over when it first asks for it, not when it sets it: left for later, it would take
    # whatever the process has set by then, and every chunk would be split among all cores after all.
    torch.get_num_threads()
