"""What the package offers and what importing and installing it brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import embedder_client

PACKAGE = Path(embedder_client.__file__).parent

SURFACE = {
    "AnswerEnd", "AnswerPiece", "AsyncClient", "Basis", "BatchShape", "BridgeUse", "CacheStats", "Client",
    "ClientSettings", "ContentHash", "Cost", "Dtype", "EmbedResult", "EmbedderClientError", "Figure", "HeadInfo", "HeadKind", "HeadList",
    "HeadPrediction", "HeadTerm", "Hit", "Image", "IndexInfo", "ItemFailure", "ItemSource", "LookupResult",
    "NumberRange", "PackedVectors", "Post", "PredictResult", "Provenance", "RecommendResult", "Rerank",
    "RetrieveResult", "RoadCost", "SavingsFormula", "SavingsReport", "SavingsRow", "ScoreResult", "SensitivityPoint",
    "SpaceInfo", "SpaceList", "SpaceState", "Text", "Timings", "UncleanStop", "UnservedSpace", "Video", "VideoFile",
    "VideoSegments", "errors",
    "hash_content", "hash_image", "hash_post", "hash_text", "hash_texts", "hash_video",
}  # fmt: skip


def run_python(program: str, python: str = sys.executable, **environment: str) -> str:
    """Run a program in a fresh interpreter, with warnings as errors; returns what it prints."""
    done = subprocess.run(
        [python, "-W", "error", "-c", program],
        capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def modules_after(statement: str) -> set[str]:
    program = f"import sys, json\n{statement}\nprint(json.dumps([*sys.modules]))"
    return set(json.loads(run_python(program, PYTHONPATH=str(PACKAGE.parent))))


def test_public_surface_is_what_it_was() -> None:
    assert set(embedder_client.__all__) == SURFACE
    assert set(dir(embedder_client)) >= SURFACE
    for name in SURFACE:
        assert getattr(embedder_client, name)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Klient'"):
        _ = embedder_client.Klient


@pytest.mark.parametrize(
    "statement",
    [
        "import embedder_client",
        "import embedder_client.content_hash",
        "from embedder_client import hash_text; hash_text('a')",
        "from embedder_client import errors, ClientSettings, Post; ClientSettings()",
    ],
)
def test_names_and_hashes_need_neither_grpc_nor_protobuf_nor_numpy(statement: str) -> None:
    loaded = {name.partition(".")[0] for name in modules_after(statement)}
    assert not loaded & {"grpc", "google", "numpy"}


def test_client_needs_neither_torch_nor_the_service() -> None:
    loaded = {name.partition(".")[0] for name in modules_after("from embedder_client import AsyncClient, Client")}
    assert not loaded & {"torch", "embedder", "embedder_cache", "embedder_heads", "grpc_status"}


def brought_by(requirements: Iterable[str]) -> dict[str, Distribution]:
    """Return the installed distributions that requirements bring, with all that those bring."""
    brought: dict[str, Distribution] = {}
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            needed = distribution(requirement.name)
            brought |= {canonicalize_name(requirement.name): needed} | brought_by(needed.requires or ())
    return brought


def test_wheel_works_in_a_clean_environment_and_brings_no_torch(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(PACKAGE.parent)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "clean")
    python = tmp_path / "clean/bin/python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    (site,) = tmp_path.glob("clean/lib/python*/site-packages")
    (installed,) = distributions(name="embedder-client", path=[str(site)])

    # What pip would bring is linked from this environment, so that the test needs no network.
    brought = brought_by(installed.requires or ())
    assert brought.keys() <= {"grpcio", "protobuf", "googleapis-common-protos", "numpy", "typing-extensions"}
    for each in brought.values():
        for top in {file.parts[0] for file in each.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(each.locate_file(top)))
    program = "import embedder_client, json, sys; embedder_client.Client().close(); print(json.dumps([*sys.modules]))"
    loaded = {name.partition(".")[0] for name in json.loads(run_python(program, str(python)))}
    assert {"embedder_client", "grpc", "numpy"} <= loaded
    assert "torch" not in loaded
