"""The Ray Serve application on a real local Ray: the stock client gets what embedder-serve gives."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from embedder.config import ServeSettings
from embedder_client import Client, ClientSettings, errors, hash_text

APP = Path(__file__).resolve().parents[2] / "deploy/ray"
_START_TIMEOUT_S = 240
# Ray in a process of its own: its threads and its cluster end with it.
_PROGRAM = """
import sys, ray
from ray import serve
from ray.serve.config import gRPCOptions
import embedder_serve_app
ray.init(num_cpus=4, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
serve.start(
    proxy_location="HeadOnly",
    http_options={"port": int(sys.argv[1])},
    grpc_options=gRPCOptions(port=int(sys.argv[2]), grpc_servicer_functions=[
        "embedder_client.v1.embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server"]),
)
serve.run(embedder_serve_app.application(
    {"data_dir": sys.argv[3], "decode_workers": 0, "cache_limit_bytes": "64 MiB"}), name="embedder")
print("serving", flush=True)
sys.stdin.read()
serve.shutdown()
ray.shutdown()
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [one.getsockname()[1], other.getsockname()[1]]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(APP), *sys.path]),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with (tmp_path / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *map(str, ports), str(tmp_path / "data")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=tmp_path,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        with process.stdout, process:
            said = process.stdout.readline()
            if said.strip() != b"serving":
                process.stdin.close()
                pytest.fail((tmp_path / "ray.log").read_text()[-3_000:])
            yield f"127.0.0.1:{ports[1]}"
            process.stdin.close()
            process.wait(_START_TIMEOUT_S)


@pytest.mark.slow
@pytest.mark.skipif(
    "EMBEDDER_TEST_RAY_SERVE" not in os.environ, reason="Ray Serve wants a machine to itself: EMBEDDER_TEST_RAY_SERVE=1"
)
def test_stock_client_embeds_and_looks_up(address: str) -> None:
    with Client(address, settings=ClientSettings(timeout_s=60)) as client:
        first = client.embed(["asked of Serve", "and another"], durable=True)
        assert [source.name for source in first.sources] == ["COMPUTED", "COMPUTED"]
        assert np.allclose(np.linalg.norm(first.float32(), axis=1), 1, atol=1e-3)
        assert [source.name for source in client.embed(["asked of Serve"]).sources] == ["CACHE"]
        found = client.lookup([hash_text("and another"), hash_text("never asked")])
        assert found.wanted == [1]
        assert np.array_equal(found.vectors[0], first.vectors[1])
        with pytest.raises(errors.InvalidRequest, match="exceeds"):
            client.embed(["asked of Serve"], dim=9_999)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own
def test_config_file_names_what_is_there() -> None:
    config = yaml.safe_load((APP / "serve.yaml").read_text())
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(config)
    (application,) = schema.applications
    module, _, name = application.import_path.partition(":")
    assert f"def {name}(" in (APP / f"{module}.py").read_text()
    assert application.args.keys() <= ServeSettings.model_fields.keys()
    (function,) = config["grpc_options"]["grpc_servicer_functions"]
    module, _, name = function.rpartition(".")
    assert callable(getattr(__import__(module, fromlist=[name]), name))
