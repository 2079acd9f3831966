"""A decode job: one file, what is asked of it, and what it may cost; and the decoders that run jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from embedder.media.limits import MediaLimits

Frame = npt.NDArray[np.uint8]
Allocate = Callable[[int, int], Frame]
"""(height, width) to (height, width, 3) uint8 to decode into: in shared memory where another process waits for it."""

_KEPT_BYTES = 4 << 20

JOBS: Mapping[str, str] = {
    "image": "embedder.media.image_job:run_image_job",
    "video": "embedder.media.video_job:run_video_job",
}
"""Each kind of job to the function that runs it, as `module:function`; imported where and when it first runs.

A function takes (data, limits, options, allocate), yields `Decoded` and may raise anything: `InvalidContent` and
`LimitExceeded` are told as they are, everything else as a corrupt file.
"""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """One file to decode.

    Attributes:
        kind: a key of `JOBS`.
        data: the whole file.
        limits: what the file may cost; applied by the job's function, and around it.
        options: the function's own; strings, numbers, booleans and None, since they travel as JSON.
        cpu_limit: which of the limits bounds the processor milliseconds.
        wall_limit: which of the limits bounds the milliseconds from start to end.
        memory_limit: which of the limits bounds the bytes of memory.
    """

    kind: str
    data: bytes
    limits: MediaLimits
    options: Mapping[str, Any] = field(default_factory=dict)
    cpu_limit: str = "max_decode_cpu_ms"
    wall_limit: str = "max_decode_ms"
    memory_limit: str = "max_decode_memory_bytes"

    def request(self) -> dict[str, Any]:
        """Return what a worker must know beside the file, for JSON."""
        return {
            "kind": self.kind,
            "length": len(self.data),
            "limits": asdict(self.limits),
            "options": dict(self.options),
            "cpu_ms": getattr(self.limits, self.cpu_limit),
            "memory_bytes": getattr(self.limits, self.memory_limit),
        }


@dataclass(frozen=True, slots=True)
class Decoded:
    """One picture that a job gave: an image, or a frame.

    Attributes:
        pixels: (height, width, 3) uint8, RGB, upright; valid until the next one is asked for.
        facts: what else is known of it; strings, numbers, booleans and None.
        is_last: whether the job gives no further one.
    """

    pixels: Frame
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_last: bool = False


class Decoder(Protocol):
    """Runs decode jobs. Thread-safe."""

    def run(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        """Run a job, picture by picture; close the iterator to end it early.

        Raises:
            InvalidContent: the file can't be decoded.
            LimitExceeded: it costs more than its limits allow.
            Unavailable: the decoder is closed.
        """
        ...


class InlineDecoder:
    """Runs jobs in the calling thread: limits on headers hold, those on memory and time do not."""

    def __init__(self) -> None:
        self._kept = threading.local()

    def run(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        """Run a job; see `Decoder`."""
        for decoded in job_function(job.kind)(job.data, job.limits, job.options, self._allocate):
            yield decoded
            if decoded.is_last:
                return

    def _allocate(self, height: int, width: int) -> Frame:
        """Return memory that this thread decoded to before, where it is enough: new memory costs a tenth of a decode."""
        length = height * width * 3
        if length > _KEPT_BYTES:
            return np.empty((height, width, 3), np.uint8)
        kept: Frame | None = getattr(self._kept, "pixels", None)
        if kept is None:
            kept = self._kept.pixels = np.empty(_KEPT_BYTES, np.uint8)
        return kept[:length].reshape(height, width, 3)


@cache
def job_function(kind: str) -> Callable[[Any, MediaLimits, Mapping[str, Any], Allocate], Iterator[Decoded]]:
    """Import the function of a kind of job."""
    module, _, name = JOBS[kind].partition(":")
    function: Callable[[Any, MediaLimits, Mapping[str, Any], Allocate], Iterator[Decoded]] = getattr(
        import_module(module), name
    )
    return function
