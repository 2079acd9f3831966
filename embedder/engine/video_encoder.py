"""Videos: decoded once, their frames encoded as contents of their own, and pooled."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import structlog

from embedder.encoders.base import Preparing
from embedder.engine.contents import ContentItem, EmbedOptions, EmbedOutcome, HalfVectors
from embedder.engine.lookup_engine import LookupEngine
from embedder.engine.ticket import Ticket
from embedder.engine.timeline import Timeline, Timelines, pool
from embedder.engine.video_flight import EncodedVideo, VideoFlight, VideoSettings
from embedder.engine.video_frames import decode_frames
from embedder.engine.wholes import store_whole
from embedder.errors import EmbedderError, EncoderError, InvalidContent, Overloaded, Unavailable, UnsupportedModality
from embedder.media.decoding.job import Decoder
from embedder_cache import CacheTier, SpaceKey
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)

# Frames that are handed to the device together: a batch's worth, so that it encodes some while the next are decoded.
_FRAMES_PER_CALL = 16
_RETRY_MS = 1_000


class VideoEncoder:
    """Understands videos through an engine. Thread-safe; each video that is under way has a thread, which waits for its decoder."""

    def __init__(
        self,
        engine: LookupEngine,
        encoder: Preparing,
        *,
        cache: CacheTier,
        space: SpaceKey,
        decoder: Decoder,
        settings: VideoSettings,
    ) -> None:
        """Make an encoder of videos.

        Args:
            engine: encodes the frames.
            encoder: brings frames to the model's size.
            cache: holds the pooled vectors.
            space: their key range; it is of the sampling.
            decoder: runs the decode jobs.
            settings: which frames, how many videos at once.
        """
        self.settings = settings
        self.space = space
        self.timelines = Timelines(max_bytes=settings.timeline_bytes)
        self._engine = engine
        self._encoder = encoder
        self._cache = cache
        self._decoder = decoder
        self._flights: dict[bytes, VideoFlight] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_workers=settings.workers, thread_name_prefix="prepare_video")

    def start(self, items: Sequence[ContentItem], options: EmbedOptions) -> list[VideoFlight]:
        """Start videos, or join those that are under way; returns a flight for each.

        Raises:
            Overloaded: too many wait already; none was started.
        """
        with self._lock:
            fresh = {item.content_hash for item in items} - self._flights.keys()
            waiting = len(self._flights) - self.settings.workers
            if fresh and waiting >= self.settings.max_waiting:
                raise Overloaded(
                    f"{waiting} videos wait to be decoded; allowed are {self.settings.max_waiting}",
                    retry_after_ms=_RETRY_MS,
                )
            flights = [self._flights.get(item.content_hash) or self._open(item, options) for item in items]
            for flight in flights:
                if flight.options.deadline < options.deadline:
                    flight.options = replace(flight.options, deadline=options.deadline)
            return flights

    def frames_of(self, content_hash: bytes) -> tuple[Timeline, HalfVectors] | None:
        """Return a known video's frames and their vectors, (n, dim) float16, if all of them are held."""
        timeline = self.timelines.get(content_hash)
        if timeline is None:
            return None
        held = self._cache.get_many(self._engine.space, timeline.hashes)
        return (timeline, held.vectors) if held.found.all() else None

    def close(self) -> None:
        """Let running videos end, and start no other."""
        with self._lock:
            waiting = list(self._flights.values())
        for flight in waiting:
            flight.options = replace(flight.options, deadline=0.0)  # those that have not begun end at once
        self._pool.shutdown(wait=True)

    def _open(self, item: ContentItem, options: EmbedOptions) -> VideoFlight:
        flight = VideoFlight(item, options)
        self._flights[item.content_hash] = flight
        try:
            self._pool.submit(self._run, flight)
        except RuntimeError as error:
            del self._flights[item.content_hash]
            raise Unavailable("the engine is shutting down") from error
        return flight

    def _run(self, flight: VideoFlight) -> None:
        try:
            encoded = self._encode(flight)
        except EmbedderError as error:
            self._close(flight)
            flight.future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises, its sender is answered
            _log.exception("video failed")
            self._close(flight)
            flight.future.set_exception(EncoderError(f"internal error while encoding a video: {error!r}"))
        else:
            flight.future.set_result(encoded)
            # Known to be under way until its vector is visible: no call decodes it in between.
            encoded.stored.add_done_callback(lambda _: self._close(flight))

    def _close(self, flight: VideoFlight) -> None:
        with self._lock:
            self._flights.pop(flight.item.content_hash, None)

    def _encode(self, flight: VideoFlight) -> EncodedVideo:
        if Modality.IMAGE not in self._encoder.info.modalities:
            raise UnsupportedModality("the space's encoder understands no images, and so no videos")
        asked_at = time.time()
        start = time.perf_counter()
        time_s: list[float] = []
        calls: list[tuple[list[ContentItem], Ticket]] = []
        batch: list[ContentItem] = []
        end_s = 0.0
        with closing(
            decode_frames(flight, self._encoder, decoder=self._decoder, settings=self.settings)
        ) as frames_of_video:
            for facts, item in frames_of_video:
                time_s.append(facts["time_ms"] / 1_000)
                end_s = facts.get("end_ms", 0) / 1_000
                batch.append(item)
                if len(batch) == _FRAMES_PER_CALL:
                    calls.append((batch, self._start_patiently(batch, flight)))
                    batch = []
        prepare_s = time.perf_counter() - start
        if batch:
            calls.append((batch, self._start_patiently(batch, flight)))
        outcomes = [
            self._outcome(items, ticket, time_s[number * _FRAMES_PER_CALL :])
            for number, (items, ticket) in enumerate(calls)
        ]
        hashes = b"".join([item.content_hash for items, _ in calls for item in items])
        timeline = Timeline(np.array(time_s), max(end_s, time_s[-1]), hashes)
        frames = np.concatenate([outcome.vectors for outcome in outcomes])  # (n, dim)
        vector = pool(frames).astype(np.float16)
        self.timelines.put(flight.item.content_hash, timeline)
        return EncodedVideo(
            vector=vector,
            timeline=timeline,
            frames=frames,
            sources=np.concatenate([outcome.sources for outcome in outcomes]),
            device_seconds=sum(outcome.device_seconds for outcome in outcomes),
            prepare_s=prepare_s,
            stored=store_whole(self._cache, self.space, flight.item.content_hash, vector, asked_at=asked_at),
        )

    def _start_patiently(self, items: list[ContentItem], flight: VideoFlight) -> Ticket:
        """Start frames; while the queue is full, wait: their call was let in before they were known."""
        while True:
            flight.check_deadline()
            try:
                return self._engine.start(items, flight.options)
            except Overloaded as error:
                if time.monotonic() + error.retry_after_ms / 1_000 > flight.options.deadline:
                    raise
                time.sleep(error.retry_after_ms / 1_000)

    def _outcome(self, items: list[ContentItem], ticket: Ticket, time_s: Sequence[float]) -> EmbedOutcome:
        ticket.wait()
        for index, error in sorted(ticket.failures.items()):
            if isinstance(error, InvalidContent):
                raise InvalidContent(f"the frame at {time_s[index]:.3f} s: {error}") from error
            raise error
        return self._engine.outcome(ticket, items)
