"""The texts of an index's items, for searching by words and for reading passages: memory-mapped, decoded one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedder_heads.errors import QueryInvalid
from embedder_heads.index.strings import StringColumn, save_strings

_NAME = "texts"


def load_texts(folder: Path, *, count: int) -> StringColumn:
    """Map what `save_texts` wrote, `count` texts, empty for items without one; raises IndexInvalid."""
    return StringColumn.load(folder, _NAME, count=count)


def save_texts(folder: Path, texts: Sequence[str]) -> None:
    """Write every item's text.

    Raises:
        QueryInvalid: no item has one, so that there is nothing to keep.
    """
    if not any(texts):
        raise QueryInvalid("no item has a text; leave the texts out of an index of images")
    save_strings(folder, _NAME, texts)
