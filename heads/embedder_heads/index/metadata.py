"""What an index holds beside vectors: a JSON object an item, and columns that filters read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import IndexInvalid, QueryInvalid
from embedder_heads.index.arrays import load_array
from embedder_heads.index.filters import Filter, Range, Scalar, check_filter, several
from embedder_heads.index.strings import StringColumn, save_strings

Metadata = Mapping[str, Scalar | Sequence[str]]


@dataclass(frozen=True, slots=True, eq=False)
class _Numbers:
    values: npt.NDArray[np.float64]  # (n,) NaN where an item has none

    def mask(self, wanted: Filter) -> npt.NDArray[np.bool_]:
        if isinstance(wanted, Range):
            mask: npt.NDArray[np.bool_] = (self.values >= wanted.low) & (self.values <= wanted.high)
            return mask
        return np.isin(self.values, [float(value) for value in several(wanted) if not isinstance(value, str)])


@dataclass(frozen=True, slots=True, eq=False)
class _Tags:
    names: Mapping[str, int]
    codes: npt.NDArray[np.int32]  # every item's tags, one after the other
    rows: npt.NDArray[np.int64]  # the row of each of `codes`
    count: int

    def mask(self, wanted: Filter) -> npt.NDArray[np.bool_]:
        mask = np.zeros(self.count, np.bool_)
        if not isinstance(wanted, Range):
            codes = [self.names[value] for value in several(wanted) if isinstance(value, str) and value in self.names]
            mask[self.rows[np.isin(self.codes, codes)]] = True
        return mask


class MetadataTable:
    """The metadata of n items, memory-mapped; every field can be filtered on."""

    def __init__(self, lines: StringColumn, columns: Mapping[str, _Numbers | _Tags]) -> None:
        self._lines = lines
        self._columns = columns

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that filters may name."""
        return tuple(sorted(self._columns))

    def of(self, row: int) -> dict[str, Scalar | list[str]]:
        """Read one item's metadata."""
        line = self._lines[row]
        found: dict[str, Scalar | list[str]] = json.loads(line) if line else {}
        return found

    def mask(self, filters: Mapping[str, Filter]) -> npt.NDArray[np.bool_]:
        """Tell which items pass every filter.

        Returns:
            (n,) bool.
        Raises:
            QueryInvalid: the index has no such field, or it is of another type than the filter.
        """
        mask = np.ones(len(self._lines), np.bool_)
        for field, wanted in filters.items():
            if field not in self._columns:
                raise QueryInvalid(f"no field {field!r} to filter on; there are {', '.join(self.fields) or 'none'}")
            check_filter(field, wanted, is_number=isinstance(self._columns[field], _Numbers))
            mask &= self._columns[field].mask(wanted)
        return mask

    @classmethod
    def load(cls, folder: Path, *, count: int) -> MetadataTable:
        """Map what `save_metadata` wrote; raises IndexInvalid."""
        lines = StringColumn.load(folder, "metadata", count=count)
        try:
            listed = json.loads((folder / "fields.json").read_bytes())
            columns: dict[str, _Numbers | _Tags] = {}
            for number, field in enumerate(listed):
                stem = folder / f"field{number}"
                if field["type"] == "number":
                    values = load_array(stem.with_suffix(".npy"), dtype=np.float64, shape=(count,))
                    columns[field["name"]] = _Numbers(values)
                else:
                    total = int(field["tags"])
                    codes = load_array(folder / f"field{number}.codes.npy", dtype=np.int32, shape=(total,))
                    rows = load_array(folder / f"field{number}.rows.npy", dtype=np.int64, shape=(total,))
                    names = {name: code for code, name in enumerate(field["names"])}
                    columns[field["name"]] = _Tags(names, codes, rows, count)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise IndexInvalid(f"fields.json can't be read: {error}") from error
        return cls(lines, columns)


def save_metadata(folder: Path, metadata: Sequence[Metadata]) -> None:
    """Write every item's metadata and a column for each field.

    Raises:
        QueryInvalid: a field is a number in one item and a text in another, or holds something else.
    """
    save_strings(
        folder, "metadata", (json.dumps(dict(entry), ensure_ascii=False) if entry else "" for entry in metadata)
    )
    fields: dict[str, str] = {}
    for row, entry in enumerate(metadata):
        for name, value in entry.items():
            kind = "number" if isinstance(value, int | float) else "tags"
            if kind == "tags" and not isinstance(value, str) and not _is_tags(value):
                raise QueryInvalid(f"item {row}: field {name!r} is no text, number or list of texts")
            if fields.setdefault(name, kind) != kind:
                raise QueryInvalid(f"item {row}: field {name!r} is both a number and a text in this index")
    listed: list[dict[str, object]] = []
    for number, (name, kind) in enumerate(fields.items()):
        given = [entry.get(name) for entry in metadata]
        if kind == "number":
            values = np.array([np.nan if value is None else value for value in given], np.float64)
            np.save(folder / f"field{number}.npy", values)
            listed.append({"name": name, "type": kind})
        else:
            listed.append({"name": name, "type": kind, **_save_tags(folder / f"field{number}", given)})
    (folder / "fields.json").write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")


def _save_tags(stem: Path, given: Sequence[object]) -> dict[str, object]:
    names: dict[str, int] = {}
    codes: list[int] = []
    rows: list[int] = []
    for row, value in enumerate(given):
        for tag in [value] if isinstance(value, str) else value or ():  # type: ignore[attr-defined]
            codes.append(names.setdefault(tag, len(names)))
            rows.append(row)
    np.save(stem.with_name(stem.name + ".codes.npy"), np.array(codes, np.int32))
    np.save(stem.with_name(stem.name + ".rows.npy"), np.array(rows, np.int64))
    return {"names": list(names), "tags": len(codes)}


def _is_tags(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(tag, str) for tag in value)
