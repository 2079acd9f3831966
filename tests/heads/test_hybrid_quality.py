"""Search by both beats search by either, with the default encoder on real pages."""

from __future__ import annotations

import importlib.util
import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common.wikipedia import read_passages
from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits
from embedder_heads.index.building import build_index
from embedder_heads.index.hybrid import Query, SearchMode, SearchOptions, search
from embedder_heads.index.vector_index import VectorIndex


@pytest.mark.slow
def test_hybrid_search_beats_both_of_its_parts(tmp_path: Path) -> None:
    if importlib.util.find_spec("gensim") is None:
        pytest.fail("the pages are not installed: pip install --no-deps gensim==4.4.0 (make install does)")
    asked = json.loads((Path(__file__).parent / "answers.json").read_text(encoding="utf-8"))["answerable"]
    pages = {entry["page"] for entry in asked}
    # The first passages of each page are enough to confuse each part, and are embedded in seconds.
    kept = [passage for passage in read_passages() if passage.page in pages and int(passage.id.rpartition("#")[2]) < 20]
    texts = [passage.text for passage in kept]
    encoder = load_encoder("default", device="cpu", limits=MediaLimits())
    try:
        vectors = np.concatenate(
            [
                encoder.encode_texts(encoder.prepare_texts(batch))
                for batch in np.array_split(np.array([*texts, *(entry["question"] for entry in asked)], object), 20)
            ]
        ).astype(np.float32)
    finally:
        encoder.close()
    ids = [passage.id for passage in kept]
    build_index(
        tmp_path,
        vectors[: len(texts)],
        ids,
        [{}] * len(ids),
        space_digest=bytes(32),
        name="pages",
        version=1,
        texts=texts,
    )
    index = VectorIndex(tmp_path)
    queries = [Query(vector, entry["question"]) for vector, entry in zip(vectors[len(texts) :], asked, strict=True)]
    quality = {}
    for mode in SearchMode:
        ranks = []
        for entry, hits in zip(asked, search(index, queries, SearchOptions(10, mode)), strict=True):
            holding = [
                hit.id.startswith(f"{entry['page']}#")
                and any(known in index.text_of(hit.id) for known in entry["answers"])
                for hit in hits
            ]
            ranks.append(1 / (1 + holding.index(True)) if True in holding else 0.0)
        quality[mode] = statistics.fmean(ranks)
    assert quality[SearchMode.HYBRID] > max(quality[SearchMode.DENSE], quality[SearchMode.LEXICAL]), quality
