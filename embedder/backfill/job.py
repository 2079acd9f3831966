"""A backfill job: what is read, how a row becomes a content, and where its vectors go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedder_client.content_hash import Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldColumn:
    """One field of a post, and where its content stands in a row.

    Attributes:
        name: the field's name in the post.
        column: the row's column; dots lead into nested objects.
        modality: text, image or video.
    """

    name: str
    column: str
    modality: Modality


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentColumns:
    """How a row of a file becomes a content.

    Attributes:
        modality: what the content is.
        column: the row's column of a single medium: the text, or a file's bytes or path; empty for a post.
        fields: the columns of a post; empty for anything else.
        id_column: the column of the row's id; empty names rows by file and number.
    """

    modality: Modality
    column: str = ""
    fields: tuple[FieldColumn, ...] = ()
    id_column: str = ""

    @property
    def names(self) -> list[str]:
        """Every column that is read, each once."""
        named = [self.column, self.id_column, *[field.column for field in self.fields]]
        return list(dict.fromkeys(name for name in named if name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where vectors go beside the cache; empty means nowhere.

    Attributes:
        parquet: folder of Parquet files, one for each shard.
        npy: `.npy` file of (rows, dim) float16, a row of zeros for each reject; the ids stand beside it.
        index: name of the index that is published when the job is done.
    """

    parquet: str = ""
    npy: str = ""
    index: str = ""

    def __bool__(self) -> bool:
        return bool(self.parquet or self.npy or self.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is asked; it never changes once it is planned.

    Attributes:
        sources: absolute paths of files and folders, in the order given.
        columns: how rows of files become contents; None where only files of media are read.
        model: the encoder's setting, such as `default`.
        precision: the setting of the numerics.
        space: name of the space, such as `default@1`.
        shard_rows: most rows of a shard; 0 goes by the medium.
        outputs: where vectors go beside the cache.
        target: address of the service that computes and keeps them; empty for this process and its cache.
    """

    sources: tuple[str, ...]
    columns: ContentColumns | None
    model: str
    precision: str
    space: str
    shard_rows: int = 0
    outputs: Outputs = Outputs()
    target: str = ""

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that name what is asked."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Job:
        """Read what `to_json` gave; raises KeyError, TypeError or ValueError for anything else."""
        given = dict(plain)
        columns = given.pop("columns")
        if columns is not None:
            fields = tuple(
                FieldColumn(name=one["name"], column=one["column"], modality=Modality(one["modality"]))
                for one in columns["fields"]
            )
            columns = ContentColumns(
                modality=Modality(columns["modality"]),
                column=columns["column"],
                fields=fields,
                id_column=columns["id_column"],
            )
        outputs = Outputs(**given.pop("outputs"))
        return cls(columns=columns, outputs=outputs, **{**given, "sources": tuple(given["sources"])})

    @property
    def title(self) -> str:
        """The first source's name, for people and folders."""
        return Path(self.sources[0]).stem if self.sources else "backfill"
