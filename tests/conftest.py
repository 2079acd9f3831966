"""Fixtures for every room: nothing may be left running behind a test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

# Threads that libraries start once in a process and keep: they are not ours to end.
_KEPT = ("pydevd", "tqdm", "grpc", "_channel_spin", "asyncio_", "QueueFeederThread")
# A pool starts its threads when they are needed; those of the service that lives for the whole run end with it.
_POOLED = ("call_", "prepare_", "decode_", "AnyIO worker")


def _running() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if not thread.name.startswith(_KEPT + _POOLED)}


@pytest.fixture(autouse=True)
def no_thread_left_behind() -> Iterator[None]:
    """Fail a test after which a thread that it started still runs two seconds later."""
    before = _running()
    yield
    deadline = time.monotonic() + 2.0
    while (left := _running() - before) and time.monotonic() < deadline:
        for thread in left:
            thread.join(timeout=0.05)
    assert not left, f"threads left behind: {[thread.name for thread in left]}"
