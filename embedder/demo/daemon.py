"""Starts and stops a real embedder-serve as a child process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from embedder.errors import ConfigurationError

_START_TIMEOUT_S = 180
_STOP_TIMEOUT_S = 60


@contextmanager
def running_daemon(data_dir: Path, flags: Sequence[str] = ()) -> Iterator[str]:
    """Run embedder-serve on a free port of loopback; gives its address once it says that it serves.

    What it says is kept in `data_dir`/daemon.log. It is told to drain, and waited for, at the end.

    Raises:
        ConfigurationError: it ended before it served; its last words are in the message.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "embedder.cli.serve"),
        *("--listen-address", "127.0.0.1:0", "--data-dir", str(data_dir), "--log-format", "json", *flags),
    ]
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address: Future[str] = Future()
    reader = threading.Thread(target=_read_log, args=(daemon, data_dir / "daemon.log", address), name="daemon-log")
    reader.start()
    try:
        yield address.result(_START_TIMEOUT_S)
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(_STOP_TIMEOUT_S)
        finally:
            daemon.kill()  # does nothing to one that has ended
            reader.join(_STOP_TIMEOUT_S)


def _read_log(daemon: subprocess.Popen[str], log: Path, address: Future[str]) -> None:
    """Copy what the daemon says into a file, until it ends, and note the address that it serves on."""
    said: deque[str] = deque(maxlen=5)
    assert daemon.stderr is not None
    with daemon.stderr, log.open("a") as file:
        for line in daemon.stderr:
            file.write(line)
            file.flush()
            said.append(line.strip())
            if not address.done() and line.startswith("{") and (event := json.loads(line)).get("event") == "serving":
                address.set_result(event["address"])
    if not address.done():
        address.set_exception(ConfigurationError("embedder-serve did not start; it said: " + " | ".join(said)))
