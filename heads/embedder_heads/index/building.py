"""Writes an index: its vectors, ids, metadata, texts and structure, into a folder that never changes afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from embedder_heads.errors import QueryInvalid
from embedder_heads.index.ids import save_ids
from embedder_heads.index.lexical import save_lexical
from embedder_heads.index.manifest import IndexManifest, WordCounts, save_manifest
from embedder_heads.index.metadata import Metadata, save_metadata
from embedder_heads.index.structures import IndexKind, Structure, kind_for
from embedder_heads.index.texts import save_texts
from embedder_heads.index.vector_index import VECTORS
from embedder_heads.kinds import Floats


def build_index(
    folder: Path,
    vectors: Floats,
    ids: Sequence[str],
    metadata: Sequence[Metadata],
    *,
    space_digest: bytes,
    name: str,
    version: int,
    kind: IndexKind | None = None,
    texts: Sequence[str] | None = None,
) -> IndexManifest:
    """Write an index into an empty folder.

    Args:
        folder: where its files go.
        vectors: (n, dim) float32 unit vectors.
        ids: n ids, each once.
        metadata: n objects of texts, numbers and lists of texts; may be empty objects.
        space_digest: the vectors' space, 32 bytes.
        name: name that the index gets.
        version: version that it gets.
        kind: how it searches; by default what the number of items asks for.
        texts: n texts to keep and to search by words, empty for items without one; None keeps none.
    Returns:
        The manifest as written.
    Raises:
        QueryInvalid: counts differ, there is no item, a value is not finite, or an id comes twice.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)
    if vectors.ndim != 2 or not len(vectors) or not len(vectors) == len(ids) == len(metadata):
        counts = f"{vectors.shape} vectors, {len(ids)} ids and {len(metadata)} metadata objects"
        raise QueryInvalid(f"an index needs as many vectors as ids and metadata objects, at least one; given {counts}")
    if texts is not None and len(texts) != len(ids):
        raise QueryInvalid(
            f"{len(texts)} texts were given for {len(ids)} items; give one each, empty where there is none"
        )
    if not np.isfinite(vectors).all():
        raise QueryInvalid("a vector holds NaN or infinity")
    kind = kind or kind_for(len(vectors))
    if kind is not IndexKind.FLAT:  # an approximate structure is trained and tuned on parts, which must be fair samples
        order = np.random.default_rng(0).permutation(len(vectors))
        vectors, ids, metadata = vectors[order], [ids[row] for row in order], [metadata[row] for row in order]
        texts = None if texts is None else [texts[row] for row in order]
    save_ids(folder, ids)
    save_metadata(folder, metadata)
    np.save(folder / VECTORS, vectors.astype(np.float16))
    words = None
    if texts is not None:
        save_texts(folder, texts)
        words = WordCounts(*save_lexical(folder, texts))
    _, tuning = Structure.build(vectors, kind, folder)
    manifest = IndexManifest(
        name=name,
        version=version,
        kind=kind,
        space_digest=space_digest.hex(),
        dim=vectors.shape[1],
        items=len(ids),
        breadth=tuning.breadth,
        recall_at_10=tuning.recall_at_10,
        recall_queries=tuning.queries,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        words=words,
    )
    save_manifest(manifest, folder)
    return manifest
