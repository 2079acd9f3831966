"""Who saw what, and when: histories of users over the items of a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.kinds import Floats
from embedder_heads.recommendation.tags import tags_of
from embedder_heads.training.table import read_rows

Rows = npt.NDArray[np.int64]

_MIN_TAGGED = 5


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """The items that can be recommended.

    Attributes:
        ids: n ids.
        vectors: (n, dim) float32 unit vectors of their contents.
        tags: n lists of tags, such as genres.
    """

    ids: tuple[str, ...]
    vectors: Floats
    tags: tuple[tuple[str, ...], ...]


def common_tags(catalogue: Catalogue, rows: npt.NDArray[np.integer]) -> list[str]:
    """Return the tags that at least five of some items share, sorted; `none` alone where there are none."""
    counts: dict[str, int] = {}
    for row in rows:
        for tag in set(catalogue.tags[row]):
            counts[tag] = counts.get(tag, 0) + 1
    return sorted(tag for tag, count in counts.items() if count >= _MIN_TAGGED) or ["none"]


def read_histories(path: Path, item_ids: Sequence[str], *, user: str, item: str, time: str) -> dict[str, Rows]:
    """Read a file of interactions.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file, an interaction a row.
        item_ids: the catalogue's ids; interactions with others are skipped.
        user: column of the users.
        item: column of the items' ids.
        time: column of a number that rises with time; empty when the file is in order of time.
    Returns:
        By user, the catalogue's rows of what they saw, oldest first.
    Raises:
        TrainingDataInvalid: the file can't be read, lacks a column, or holds no known item.
    """
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    seen: dict[str, list[tuple[float, int]]] = {}
    for number, row in read_rows(path):
        missing = [column for column in (user, item, *filter(None, [time])) if column not in row]
        if missing:
            raise TrainingDataInvalid(f"row {number} has no column {missing[0]!r}; it has {sorted(row)}")
        place = row_of.get(str(row[item]))
        if place is None:
            continue
        try:
            when = float(row[time]) if time else float(number)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise TrainingDataInvalid(f"row {number}: {time}={row[time]!r} is not a number") from None
        seen.setdefault(str(row[user]), []).append((when, place))
    if not seen:
        raise TrainingDataInvalid(f"{path.name} holds no interaction with an item of the index")
    # A stable sort by time alone keeps the file's order among equal times.
    return {
        name: np.array([place for _, place in sorted(events, key=lambda event: event[0])])
        for name, events in seen.items()
    }


def read_traits(path: Path, *, user: str) -> dict[str, tuple[str, ...]]:
    """Read what is known of users.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file, a user a row.
        user: column of the users; the others become tags, numbers with their tens.
    Returns:
        By user, their tags; empty cells are left out.
    Raises:
        TrainingDataInvalid: the file can't be read, or a row lacks the user's column.
    """
    traits: dict[str, tuple[str, ...]] = {}
    for number, row in read_rows(path):
        if user not in row:
            raise TrainingDataInvalid(f"row {number} has no column {user!r}; it has {sorted(row)}")
        told = {
            column: _number_or_text(value)
            for column, value in row.items()
            if column != user and value not in (None, "")
        }
        traits[str(row[user])] = tags_of(told)
    return traits


def _number_or_text(value: object) -> float | str:
    """CSV files bring numbers as texts."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)
