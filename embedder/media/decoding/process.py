"""One decode worker as its parent sees it: started, given jobs, and ended when it misbehaves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

from embedder.errors import EmbedderError, InvalidContent, Unavailable
from embedder.media.decoding.giving_way import BASE_NICENESS, STEPS, give_way
from embedder.media.decoding.job import Decoded, DecodeJob
from embedder.media.decoding.slot import DecodeSlot
from embedder.media.decoding.worker import MESSAGE_BYTES

_START_TIMEOUT_S = 60.0
_SEND_TIMEOUT_S = 10.0  # it waits for every message: this is one that was stopped
_MESSAGE_CHARACTERS = 1_000
# What a worker sees of the environment; above all no token or key of the service.
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")


class WorkerProcess:
    """A worker process and its slot; used by one thread at a time.

    Started by exec, never by a bare fork: gRPC's and torch's threads are not copied into it. It ends when the socket closes, so it
    never outlives its parent, however that ends.
    """

    def __init__(self, *, file_bytes: int, pixel_bytes: int) -> None:
        """Start a worker for files and pixels of at most these sizes; returns before it is ready.

        Raises:
            OSError: the process can't be started.
        """
        self._slot = DecodeSlot.create(file_bytes=file_bytes, pixel_bytes=pixel_bytes)
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            arguments = (theirs.fileno(), self._slot.fd, file_bytes, pixel_bytes)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "embedder.media.decoding.worker", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=arguments[:2],
                env=_environment(),
            )
        except OSError:
            self._slot.close()
            self._connection.close()
            raise
        finally:
            theirs.close()
        # From its first instruction on: where it is started in another's place, its imports are not to cost the device anything.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.pid, os.getpriority(os.PRIO_PROCESS, 0) + BASE_NICENESS)
        self._is_ready = False
        self._is_idle = True
        self._largest = 0
        self._worked_s = 0.0
        self._steps: list[tuple[float, int]] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def is_usable(self) -> bool:
        """Whether it lives and waits for a job."""
        return self._is_idle and self._process.poll() is None

    def run(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        """Run a job; see `embedder.media.decoding.job.Decoder`. Afterwards `is_usable` says whether it may be given another."""
        if len(job.data) > self._slot.file_bytes:
            raise InvalidContent(f"the file has {len(job.data)} bytes; the decoder takes {self._slot.file_bytes}")
        self._is_idle = False
        self._wait_until_ready()
        self._slot.write_file(job.data)
        self._largest = 0
        try:
            yield from self._pictures(job)
        finally:
            self._slot.empty(file_bytes=len(job.data), pixel_bytes=self._largest)

    def close(self) -> None:
        """Let the worker end, or end it where it is at work; wait for it."""
        self._connection.close()
        if not self._is_idle:
            self._process.kill()
        try:
            self._process.wait(_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._slot.close()

    def _pictures(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        message = json.dumps(job.request()).encode()
        self._worked_s, self._steps = 0.0, list(STEPS)
        while True:
            answer = self._ask(message, job)
            if "end" in answer:
                self._is_idle = answer["end"] != "memory"
                if answer["end"] != "done":
                    raise _told(answer, job)
                return
            decoded = self._decoded(answer)
            self._largest = max(self._largest, decoded.pixels.size)
            self._is_idle = decoded.is_last
            try:
                yield decoded
            except GeneratorExit:
                if not decoded.is_last:
                    self._is_idle = self._ask(b"stop", job).get("end") == "done"
                raise
            if decoded.is_last:
                return
            message = b"next"

    def _wait_until_ready(self) -> None:
        if self._is_ready:
            return
        try:
            self._connection.settimeout(_START_TIMEOUT_S)
            self._is_ready = self._connection.recv(MESSAGE_BYTES) == b"ready"
        except OSError:
            self._is_ready = False
        if not self._is_ready:
            self._process.kill()
            raise Unavailable("a decode worker could not be started; the service's standard error says more")

    def _ask(self, message: bytes, job: DecodeJob) -> dict[str, Any]:
        """Send a message and return the answer to it."""
        try:
            self._connection.settimeout(_SEND_TIMEOUT_S)
            self._connection.send(message)
            answer = self._wait(job)
        except TimeoutError:
            self._process.kill()
            limit = getattr(job.limits, job.wall_limit)
            raise job.limits.exceeded(
                job.wall_limit, limit, f"and decoding the {job.kind} had not ended then"
            ) from None
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        try:
            if answer:
                told = json.loads(answer)
                if isinstance(told, dict):
                    return told
        except ValueError:
            self._process.kill()
        raise self._died(job)

    def _wait(self, job: DecodeJob) -> bytes:
        """Wait for the worker to answer, and have it give way meanwhile; raises TimeoutError beyond the job's limit.

        Only the worker's own time counts: what is done with a picture is not the file's doing.
        """
        limit_s = getattr(job.limits, job.wall_limit) / 1000
        start = time.monotonic() - self._worked_s
        try:
            while True:
                until_s = min(limit_s, self._steps[0][0]) if self._steps else limit_s
                self._connection.settimeout(max(0.001, start + until_s - time.monotonic()))
                try:
                    return self._connection.recv(MESSAGE_BYTES)
                except TimeoutError:
                    if not self._steps or until_s >= limit_s:
                        raise
                    give_way(self.pid, self._steps.pop(0)[1])
        finally:
            self._worked_s = time.monotonic() - start

    def _died(self, job: DecodeJob) -> EmbedderError:
        """Wait for the end of a worker that broke off, and say what it died of."""
        try:
            code = self._process.wait(_START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        if code == -signal.SIGPROF:
            limit = getattr(job.limits, job.cpu_limit)
            return job.limits.exceeded(job.cpu_limit, limit, f"and decoding the {job.kind} had not ended then")
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return InvalidContent(f"the {job.kind} can't be decoded: its decoder crashed ({cause})")

    def _decoded(self, answer: dict[str, Any]) -> Decoded:
        """Read a picture's message; what a worker says is not trusted further than its own item."""
        height, width, facts = answer.get("height"), answer.get("width"), answer.get("facts")
        if not (isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0):
            self._process.kill()
            raise InvalidContent("the file can't be decoded: its decoder gave no pixels")
        pixels = self._slot.pixels(height, width)
        if not pixels.size:
            self._process.kill()
            raise InvalidContent("the file can't be decoded: its decoder gave more pixels than it may")
        return Decoded(pixels, facts if isinstance(facts, dict) else {}, answer.get("last") is True)


def _told(answer: dict[str, Any], job: DecodeJob) -> EmbedderError:
    """Return the error that a worker told."""
    message = str(answer.get("message", ""))[:_MESSAGE_CHARACTERS]
    if answer["end"] == "memory":
        limit = getattr(job.limits, job.memory_limit)
        return job.limits.exceeded(job.memory_limit, limit, f"and decoding the {job.kind} took more")
    if answer["end"] == "limit" and isinstance(given := answer.get("given"), int):
        field = str(answer.get("field"))
        if hasattr(job.limits, field):
            return job.limits.exceeded(field, given, message.partition(", ")[2])
    return InvalidContent(message)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OPENBLAS_NUM_THREADS": "1",  # numpy's threads would reserve address space and compute nothing here
        "MALLOC_ARENA_MAX": "1",  # likewise
    }
