"""What the supervisor makes of what its processes say."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path

import pytest

from embedder.config import load_settings
from embedder.errors import ConfigurationError
from embedder.server.processes.control import Ready
from embedder.server.processes.supervisor import Supervisor


def test_engines_of_two_spaces_are_refused(tmp_path: Path) -> None:
    told, _ = Pipe(duplex=False)
    settings = load_settings(devices="cpu,cpu", listen_address="127.0.0.1:0", data_dir=tmp_path)
    supervisor = Supervisor(settings, stop=told)
    first, second = supervisor.engines
    try:
        supervisor._welcome(first, Ready({"digest": "aa" * 32}, b""))
        with pytest.raises(ConfigurationError, match=r"different spaces.*--precision"):
            supervisor._welcome(second, Ready({"digest": "bb" * 32}, b""))
        supervisor._welcome(second, Ready({"digest": "aa" * 32}, b""))
        assert first.is_ready
        assert second.is_ready
    finally:
        supervisor._close()
