"""Indexes beside raw FAISS, and search by words and vectors together beside each alone.

100,000 clustered vectors of 384 (a million too with --full) through the service's own index code; with --full also WordNet: an example
sentence must find its own gloss among 16,000 (Debian's wordnet-base, or WNSEARCHDIR).
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from benchmarks.common.run import Result, main
from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits
from embedder_heads.index.building import build_index
from embedder_heads.index.hybrid import Query, SearchMode, SearchOptions, search
from embedder_heads.index.manifest import MANIFEST
from embedder_heads.index.structures import exact_rows
from embedder_heads.index.vector_index import VectorIndex

_DIM = 384
_SPACE = bytes(32)
_ITEMS, _FULL_ITEMS = 100_000, 1_000_000
_CLUSTERS = 2_000
_QUERIES = 200
_ROUNDS = 15
# Queries come in streams: each way finds the caches as its own last query left them, and not as a scan of every vector did.
_QUERIES_PER_TURN = {"raw FAISS, flat": 2}
_FAST_QUERIES_PER_TURN = 30
_WORDNET = Path(os.environ.get("WNSEARCHDIR", "/usr/share/wordnet"))
_GLOSSES, _EXAMPLES = 16_000, 1_500
_RRF = 60

Floats = npt.NDArray[np.float32]
Rows = list[tuple[str, str, str]]


def measure(full: bool, console: Console) -> Result:
    rows: Rows = []
    keys: dict[str, float | None] = {}
    notes: list[str] = []
    for items in (_ITEMS, _FULL_ITEMS) if full else (_ITEMS,):
        console.print(f"an index of {items:,} vectors")
        _add(rows, keys, notes, measure_index(items))
    if full and _WORDNET.is_dir():
        console.print("WordNet, by vectors, by words and by both")
        _add(rows, keys, notes, _wordnet(console))
    elif full:
        notes.append(f"WordNet was not measured: {_WORDNET} is no folder (Debian's wordnet-base brings it).")
    return Result(columns=("contender", "what", "figure"), rows=rows, keys=keys, notes=notes)


def measure_index(items: int) -> tuple[Rows, dict[str, float], str]:
    """Build an index of clustered vectors; returns its rows, keys and note beside raw FAISS."""
    vectors, queries = _clustered(items)
    truth = exact_rows(queries, vectors, 10)
    with _folder_of(items) as folder:
        built = "built before"
        if not (folder / MANIFEST).exists():
            started = time.perf_counter()
            ids = [str(row) for row in range(items)]
            build_index(folder, vectors, ids, [{}] * items, space_digest=_SPACE, name="benchmark", version=1)
            built = f"built in {time.perf_counter() - started:.0f} s"
        index = VectorIndex(folder)
        manifest = index.manifest
        found = [hits for query in queries for hits in index.search(query[None], 10)]
        recall = statistics.fmean(
            len({int(hit.id) for hit in hits} & set(wanted.tolist())) / 10
            for hits, wanted in zip(found, truth, strict=True)
        )
        seconds = _speeds(index, vectors, queries, folder)
    rows = [(name, f"one of {items:,}", f"{1 / value:,.0f} queries/s") for name, value in seconds.items()]
    rows.append(("ours", f"recall@10 among {items:,}", f"{recall:.4f}"))
    suffix = "" if items == _ITEMS else "_million"
    keys = {
        f"recall_at_10{suffix}": recall,
        f"ann_vs_flat{suffix}": seconds["raw FAISS, flat"] / seconds["ours"],
        f"ours_vs_raw_faiss{suffix}": seconds["ours"] / seconds["raw FAISS, same structure"],
    }
    note = (
        f"{items:,} vectors in {_CLUSTERS:,} clusters: {manifest.kind} of breadth {manifest.breadth}, {built}; its "
        f"manifest promises recall@10 {manifest.recall_at_10:.4f}. Queries are new draws from the same clusters, one by one, "
        f"{_FAST_QUERIES_PER_TURN} in a turn."
    )
    return rows, keys, note


@contextmanager
def _folder_of(items: int) -> Iterator[Path]:
    """Give an empty folder, or what an earlier run built where EMBEDDER_BENCHMARK_INDEXES says that indexes are kept."""
    kept = os.environ.get("EMBEDDER_BENCHMARK_INDEXES")
    if kept:
        folder = Path(kept) / str(items)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="embedder-benchmark-") as made:
            yield Path(made)


def _clustered(items: int) -> tuple[Floats, Floats]:
    generator = np.random.default_rng(1)
    centres = generator.standard_normal((_CLUSTERS, _DIM)).astype(np.float32)
    vectors = np.empty((items, _DIM), np.float32)
    for start in range(0, items, 50_000):
        size = min(50_000, items - start)
        vectors[start : start + size] = centres[generator.integers(0, _CLUSTERS, size)]
        vectors[start : start + size] += 0.7 * generator.standard_normal((size, _DIM), np.float32)
    queries = centres[generator.integers(0, _CLUSTERS, _QUERIES)]
    return _unit(vectors), _unit(queries + 0.7 * generator.standard_normal(queries.shape, np.float32))


def _speeds(index: VectorIndex, vectors: Floats, queries: Floats, folder: Path) -> dict[str, float]:
    flat = faiss.IndexFlatIP(_DIM)
    flat.add(vectors)
    raw = faiss.read_index(str(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
    if hasattr(raw, "nprobe"):
        raw.nprobe = index.manifest.breadth
    elif hasattr(raw, "hnsw"):
        raw.hnsw.efSearch = max(index.manifest.breadth, 10)
    one = iter(range(10**9))

    def query() -> Floats:
        row = next(one) % _QUERIES
        return queries[row : row + 1]

    return _in_turns(
        {
            "ours": lambda: index.search(query(), 10),
            "raw FAISS, same structure": lambda: raw.search(query(), 10),
            "raw FAISS, flat": lambda: flat.search(query(), 10),
        }
    )


def _wordnet(console: Console) -> tuple[Rows, dict[str, float], str]:
    pairs = _glosses()
    glosses, examples = [gloss for gloss, _ in pairs], [example for _, example in pairs[:_EXAMPLES]]
    vectors = _embed([*glosses, *examples], console)
    queries = [Query(vector, text) for vector, text in zip(vectors[len(glosses) :], examples, strict=True)]
    ids = [str(row) for row in range(len(glosses))]
    with tempfile.TemporaryDirectory(prefix="embedder-benchmark-") as folder:
        build_index(
            Path(folder),
            vectors[: len(glosses)],
            ids,
            [{}] * len(ids),
            space_digest=_SPACE,
            name="glosses",
            version=1,
            texts=glosses,
        )
        index = VectorIndex(Path(folder))
        found = {mode.value: _ids(index, queries, SearchOptions(10, mode)) for mode in SearchMode}
        parts = [_ids(index, queries, SearchOptions(100, mode)) for mode in (SearchMode.DENSE, SearchMode.LEXICAL)]
        found["reciprocal ranks"] = [_reciprocal(ranked) for ranked in zip(*parts, strict=True)]
    rows: Rows = []
    keys: dict[str, float] = {}
    for name, ranked in found.items():
        mrr = statistics.fmean(
            1 / (1 + hits.index(str(row))) if str(row) in hits else 0.0 for row, hits in enumerate(ranked)
        )
        recall = statistics.fmean(str(row) in hits for row, hits in enumerate(ranked))
        rows.append((name, f"a gloss among {len(glosses):,}", f"MRR@10 {mrr:.4f}, recall@10 {recall:.4f}"))
        keys[f"wordnet_mrr_{name.replace(' ', '_')}"] = mrr
    keys["hybrid_vs_best_part"] = keys["wordnet_mrr_hybrid"] / max(
        keys["wordnet_mrr_dense"], keys["wordnet_mrr_lexical"]
    )
    return (
        rows,
        keys,
        f"WordNet: {len(examples):,} example sentences, each of which must find its own synset's words and gloss.",
    )


def _glosses() -> list[tuple[str, str]]:
    pairs = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (_WORDNET / f"data.{part}").read_text(encoding="latin-1").splitlines():
            head, bar, gloss = line.partition(" | ")
            examples = re.findall(r'"([^"]+)"', gloss)
            if line.startswith(" ") or not bar or not examples:
                continue
            fields = head.split()
            words = [
                re.sub(r"\(.*\)", "", fields[4 + 2 * place]).replace("_", " ") for place in range(int(fields[3], 16))
            ]
            definition = re.split(r';\s*"', gloss)[0].strip()
            pairs.append((f"{', '.join(words)}: {definition}", examples[0]))
    order = np.random.default_rng(0).permutation(len(pairs))[:_GLOSSES]
    return [pairs[row] for row in order]


def _embed(texts: Sequence[str], console: Console) -> Floats:
    encoder = load_encoder("default", device="auto", limits=MediaLimits())
    try:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        vectors = np.empty((len(texts), encoder.info.dim), np.float32)
        for start in track(range(0, len(order), 64), "embed", console=console):
            rows = order[start : start + 64]
            vectors[rows] = encoder.encode_texts(encoder.prepare_texts([texts[row] for row in rows]))
        return vectors
    finally:
        encoder.close()


def _ids(index: VectorIndex, queries: Sequence[Query], options: SearchOptions) -> list[list[str]]:
    return [[hit.id for hit in hits] for hits in search(index, queries, options)]


def _reciprocal(ranked: Sequence[Sequence[str]]) -> list[str]:
    """Fuse rankings by reciprocal ranks (Cormack et al. 2009), the peer of our fusion."""
    scores: dict[str, float] = {}
    for hits in ranked:
        for rank, hit in enumerate(hits, start=1):
            scores[hit] = scores.get(hit, 0.0) + 1 / (_RRF + rank)
    return sorted(scores, key=lambda hit: -scores[hit])[:10]


def _in_turns(contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return each contender's median seconds a call, after so many calls that each has read its part of the files once."""
    for name, run in contenders.items():
        for _ in range(1 if "flat" in name else _QUERIES):
            run()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(_ROUNDS):
        for name, run in contenders.items():
            queries = _QUERIES_PER_TURN.get(name, _FAST_QUERIES_PER_TURN)
            started = time.perf_counter()
            for _ in range(queries):
                run()
            taken[name].append((time.perf_counter() - started) / queries)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _add(
    rows: Rows, keys: dict[str, float | None], notes: list[str], found: tuple[Rows, dict[str, float], str]
) -> None:
    rows += found[0]
    keys.update(found[1])
    notes.append(found[2])


def _unit(vectors: npt.NDArray[Any]) -> Floats:
    array = np.asarray(vectors, np.float32)
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main("retrieval", __doc__ or "", measure)
