"""Tokenizing and decoding of misses, in threads, before they queue for the device."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import structlog

from embedder.encoders.base import Preparing
from embedder.engine.contents import Lane, PreparedContent
from embedder.engine.cost_model import CostModel
from embedder.engine.single_flight import Flight
from embedder.errors import EmbedderError, InvalidContent, UnsupportedModality
from embedder.media.limits import MediaLimits
from embedder.media.text import validate_text
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)

# The Rust tokenizer takes texts in chunks; a chunk is short enough that the device starts on the first while the next is tokenized.
# One of bulk work is shorter, since an interactive text that comes meanwhile waits for its end.
_TEXTS_PER_CHUNK = {Lane.INTERACTIVE: 64, Lane.BULK: 16}


class Preparer:
    """Turns the contents of new flights into token ids and pixels; a bad content fails alone."""

    def __init__(
        self,
        encoder: Preparing,
        *,
        limits: MediaLimits,
        cost_model: CostModel,
        threads: int,
        decode_threads: int,
        on_ready: Callable[[list[Flight]], None],
        on_failed: Callable[[Flight, EmbedderError], None],
    ) -> None:
        self._encoder = encoder
        self._limits = limits
        self._cost_model = cost_model
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="prepare")
        self._threads = threads
        self._texts: dict[Lane, deque[Flight]] = {lane: deque() for lane in Lane}
        self._texts_lock = threading.Lock()
        self._takers = 0
        # Apart, so that texts never wait behind a file that is slow to decode.
        self._decode_pool = ThreadPoolExecutor(max_workers=decode_threads, thread_name_prefix="decode")

    def submit(self, flights: Sequence[Flight]) -> None:
        """Start preparing; each flight is handed to `on_ready` or `on_failed`, once."""
        texts: list[Flight] = []
        ready: list[Flight] = []
        for flight in flights:
            modality = flight.item.modality
            payload = flight.item.payload
            if isinstance(payload, PreparedContent):
                flight.prepared, flight.units, flight.prepare_s = payload.prepared, payload.units, payload.prepare_s
                ready.append(flight)
            elif modality is None or modality not in self._encoder.info.modalities:
                known = ", ".join(sorted(self._encoder.info.modalities))
                self._on_failed(
                    flight, UnsupportedModality(f"the space's encoder understands {known}; given was {modality}")
                )
            elif modality is Modality.TEXT:
                texts.append(flight)
            elif isinstance(payload, np.ndarray):  # a video's frame, decoded with its video
                flight.prepared, flight.units = payload, 1.0
                ready.append(flight)
            else:
                self._decode_pool.submit(self._prepare_image, flight)
        if ready:
            self._queue(ready)
        self._submit_texts(texts)

    def _submit_texts(self, texts: list[Flight]) -> None:
        """Queue texts of any call together: what waits for a thread is tokenized in one go, interactive texts before bulk ones."""
        if not texts:
            return
        with self._texts_lock:
            for flight in texts:
                self._texts[flight.lane].append(flight)
            chunks = sum(-(-len(waiting) // _TEXTS_PER_CHUNK[lane]) for lane, waiting in self._texts.items())
            takers = min(self._threads, chunks) - self._takers
            self._takers += max(0, takers)
        for _ in range(takers):
            self._pool.submit(self._take_texts)

    def _take_texts(self) -> None:
        while True:
            with self._texts_lock:
                lane = next((lane for lane, waiting in self._texts.items() if waiting), None)
                if lane is None:
                    self._takers -= 1
                    return
                waiting = self._texts[lane]
                chunk = [waiting.popleft() for _ in range(min(_TEXTS_PER_CHUNK[lane], len(waiting)))]
            self._prepare_texts(chunk)

    def close(self) -> None:
        """Let running preparations end, and start no other."""
        for pool in (self._pool, self._decode_pool):
            pool.shutdown(wait=True, cancel_futures=True)

    def _prepare_texts(self, flights: list[Flight]) -> None:
        start = time.perf_counter()
        valid: list[Flight] = []
        for flight in flights:
            try:
                validate_text(_text_of(flight), self._limits)
                valid.append(flight)
            except InvalidContent as error:
                self._on_failed(flight, error)
        if not valid:
            return
        try:
            token_ids = self._encoder.prepare_texts([_text_of(flight) for flight in valid])
        except Exception as error:  # noqa: BLE001 - whatever the tokenizer raises, its texts are answered
            _log.exception("tokenizer failed", items=len(valid))
            for flight in valid:
                self._on_failed(flight, InvalidContent(f"the text could not be tokenized: {error}"))
            return
        elapsed = time.perf_counter() - start
        for flight, tokens in zip(valid, token_ids, strict=True):
            flight.prepared = tokens
            flight.units = float(len(tokens))
            flight.prepare_s = elapsed
            if 0 < len(tokens) < self._encoder.info.max_tokens:
                self._cost_model.learn_tokens(text_bytes=len(_text_of(flight)), tokens=len(tokens))
        self._queue(valid)

    def _prepare_image(self, flight: Flight) -> None:
        start = time.perf_counter()
        assert isinstance(flight.item.payload, bytes)
        try:
            flight.prepared = self._encoder.prepare_image(flight.item.payload)
        except EmbedderError as error:
            self._on_failed(flight, error)
            return
        except Exception as error:  # noqa: BLE001 - decoders raise types of their own, and the sender must be answered
            _log.warning("decoder failed", error=repr(error))
            self._on_failed(flight, InvalidContent(f"the image could not be decoded: {error}"))
            return
        flight.units = 1.0
        flight.prepare_s = time.perf_counter() - start
        self._queue([flight])

    def _queue(self, flights: list[Flight]) -> None:
        now = time.monotonic()
        for flight in flights:
            flight.ready_at = now
        self._on_ready(flights)


def _text_of(flight: Flight) -> str:
    assert isinstance(flight.item.payload, str)
    return flight.item.payload
