"""Generate the Python stubs from protos/, or check that the committed ones are what would be generated.

The generator is the oldest grpcio-tools that the project supports, laid in build/ by pip, because stubs refuse an older
runtime than the one they were made with.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
STUBS = ROOT / "clients/python/embedder_client/v1"
BUILD = ROOT / "build"
GOOGLEAPIS = BUILD / "googleapis"
GENERATOR = "grpcio-tools==1.74.0"
SETUPTOOLS = "setuptools==80.9.0"
SOURCES = sorted(PROTOS.glob("embedder/v1/*.proto"))


def lay_googleapis() -> None:
    """Copy google/rpc's .proto files out of the installed googleapis-common-protos, for protoc and buf."""
    for file in importlib.metadata.files("googleapis-common-protos") or ():
        if file.suffix == ".proto" and file.parts[:2] == ("google", "rpc"):
            target = GOOGLEAPIS / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)


def generator_path() -> Path:
    """Return the folder that holds the pinned generator, installing it at the first call."""
    folder = BUILD / GENERATOR.replace("==", "-")
    if not (folder / "grpc_tools").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*pip, GENERATOR, SETUPTOOLS], check=True)
    return folder


def generate(target: Path) -> None:
    """Write the stubs of every proto below `target`/embedder_client/v1."""
    with tempfile.TemporaryDirectory() as raw:
        environment = os.environ | {"PYTHONPATH": str(generator_path())}
        outputs = [f"--{kind}_out={raw}" for kind in ("python", "pyi", "grpc_python")]
        includes = [f"-I{PROTOS}", f"-I{GOOGLEAPIS}"]
        # -W: the generator warns of its own use of an old packaging interface.
        command = [sys.executable, "-W", "ignore", "-m", "grpc_tools.protoc", *includes, *outputs, *map(str, SOURCES)]
        subprocess.run(command, check=True, env=environment)
        target.mkdir(parents=True, exist_ok=True)
        for stub in sorted(Path(raw, "embedder", "v1").iterdir()):
            # protoc names the Python package after the proto package; ours lives inside the client's unique import name.
            text = stub.read_text().replace("from embedder.v1 import", "from embedder_client.v1 import")
            (target / stub.name).write_text(text)
    (target / "__init__.py").write_text('"""Generated from protos/ by `make protos`; not edited by hand."""\n')


def differences(fresh: Path) -> list[str]:
    """Return the names of the stubs that differ between the committed and the fresh ones."""
    names = {path.name for folder in (fresh, STUBS) for path in folder.glob("*.py*")}
    return [name for name in sorted(names) if _text(fresh / name) != _text(STUBS / name)]


def _text(path: Path) -> str | None:
    return path.read_text() if path.is_file() else None


def main() -> int:
    """Generate, or with --check compare; returns 1 when the committed stubs are stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the committed stubs are stale")
    arguments = parser.parse_args()
    lay_googleapis()
    if not arguments.check:
        generate(STUBS)
        return 0
    with tempfile.TemporaryDirectory() as raw:
        generate(Path(raw))
        stale = differences(Path(raw))
    if stale:
        sys.stderr.write(f"stale stubs: {', '.join(stale)}; run `make protos` and commit the result\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
