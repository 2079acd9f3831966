"""The demo's set-up: articles understood once, a topic head trained on them, and indexes to search."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from embedder.demo.data import Article, Film, Photo
from embedder.errors import ConfigurationError
from embedder_client import Client

_BATCH = 64
_HELD_OUT_SHARE = 0.2
_SEED = 11


def understand(client: Client, texts: Sequence[str], *, task: str, on_batch: Callable[[int], None]) -> None:
    """Send contents through the service once, in the bulk lane, and wait until they are kept."""
    for start in range(0, len(texts), _BATCH):
        batch = texts[start : start + _BATCH]
        client.embed(batch, task=task, lane="bulk", durable=True).raise_for_failures()
        on_batch(len(batch))


def split(articles: Sequence[Article]) -> tuple[list[Article], list[Article]]:
    """Split articles into those to learn from and those held out; a repeated text stays on one side."""
    unique = list({article.text: article for article in articles}.values())
    random.Random(_SEED).shuffle(unique)
    held_out = int(len(unique) * _HELD_OUT_SHARE)
    return unique[held_out:], unique[:held_out]


def write_labelled(articles: Sequence[Article], path: Path) -> Path:
    """Write articles as the labelled file that `embedder-heads train` reads."""
    with path.open("w") as file:
        for article in articles:
            file.write(json.dumps({"text": article.text, "topic": article.topic}) + "\n")
    return path


def write_articles(articles: Sequence[Article], path: Path) -> Path:
    """Write articles as the items of an index."""
    with path.open("w") as file:
        for article in {article.text: article for article in articles}.values():
            file.write(json.dumps({"id": article.id, "text": article.text, "topic": article.topic}) + "\n")
    return path


def write_films(films: Sequence[Film], path: Path) -> Path:
    """Write films as the items of an index."""
    with path.open("w") as file:
        for film in films:
            file.write(json.dumps({"id": film.id, "text": film.text, "title": film.title}) + "\n")
    return path


def write_photos(photos: Sequence[Photo], folder: Path) -> Path:
    """Write photographs, and a file that lists them as the items of an index."""
    folder.mkdir(exist_ok=True)
    listing = folder / "photos.jsonl"
    with listing.open("w") as file:
        for photo in photos:
            (folder / photo.id).write_bytes(photo.file)
            file.write(json.dumps({"id": photo.id, "image": photo.id, "shows": photo.description}) + "\n")
    return listing


def run_heads_command(*arguments: str) -> None:
    """Run `embedder-heads` as a user would; what it prints is shown."""
    command = str(Path(sys.executable).with_name("embedder-heads"))
    ended = subprocess.run([command, *arguments], check=False)
    if ended.returncode:
        raise ConfigurationError(f"embedder-heads {' '.join(arguments[:2])} failed with exit code {ended.returncode}")
