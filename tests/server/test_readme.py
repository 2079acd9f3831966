"""The README's client example runs as written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Running

README = Path(__file__).resolve().parents[2] / "README.md"


def test_client_example_runs_as_written(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert example is not None
    code = example[1]
    assert "127.0.0.1:50051" in code
    exec(compile(code.replace("127.0.0.1:50051", running.target), "README.md", "exec"), {"__name__": "__main__"})
    shown = capsys.readouterr().out
    assert "(2, 384) float16" in shown
    assert "0.0" in shown
    assert "encoded" in shown
