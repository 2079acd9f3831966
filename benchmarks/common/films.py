"""MovieLens-100K as a catalogue of embedded films and the histories of its users."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from embedder.demo.data import load_films
from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits
from embedder_heads.recommendation.tags import tags_of
from embedder_heads.training.interactions import Catalogue, Rows

_FOLDER = Path(__file__).resolve().parents[2] / ".demo" / "files"


@dataclass(frozen=True)
class Films:
    """What is recommended from what.

    Attributes:
        catalogue: the films, with their contents' vectors.
        histories: per user, rows of the catalogue, oldest first.
        traits: per user, age, gender and occupation as tags.
    """

    catalogue: Catalogue
    histories: list[Rows]
    traits: list[tuple[str, ...]]


def load_movielens(console: Console) -> Films:
    """Read the 1,682 films, embed them, and put every user's ratings in order of time."""
    texts = [film.text for film in load_films(_FOLDER)]
    items = _table("ml-100k.item")
    console.print(f"embedding {len(texts)} films")
    encoder = load_encoder("default", device="cpu", limits=MediaLimits())
    try:
        tokens = encoder.prepare_texts(texts)
        parts = [encoder.encode_texts(tokens[start : start + 128]) for start in range(0, len(tokens), 128)]
    finally:
        encoder.close()
    tags = tuple(tags_of({"year": _year(item["release_year"]), "genres": item["class"].split()}) for item in items)
    catalogue = Catalogue(tuple(item["item_id"] for item in items), np.concatenate(parts), tags)
    row_of = {item_id: row for row, item_id in enumerate(catalogue.ids)}
    events: dict[str, list[tuple[float, int]]] = {}
    for rating in _table("ml-100k.inter"):
        events.setdefault(rating["user_id"], []).append((float(rating["timestamp"]), row_of[rating["item_id"]]))
    # Many ratings of a user carry the same second: a stable sort keeps the file's order among them.
    ordered = [sorted(seen, key=lambda event: event[0]) for seen in events.values()]
    users = {user["user_id"]: user for user in _table("ml-100k.user")}
    return Films(
        catalogue, [np.array([row for _, row in seen]) for seen in ordered], [_traits(users[user]) for user in events]
    )


def _traits(user: dict[str, str]) -> tuple[str, ...]:
    return tags_of({"age": float(user["age"]), "gender": user["gender"], "occupation": user["occupation"]})


def _year(written: str) -> float:
    return float(written) if written.isdigit() else float("nan")


def _table(name: str) -> list[dict[str, str]]:
    file = _FOLDER / "recbole" / "dataset_example" / "ml-100k" / name
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [column.partition(":")[0] for column in next(rows)]
        return [dict(zip(names, row, strict=True)) for row in rows]
