"""A decode worker: a process that decodes files from strangers, one at a time, within limits.

Started by `embedder.media.decoding.process`. It talks JSON over its socket, gets each file and leaves its pixels in the slot, and ends
when the socket is closed. It imports no torch and no gRPC, so that it starts in a tenth of a second, and holds no secret of the
service.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from embedder.errors import InvalidContent, LimitExceeded
from embedder.media.decoding.giving_way import JobThread
from embedder.media.decoding.job import Decoded, Frame, job_function
from embedder.media.decoding.slot import DecodeSlot
from embedder.media.limits import MediaLimits

MESSAGE_BYTES = 64 << 10
_MAX_OPEN_FILES = 64


class DecodeWorker:
    """Takes jobs off the socket until it is closed."""

    def __init__(self, connection: socket.socket, slot: DecodeSlot) -> None:
        self._connection = connection
        self._slot = slot
        self._thread = JobThread()
        self._kinds: set[str] = set()
        self._base_bytes = 0

    def serve(self) -> None:
        """Answer jobs; returns when the parent is gone."""
        while request := self._connection.recv(MESSAGE_BYTES):
            self._thread.run(partial(self._answer, request))

    def _answer(self, request: bytes) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the parent is gone, which the next read tells
            self._send(self._run(json.loads(request)))

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run one job; returns the message that ends it."""
        results: Iterator[Decoded] | None = None
        try:
            function = job_function(request["kind"])
            self._limit(request)
            file = self._slot.read_file(request["length"])
            results = function(file, MediaLimits(**request["limits"]), request["options"], self._slot.pixels)
            for decoded in results:
                message = self._place(decoded)
                if decoded.is_last:
                    return message
                self._send(message)
                if self._connection.recv(MESSAGE_BYTES) != b"next":
                    break
            return {"end": "done"}
        except LimitExceeded as error:
            return {
                "end": "limit",
                "message": str(error),
                "field": error.field,
                "limit": error.limit,
                "given": error.given,
            }
        except MemoryError:
            return {"end": "memory"}
        except InvalidContent as error:
            return {"end": "invalid", "message": str(error)}
        except Exception as error:  # noqa: BLE001 - on hostile bytes the decoders raise a dozen unrelated types
            return {"end": "invalid", "message": f"the file can't be decoded: {error!r}"[:1000]}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _limit(self, request: Mapping[str, Any]) -> None:
        """Hold the job to its memory and processor time; beyond the latter the process dies by SIGPROF."""
        if request["kind"] not in self._kinds:  # what its libraries take is not the file's doing
            self._kinds.add(request["kind"])
            self._base_bytes = _address_space_bytes()
        most = self._base_bytes + request["memory_bytes"]
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, request["cpu_ms"] / 1000)

    def _place(self, decoded: Decoded) -> dict[str, Any]:
        """Have a picture's pixels in the slot, and return the message that says so."""
        height, width = decoded.pixels.shape[:2]
        place = self._slot.pixels(height, width)
        if place.shape != decoded.pixels.shape:
            raise InvalidContent(f"{width} x {height} pixels are more than the service takes")
        if not _is_same(place, decoded.pixels):
            place[...] = decoded.pixels
        return {"height": height, "width": width, "facts": dict(decoded.facts), "last": decoded.is_last}

    def _send(self, message: Mapping[str, Any]) -> None:
        self._connection.send(json.dumps(message).encode())


def _is_same(place: Frame, pixels: Frame) -> bool:
    return bool(place.ctypes.data == pixels.ctypes.data and place.strides == pixels.strides)


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def _harden() -> None:
    """Leave to this process only what decoding needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the socket
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    warnings.simplefilter("ignore")  # decoders warn of what strangers send, on standard error too
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def main() -> None:
    """Serve the parent that started this process."""
    connection_fd, slot_fd, file_bytes, pixel_bytes = map(int, sys.argv[1:])
    _harden()
    slot = DecodeSlot(slot_fd, file_bytes=file_bytes, pixel_bytes=pixel_bytes)
    connection = socket.socket(fileno=connection_fd)
    try:
        connection.send(b"ready")
        DecodeWorker(connection, slot).serve()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    # Without the interpreter's own end: a decoder that damaged its memory must not hang there.
    os._exit(0)


if __name__ == "__main__":
    main()
