"""A real daemon as a child process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from embedder.demo.daemon import running_daemon


@pytest.fixture
def start_daemon(tmp_path: Path) -> Callable[..., AbstractContextManager[str]]:
    """Return a function that starts embedder-serve on this test's own folder; its context ends it."""

    def start(*flags: str) -> AbstractContextManager[str]:
        return running_daemon(tmp_path / "service", flags)

    return start
