"""An index's `manifest.json`: what it is, which space it is of, and how well it was measured to find."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedder_heads.errors import IndexInvalid
from embedder_heads.index.structures import IndexKind
from embedder_heads.manifest import Fields, read_manifest, write_manifest
from embedder_heads.names import check_name

MANIFEST = "manifest.json"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class WordCounts:
    """The size of an index's word index: its terms, and the postings of all of them."""

    terms: int
    postings: int


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """What an index is.

    Attributes:
        name: the index's name.
        version: its version, from 1.
        kind: how it searches.
        space_digest: the embedding space of its vectors, 64 hex digits.
        dim: length of a vector.
        items: how many items it holds.
        breadth: lists probed, or candidates kept while walking the graph; 0 for a flat index.
        recall_at_10: measured share of the true ten nearest that it finds; 1 for a flat index by construction.
        recall_queries: queries behind that measurement; 0 when it is exact by construction.
        created: when, ISO 8601 in UTC.
        words: the size of its word index; None when it holds no texts.
    """

    name: str
    version: int
    kind: IndexKind
    space_digest: str
    dim: int
    items: int
    breadth: int
    recall_at_10: float
    recall_queries: int
    created: str
    words: WordCounts | None = None


def save_manifest(manifest: IndexManifest, folder: Path) -> None:
    """Write `manifest.json`."""
    document: dict[str, object] = {
        "schema": SCHEMA,
        "name": manifest.name,
        "version": manifest.version,
        "kind": manifest.kind.value,
        "space_digest": manifest.space_digest,
        "dim": manifest.dim,
        "items": manifest.items,
        "breadth": manifest.breadth,
        "recall_at_10": manifest.recall_at_10,
        "recall_queries": manifest.recall_queries,
        "created": manifest.created,
    }
    if manifest.words is not None:
        document["words"] = {"terms": manifest.words.terms, "postings": manifest.words.postings}
    write_manifest(folder / MANIFEST, document)


def load_manifest(folder: Path) -> IndexManifest:
    """Read and check `manifest.json`; raises IndexInvalid."""
    fields = read_manifest(folder / MANIFEST, schema=SCHEMA, error=IndexInvalid)
    manifest = IndexManifest(
        name=check_name(fields.text("name")),
        version=fields.integer("version"),
        kind=fields.choice("kind", IndexKind),
        space_digest=fields.text("space_digest"),
        dim=fields.integer("dim"),
        items=fields.integer("items"),
        breadth=fields.integer("breadth"),
        recall_at_10=fields.number("recall_at_10"),
        recall_queries=fields.integer("recall_queries"),
        created=fields.text("created"),
        words=_words(fields.nested("words")) if "words" in fields else None,
    )
    fields.done()
    if not manifest.dim or not manifest.items:
        raise IndexInvalid(f"{MANIFEST} says dim={manifest.dim} and items={manifest.items}; both are at least 1")
    return manifest


def _words(fields: Fields) -> WordCounts:
    words = WordCounts(fields.integer("terms"), fields.integer("postings"))
    fields.done()
    return words
