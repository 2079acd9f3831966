"""Threads that compute step back for those that answer callers."""

from __future__ import annotations

import os
import threading

import structlog

_log = structlog.get_logger(__name__)

_NICE = 5


def yield_to_callers() -> None:
    """Let the threads that answer calls go first when cores are short: hits and refusals cost microseconds, a batch does not notice.

    On Linux a thread has a nice value of its own, and the threads that it starts inherit it; elsewhere nothing happens.
    """
    if hasattr(os, "sched_getaffinity"):
        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        except OSError as error:
            _log.debug("a computing thread keeps its priority", error=str(error))
