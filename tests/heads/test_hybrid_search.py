"""Search by words and by both: BM25 by its formula, filters in every mode, texts that move with their items."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from embedder_heads.errors import IndexNotFound, QueryInvalid
from embedder_heads.index.building import build_index
from embedder_heads.index.hybrid import Query, SearchMode, SearchOptions, search
from embedder_heads.index.library import IndexLibrary
from embedder_heads.index.passages import split_passages
from embedder_heads.index.vector_index import VectorIndex
from embedder_heads.index.words import WordSplitter

Floats = npt.NDArray[np.float32]
SPACE = bytes(range(32))
TEXTS = [
    "The cat sat on the mat",
    "Cats chase mice; a cat sleeps",
    "Dogs chase cats",
    "Stock prices rose on Monday",
    "",
    "Кошка спит на окне",
]


def _build(folder: Path, vectors: Floats, texts: list[str] | None) -> VectorIndex:
    count = len(texts or TEXTS)
    build_index(
        folder,
        vectors[:count],
        [f"t{row}" for row in range(count)],
        [{"even": row % 2 == 0, "row": row} for row in range(count)],
        space_digest=SPACE,
        name="texts",
        version=1,
        texts=texts,
    )
    return VectorIndex(folder)


@pytest.fixture
def index(tmp_path: Path, vectors: Floats) -> VectorIndex:
    return _build(tmp_path, vectors, TEXTS)


def _ask(index: VectorIndex, text: str | None, vector: Floats, **options: object) -> list[tuple[str, float]]:
    [hits] = search(index, [Query(vector, text)], SearchOptions(**options))  # type: ignore[arg-type]
    return [(hit.id, hit.score) for hit in hits]


def _bm25(query: str, texts: list[str]) -> list[float]:
    """Score texts by the published formula (Lucene's variant), word by word."""
    splitter = WordSplitter()
    documents = [splitter.split(text) for text in texts]
    mean = sum(map(len, documents)) / len(documents)
    scores = []
    for document in documents:
        score = 0.0
        for word in splitter.split(query):
            holding = sum(word in other for other in documents)
            idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
            times = document.count(word)
            score += idf * times / (times + 1.2 * (1 - 0.75 + 0.75 * len(document) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("query", ["cat", "cats chasing", "Monday prices cat cat", "кошка", "MAT."])
def test_lexical_scores_are_bm25(index: VectorIndex, vectors: Floats, query: str) -> None:
    expected = {f"t{row}": score for row, score in enumerate(_bm25(query, TEXTS)) if score > 0}
    found = _ask(index, query, vectors[0], mode=SearchMode.LEXICAL)
    assert dict(found) == pytest.approx(expected, rel=1e-5)
    assert [score for _, score in found] == sorted(expected.values(), reverse=True) or expected.keys() == dict(
        found
    ).keys()


def test_words_that_no_text_holds_find_nothing(index: VectorIndex, vectors: Floats) -> None:
    for query in ("zebra", "", "the of", "!?"):
        assert _ask(index, query, vectors[0], mode=SearchMode.LEXICAL) == []


def test_hybrid_scores_every_candidate_by_both_parts(index: VectorIndex, vectors: Floats) -> None:
    words = np.array(_bm25("cat", TEXTS))
    stored = vectors[: len(TEXTS)].astype(np.float16).astype(np.float32)
    expected = 0.6 * (stored @ vectors[9]) + 0.4 * words / words.max()
    # One candidate a part: the best by each, and each with its true score in the other.
    found = _ask(index, "cat", vectors[9], mode=SearchMode.HYBRID, dense_weight=0.6, candidates=1, top_k=1)
    union = {int(np.argmax(stored @ vectors[9])), int(np.argmax(words))}
    best = max(union, key=lambda row: expected[row])
    assert found == [(f"t{best}", pytest.approx(expected[best], abs=2e-3))]
    every = _ask(index, "cat", vectors[9], mode=SearchMode.HYBRID, dense_weight=0.6)
    assert dict(every) == pytest.approx({f"t{row}": score for row, score in enumerate(expected)}, abs=2e-3)
    assert [score for _, score in every] == sorted((score for _, score in every), reverse=True)


@pytest.mark.parametrize("mode", list(SearchMode))
def test_filters_hold_in_every_mode(index: VectorIndex, vectors: Floats, mode: SearchMode) -> None:
    found = _ask(index, "cat chase", vectors[2], mode=mode, filters={"even": True})
    assert found
    assert {item for item, _ in found} <= {"t0", "t2", "t4"}


def test_what_can_not_be_searched_by_words_is_told(index: VectorIndex, tmp_path: Path, vectors: Floats) -> None:
    with pytest.raises(QueryInvalid, match="no text"):
        _ask(index, None, vectors[0], mode=SearchMode.HYBRID)
    with pytest.raises(QueryInvalid, match="dense_weight=2"):
        _ask(index, "cat", vectors[0], mode=SearchMode.HYBRID, dense_weight=2.0)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(QueryInvalid, match="texts@1 keeps no texts"):
        _ask(_build(other, vectors, None), "cat", vectors[0], mode=SearchMode.LEXICAL)
    third = tmp_path / "third"
    third.mkdir()
    with pytest.raises(QueryInvalid, match="no item has a text"):
        _build(third, vectors, [""] * 4)


def test_texts_move_with_their_items(tmp_path: Path, vectors: Floats) -> None:
    library = IndexLibrary(tmp_path)
    ids = [f"t{row}" for row in range(4)]
    library.publish("texts", vectors[:4], ids, [{}] * 4, space_digest=SPACE, texts=TEXTS[:4])
    library.add("texts", vectors[4:6], ["t0", "new"], [{}] * 2, space_digest=SPACE, texts=["A parrot talks", "A hen"])
    library.refresh()
    library.remove_items("texts", ["t3"])
    library.refresh()
    index = library.open("texts")
    assert {item: index.text_of(item) for item in ("t0", "t1", "new", "t3")} == {
        "t0": "A parrot talks",
        "t1": TEXTS[1],
        "new": "A hen",
        "t3": "",
    }
    assert [item for item, _ in _ask(index, "parrots", vectors[0], mode=SearchMode.LEXICAL)] == ["t0"]
    assert _ask(index, "stock", vectors[0], mode=SearchMode.LEXICAL) == []


def test_compacting_leaves_what_aliases_mean(tmp_path: Path, vectors: Floats) -> None:
    library = IndexLibrary(tmp_path)
    for count in (3, 4, 5):
        library.publish("texts", vectors[:count], [str(row) for row in range(count)], [{}] * count, space_digest=SPACE)
    library.promote("texts@1", "prod")
    assert library.compact("texts") == [2]
    assert library.compact("texts") == []
    serving = IndexLibrary(tmp_path)
    assert (len(serving.open("texts")), len(serving.open("texts@prod"))) == (5, 3)
    with pytest.raises(IndexNotFound):
        library.compact("nothing")


def test_passages_end_with_sentences_and_lose_nothing() -> None:
    text = "One two three. (Four five!) Six seven eight nine ten eleven.\n\nA new paragraph 3.5 long. " + "Word " * 25
    passages = split_passages(text, max_words=6)
    assert passages[:3] == [
        "One two three. (Four five!)",
        "Six seven eight nine ten eleven.",
        "A new paragraph 3.5 long.",
    ]
    assert all(len(passage.split()) <= 6 for passage in passages)
    assert " ".join(passages).split() == text.split()
