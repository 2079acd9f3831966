"""Something that is done again and again while the service runs."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Periodic:
    """Does something at a steady pause, in a thread of its own, from `start` to `stop`."""

    def __init__(self, action: Callable[[], None], *, pause_s: float, name: str) -> None:
        """Prepare; nothing runs yet.

        Args:
            action: what to do; it outlives its own errors.
            pause_s: from one end to the next start.
            name: of the thread.
        """
        self._action = action
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Do it now, and again after each pause."""
        self._thread.start()

    def stop(self) -> None:
        """Do it no more, and wait for what is being done."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._action()
            self._stop.wait(self._pause_s)
