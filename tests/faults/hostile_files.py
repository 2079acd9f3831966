"""Hostile files through a real daemon, each beside good contents of another client; `python -m benchmarks.hostile` sends 1,000.

For each file, a neighbour sends the same kind of call twice: once alone, and once while the file is being looked at (which of
the two comes first changes from file to file). A neighbour's call has 63 contents: 57 that are cached, and 3 texts and
3 pictures that must be encoded. All its vectors must be right; the file must get one vector or one clear error; the service
must live; and its memory, workers included, must stay under the stated bound.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, count

import numpy as np
import psutil
from PIL import Image
from rich.progress import track

from embedder.config import ServeSettings
from embedder.media.image_job import MAX_HANDED_PIXELS
from embedder_client import Client, Video
from tests.faults.hostile_images import HostileFile, hostile_images
from tests.faults.hostile_videos import hostile_videos

_CACHED, _NEW_TEXTS, _NEW_PICTURES = 57, 3, 3
_MIN_COSINE = 0.999
_CLEAR = {"INVALID_CONTENT", "LIMIT_EXCEEDED"}
_SAMPLE_S = 0.05


@dataclass
class Found:
    """What a run met; times in seconds, one for each file in the order in which they were sent."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unclear: list[str] = field(default_factory=list)
    wrong_vectors: int = 0
    alone_s: list[float] = field(default_factory=list)
    beside_s: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    start_bytes: int = 0
    peak_bytes: int = 0
    bound_bytes: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether everything was as it should be, times aside."""
        return not self.unclear and not self.wrong_vectors and self.peak_bytes <= self.bound_bytes

    def p99_s(self, *, rounds: int) -> tuple[list[float], list[float]]:
        """Return a neighbour's 99th percentile without hostile files and beside them, round by round."""
        alone, beside = (
            [float(np.percentile(part, 99)) for part in np.array_split(np.array(times), rounds)]
            for times in (self.alone_s, self.beside_s)
        )
        return alone, beside


class Neighbour:
    """A client with good contents: whatever it asks for, it knows what the answer must be."""

    def __init__(self, address: str) -> None:
        self._client = Client(address)
        self._cached = [f"A sentence that is known, number {number}." for number in range(_CACHED)]
        self._texts = [f"News of day {number}: nothing much happened." for number in range(_NEW_TEXTS)]
        self._pictures = [_picture(number) for number in range(_NEW_PICTURES)]
        self._serial = count()
        self._expected = self._embed([*self._cached, *self._texts, *self._pictures])
        self._client.embed(self._cached)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ask(self) -> tuple[float, int]:
        """Send one call; returns its seconds, and how many of its vectors are wrong."""
        serial = next(self._serial)
        # Another name for the same content: spaces at a text's end and a picture's comment change its hash alone.
        texts = [text + " " * (serial + 1) for text in self._texts]
        pictures = [_commented(picture, serial) for picture in self._pictures]
        start = time.perf_counter()
        vectors = self._embed([*self._cached, *texts, *pictures])
        seconds = time.perf_counter() - start
        return seconds, int((np.sum(vectors * self._expected, axis=1) < _MIN_COSINE).sum())

    def _embed(self, contents: Sequence[str | bytes]) -> np.ndarray:
        result = self._client.embed(contents)
        assert not result.failures, result.failures
        return np.asarray(result.vectors, np.float32)


class MemoryWatch:
    """Samples the memory of a process and its children."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._stop = threading.Event()
        self.peak_bytes = self.start_bytes = self._sample()
        self._thread = threading.Thread(target=self._run, name="memory-watch")
        self._thread.start()

    def stop(self) -> None:
        """Stop sampling."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, self._sample())

    def _sample(self) -> int:
        total = 0
        for process in (self._process, *self._process.children()):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:  # a worker that was replaced
                continue
        return total


def memory_bound(start_bytes: int, settings: ServeSettings) -> int:
    """Return the most memory that decoding may bring the service to: what each worker may take, twice what it shares, and the calls' bytes.

    Files and pixels in shared memory count in both processes that map them.
    """
    image = settings.max_decode_memory_bytes + 2 * 3 * MAX_HANDED_PIXELS + 2 * settings.max_image_bytes
    video = settings.max_video_memory_bytes + 2 * 3 * settings.max_video_pixels + 2 * settings.max_video_bytes
    return start_bytes + settings.decode_workers * image + settings.video_workers * video + (256 << 20)


def hostile_files(seed: int) -> Iterator[HostileFile]:
    """Yield images and videos in turns, without end; equal seeds give equal files."""
    return chain.from_iterable(zip(hostile_images(seed), hostile_videos(seed), strict=True))


def run(address: str, process: psutil.Process, files: Sequence[HostileFile]) -> Found:
    """Send each file beside a neighbour's call."""
    found = Found()
    neighbour = Neighbour(address)
    for _ in range(3):
        neighbour.ask()
    watch = MemoryWatch(process)
    found.start_bytes, found.bound_bytes = watch.start_bytes, memory_bound(watch.start_bytes, ServeSettings())
    try:
        with Client(address) as stranger, ThreadPoolExecutor(1) as sender:
            for number, file in enumerate(track(files, "hostile files", disable=not sys.stderr.isatty())):
                for beside in (number % 2 == 0, number % 2 == 1):
                    sent = sender.submit(_send, stranger, file) if beside else None
                    seconds, wrong = neighbour.ask()
                    found.wrong_vectors += wrong
                    (found.beside_s if beside else found.alone_s).append(seconds)
                    if sent is not None:
                        _note(found, file, sent.result())
                found.kinds.append(file.kind)
    finally:
        watch.stop()
        neighbour.close()
    found.peak_bytes = watch.peak_bytes
    return found


def _send(client: Client, file: HostileFile) -> str:
    """Send one file; returns `vector`, the reason of its error, or what else happened."""
    result = client.embed([Video(file.data) if file.is_video else file.data])
    if not result.failures:
        return "vector"
    failure = result.failures[0]
    is_clear = failure.code == "INVALID_ARGUMENT" and failure.message.strip()
    return failure.reason if is_clear else f"{failure.code} {failure.reason} {failure.message!r}"


def _note(found: Found, file: HostileFile, outcome: str) -> None:
    found.outcomes[outcome] += 1
    if outcome != "vector" and outcome not in _CLEAR:
        found.unclear.append(f"{file.kind}: {outcome}")


def _picture(number: int) -> bytes:
    rows, columns = np.mgrid[0:240, 0:320]
    waves = 60 * np.sin(columns / (5 + number)) * np.cos(rows / (3 + number))
    pixels = np.stack([columns / 2 + waves, rows / 2 - waves, (rows + columns) / 4 + waves], axis=-1)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _commented(jpeg: bytes, serial: int) -> bytes:
    return jpeg[:2] + b"\xff\xfe\0\x0a" + serial.to_bytes(8, "big") + jpeg[2:]
