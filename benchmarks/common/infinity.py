"""The peer server: Infinity on the same model, from PyPI, in a virtual environment of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, RemoteDisconnected
from pathlib import Path
from threading import local
from typing import Any, Literal

import grpc
from rich.console import Console

from benchmarks.common.load import Method
from embedder.encoders.default_space.model import text_model_folder

EngineName = Literal["torch", "int8"]

_FOLDER = Path(__file__).resolve().parents[2] / ".venv-infinity"
_INT8_MODEL = _FOLDER / "all-minilm-l6-v2-int8"
# Infinity 0.0.77 needs these older releases; with the newest ones it does not import, or finds no ONNX exporter.
_PACKAGES = (
    *("infinity-emb[torch,server,optimum]==0.0.77", "transformers>=4.47,<4.50", "optimum[onnxruntime]>=1.24,<1.25"),
    *("torch<2.9", "pyarrow<22", "click<8.2"),
)
# Its optimum engine looks for a file of this ending at the top of the model's folder, and takes it as it is.
_MAKE_INT8 = """
import sys
from pathlib import Path
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTOptimizer
from optimum.onnxruntime.configuration import OptimizationConfig
source, target = sys.argv[1:]
model = ORTModelForFeatureExtraction.from_pretrained(source, export=True)
ORTOptimizer.from_pretrained(model).optimize(OptimizationConfig(optimization_level=2), save_dir=target)
fused = Path(target) / "model_optimized.onnx"
# Fused operators are not in ONNX's own domain, so their outputs' type must be told.
options = {"DefaultTensorType": TensorProto.FLOAT}
quantized = Path(target) / "model_quantized_optimized.onnx"
quantize_dynamic(fused, quantized, weight_type=QuantType.QInt8, extra_options=options)
fused.unlink()
"""
_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0
_MODEL_NAME = "peer"
_THREADS = 64


class InfinityMissing(Exception):
    """Infinity could not be installed or started here; the message says why."""


def prepare_infinity(console: Console) -> None:
    """Make Infinity's environment and its int8 model, unless both are there; takes minutes and some gigabytes.

    Raises:
        InfinityMissing: the packages could not be installed, or the model could not be exported.
    """
    if not (_FOLDER / "bin/infinity_emb").is_file():
        console.print(f"installing Infinity into {_FOLDER.name}")
        _run([sys.executable, "-m", "venv", str(_FOLDER)])
        _run([str(_FOLDER / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", *_PACKAGES])
    if not _INT8_MODEL.is_dir():
        console.print("exporting Infinity's int8 model")
        partial = _INT8_MODEL.with_suffix(".partial")
        _run([str(_FOLDER / "bin/python"), "-c", _MAKE_INT8, str(text_model_folder()), str(partial)])
        partial.rename(_INT8_MODEL)


@contextmanager
def running_infinity(engine: EngineName) -> Iterator[Method]:
    """Run Infinity on a free port; gives a method that posts JSON over kept connections, as gRPC's methods are called.

    Raises:
        InfinityMissing: it did not start.
    """
    port = _free_port()
    model, backend = (_INT8_MODEL, "optimum") if engine == "int8" else (text_model_folder(), "torch")
    command = [
        *(str(_FOLDER / "bin/infinity_emb"), "v2", "--model-id", str(model), "--served-model-name", _MODEL_NAME),
        *("--engine", backend, "--device", "cpu", "--host", "127.0.0.1", "--port", str(port), "--no-bettertransformer"),
    ]
    environment = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PATH": "/usr/bin:/bin", "HOME": str(_FOLDER)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until_healthy(server, port)
        with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="http") as pool:
            yield _HttpMethod(port, pool)
    finally:
        server.terminate()
        try:
            server.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def json_request(text: str) -> bytes:
    """Return the body that asks for one text's vector."""
    return json.dumps({"model": _MODEL_NAME, "input": [text]}).encode()


@dataclass(frozen=True)
class _HttpMethod:
    """Calls Infinity as a gRPC method is called: `future(request, timeout)`."""

    port: int
    pool: ThreadPoolExecutor
    connections: local = field(default_factory=local)

    def future(self, request: bytes, timeout: float) -> _HttpCall:
        return _HttpCall(self.pool.submit(self._post, request, timeout))

    def _post(self, request: bytes, timeout_s: float) -> None:
        try:
            self._post_once(request, timeout_s)
        except (RemoteDisconnected, ConnectionError):  # the server closes a connection that was idle for seconds
            self.connections.kept.close()
            self._post_once(request, timeout_s)

    def _post_once(self, request: bytes, timeout_s: float) -> None:
        connection = getattr(self.connections, "kept", None)
        if connection is None:
            connection = self.connections.kept = HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        connection.request("POST", "/embeddings", request, {"content-type": "application/json"})
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise HTTPException(f"{response.status}: {body[:200]!r}")


@dataclass(frozen=True)
class _HttpCall:
    """One call's future, with gRPC's word for how it ended."""

    future: Any

    def add_done_callback(self, done: Any) -> None:
        self.future.add_done_callback(lambda _: done(self))

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK if self.future.exception() is None else grpc.StatusCode.UNKNOWN


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    end_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < end_s:
        if server.poll() is not None:
            raise InfinityMissing(f"Infinity ended at its start with exit code {server.returncode}")
        connection = HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.5)
        finally:
            connection.close()
    raise InfinityMissing(f"Infinity was not healthy after {_START_TIMEOUT_S:.0f} s")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise InfinityMissing(f"{Path(command[0]).name} failed: {last}")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
