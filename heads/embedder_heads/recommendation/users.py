"""What the users of a training file had seen, kept beside a recommender so that a user can be named by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import IndexInvalid, UserNotFound
from embedder_heads.index.arrays import load_array
from embedder_heads.index.ids import IdTable, save_ids
from embedder_heads.index.strings import StringColumn, save_strings
from embedder_heads.manifest import read_manifest, write_manifest

MANIFEST = "users.json"
_SCHEMA = 1
_BETWEEN = "\x1f"  # ASCII's separator of units: no column's text holds it

Rows = npt.NDArray[np.int64]


class UserTable:
    """Users and the index's rows that each had seen, oldest first; memory-mapped."""

    def __init__(self, folder: Path, *, items: int) -> None:
        """Open what `save_users` wrote beside an index of `items` items; raises IndexInvalid."""
        fields = read_manifest(folder / MANIFEST, schema=_SCHEMA, error=IndexInvalid)
        users, seen = fields.integer("users"), fields.integer("seen")
        has_traits = "traits" in fields and bool(fields.integer("traits"))
        fields.done()
        self._ids = IdTable.load(folder, count=users, stem="users")
        self._ends: Rows = load_array(folder / "users.seen_ends.npy", dtype=np.int64, shape=(users,))
        self._seen: Rows = load_array(folder / "users.seen.npy", dtype=np.int64, shape=(seen,))
        self._traits = StringColumn.load(folder, "users.traits", count=users) if has_traits else None
        if (np.diff(self._ends, prepend=0) < 0).any() or (users and self._ends[-1] != seen):
            raise IndexInvalid("users.seen_ends.npy does not rise to the end of users.seen.npy")
        if seen and not 0 <= self._seen.min() <= self._seen.max() < items:
            raise IndexInvalid(f"users.seen.npy names rows outside the index's {items}")

    def __len__(self) -> int:
        return len(self._ids)

    def rows_of(self, user_id: str) -> Rows:
        """Return the rows that a user had seen, oldest first.

        Raises:
            UserNotFound: the training file did not name this user.
        """
        user = self._ids.row_of(user_id)
        if user < 0:
            raise UserNotFound(f"user {user_id!r} is not among the {len(self):,} that the recommender was trained on")
        return self._rows(user)

    def traits_of(self, user_id: str) -> tuple[str, ...]:
        """Return what is known of a user, as tags; nothing for one whom the training file did not name."""
        user = self._ids.row_of(user_id)
        line = self._traits[user] if self._traits is not None and user >= 0 else ""
        return tuple(line.split(_BETWEEN)) if line else ()

    def all_rows(self) -> dict[str, Rows]:
        """Read everybody back, by id."""
        return {self._ids.id_of(user): self._rows(user) for user in range(len(self))}

    def _rows(self, user: int) -> Rows:
        return self._seen[int(self._ends[user - 1]) if user else 0 : int(self._ends[user])]


def save_users(
    folder: Path, users: Mapping[str, Sequence[str]], traits: Mapping[str, Sequence[str]], row_of: Mapping[str, int]
) -> None:
    """Write users, the ids of what they had seen, and their traits; ids that `row_of` lacks are left out."""
    seen = [[row_of[item] for item in items if item in row_of] for items in users.values()]
    save_ids(folder, list(users), stem="users")
    np.save(folder / "users.seen_ends.npy", np.cumsum([len(rows) for rows in seen], dtype=np.int64))
    np.save(folder / "users.seen.npy", np.array([row for rows in seen for row in rows], np.int64))
    document: dict[str, object] = {"schema": _SCHEMA, "users": len(users), "seen": sum(len(rows) for rows in seen)}
    if traits:
        save_strings(folder, "users.traits", (_BETWEEN.join(traits.get(user, ())) for user in users))
        document["traits"] = len(traits)
    write_manifest(folder / MANIFEST, document)


def open_users(folder: Path, *, items: int) -> UserTable | None:
    """Open the users beside an index; None when there are none."""
    return UserTable(folder, items=items) if (folder / MANIFEST).exists() else None
