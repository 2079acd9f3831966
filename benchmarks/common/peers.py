"""Peers in an environment of their own, so that the project's dependencies stay without them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from rich.console import Console

_ROOT = Path(__file__).resolve().parents[2]
_FOLDER = _ROOT / ".venv-bench"
_PACKAGES = ("sentence-transformers==6.2.0", "openvino==2026.4.1", "onnxruntime==1.32.0", "onnx==1.23.2")
_STOP_TIMEOUT_S = 20.0
# Large pages for activations, as the daemon sets them for itself; peers run as they are installed.
_MEMORY = {name: {"THP_MEM_ALLOC_ENABLE": "1"} for name in ("ours", "matmul")}


class PeersMissing(Exception):
    """The peers' environment can't be made; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What a contender did with one call.

    Attributes:
        seconds: of the whole call, texts to vectors.
        device_seconds: of the forward passes alone; None where the contender can't tell.
        vectors: (n, dim) float32; None where they were not asked for.
    """

    seconds: float
    device_seconds: float | None
    vectors: npt.NDArray[np.float32] | None


Ask = Callable[[Sequence[str], bool], Answer]
"""Texts, and whether the vectors are wanted."""


def prepare_peers(console: Console) -> Path:
    """Make `.venv-bench` once; it sees this environment's packages, so torch is not installed twice.

    Returns:
        Its Python.
    Raises:
        PeersMissing: the packages can't be installed.
    """
    python, done = _FOLDER / "bin" / "python", _FOLDER / ".installed"
    wanted = "\n".join(_PACKAGES)
    if done.is_file() and done.read_text() == wanted:
        return python
    console.print(f"installing the peers into {_FOLDER.name} (once)")
    venv.create(_FOLDER, with_pip=True, clear=True)
    paths = sysconfig.get_paths(vars={"base": str(_FOLDER), "platbase": str(_FOLDER)})
    Path(paths["purelib"], "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_PACKAGES]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        raise PeersMissing(f"the peers can't be installed: {installed.stderr.strip().splitlines()[-1]}")
    done.write_text(wanted)
    return python


@contextmanager
def running_encoder(name: str, model: Path, python: Path = Path(sys.executable)) -> Iterator[Ask]:
    """Run one contender of `benchmarks.common.text_encoders` in a process of its own; it ends with this block."""
    with TemporaryDirectory(prefix="embedder-benchmark-") as folder:
        process = subprocess.Popen(
            [str(python), "-m", "benchmarks.common.text_encoders", name, str(model), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=_ROOT,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"} | _MEMORY.get(name, {}),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def ask(texts: Sequence[str], wants_vectors: bool) -> Answer:
            file = Path(folder, "vectors.npy") if wants_vectors else None
            try:
                requests.write(json.dumps({"texts": list(texts), "vectors": file and str(file)}) + "\n")
                requests.flush()
                line = answers.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                raise PeersMissing(f"{name} ended with status {process.wait()}")
            return Answer(**json.loads(line), vectors=None if file is None else np.load(file))

        try:
            yield ask
        finally:
            with suppress(BrokenPipeError):  # what a dead contender never read
                requests.close()
            process.wait(_STOP_TIMEOUT_S)
