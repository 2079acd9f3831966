"""Finds programs that pip can't bring; `tests/programs.sh` installs them."""

from __future__ import annotations

import os
import shutil

import pytest


def find_program(*names: str) -> str:
    """Return the path of the first program that is installed; without one, skip the test, or fail it where CI is set."""
    for name in names:
        if path := shutil.which(name):
            return path
    words = f"{' or '.join(names)} is not installed: tests/programs.sh installs it on Debian, as root"
    if os.environ.get("CI"):
        pytest.fail(words)
    pytest.skip(words)
