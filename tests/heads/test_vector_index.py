"""Indexes: what is nearest is found, filters and exclusions hold, and damaged files are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from embedder_heads import HeadNotFound, HeadSpaceMismatch
from embedder_heads.errors import ArtifactInUse, IndexInvalid, IndexNotFound, QueryInvalid
from embedder_heads.index.building import build_index
from embedder_heads.index.filters import Filter, Range
from embedder_heads.index.library import IndexLibrary
from embedder_heads.index.metadata import Metadata
from embedder_heads.index.structures import IndexKind, exact_rows, kind_for
from embedder_heads.index.vector_index import VectorIndex

Floats = npt.NDArray[np.float32]
SPACE = bytes(range(32))


def _films(count: int) -> list[Metadata]:
    genres: tuple[list[str], ...] = (["Comedy"], ["Comedy", "Drama"], ["Drama"], [])
    return [{"title": f"Film {row}", "year": 1990 + row, "genres": genres[row % 4]} for row in range(count)]


def _build(folder: Path, vectors: Floats, **changes: object) -> VectorIndex:
    ids = [f"film-{row}" for row in range(len(vectors))]
    given: dict[str, object] = {"ids": ids, "metadata": _films(len(vectors)), **changes}
    build_index(folder, vectors, space_digest=SPACE, name="films", version=1, **given)  # type: ignore[arg-type]
    return VectorIndex(folder)


@pytest.fixture
def index(tmp_path: Path, vectors: Floats) -> VectorIndex:
    return _build(tmp_path, vectors)


def test_hits_are_the_nearest_by_cosine_best_first(index: VectorIndex, vectors: Floats) -> None:
    for row, hits in enumerate(index.search(vectors, 5)):
        cosines = vectors @ vectors[row]
        nearest = np.argsort(-cosines)[:5]
        assert [hit.id for hit in hits] == [f"film-{other}" for other in nearest]
        np.testing.assert_allclose([hit.score for hit in hits], cosines[nearest], atol=1e-5)
        assert hits[0].metadata == {"title": f"Film {row}", "year": 1990 + row, "genres": _films(20)[row]["genres"]}


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({"year": 1993}, {3}),
        ({"year": Range(1990, 1992)}, {0, 1, 2}),
        ({"year": Range(low=2008)}, {18, 19}),
        ({"title": ["Film 4", "Film 5", "Film 99"]}, {4, 5}),
        ({"genres": "Comedy"}, {row for row in range(20) if row % 4 in (0, 1)}),
        ({"genres": "Comedy", "year": Range(1990, 1993)}, {0, 1}),
        ({"genres": "Western"}, set()),
    ],
)
def test_only_what_passes_every_filter_is_found(
    index: VectorIndex, vectors: Floats, filters: Mapping[str, Filter], rows: set[int]
) -> None:
    [hits] = index.search(vectors[:1], 20, filters=filters)
    assert {hit.id for hit in hits} == {f"film-{row}" for row in rows}


def test_excluded_ids_do_not_come_back(index: VectorIndex, vectors: Floats) -> None:
    [hits] = index.search(vectors[:1], 20, exclude=["film-0", "film-7", "unknown"])
    assert {hit.id for hit in hits} == {f"film-{row}" for row in range(20)} - {"film-0", "film-7"}


def test_impossible_queries_are_refused(index: VectorIndex, vectors: Floats) -> None:
    with pytest.raises(QueryInvalid, match="no field 'actor'"):
        index.search(vectors, 5, filters={"actor": "Zoe"})
    for wrong in ({"year": "1993"}, {"title": 4}, {"genres": Range(1, 2)}, {"genres": ["Comedy", 1]}):
        with pytest.raises(QueryInvalid, match="holds"):
            index.search(vectors, 5, filters=wrong)  # type: ignore[arg-type]
    with pytest.raises(QueryInvalid, match="top_k=0"):
        index.search(vectors, 0)
    with pytest.raises(QueryInvalid, match="16"):
        index.search(vectors[:, :8], 5)


def test_items_are_known_by_their_ids(index: VectorIndex, vectors: Floats) -> None:
    assert "film-3" in index
    assert "film-20" not in index
    np.testing.assert_allclose(index.vectors_of(["film-9", "film-2"]), vectors[[9, 2]], atol=1e-3)
    with pytest.raises(QueryInvalid, match="film-20"):
        index.vectors_of(["film-2", "film-20"])


def test_ids_and_metadata_of_any_script_come_back(tmp_path: Path, vectors: Floats) -> None:
    ids = [f"фильм-{row}-\U0001f3ac" for row in range(20)]
    index = _build(tmp_path, vectors, ids=ids, metadata=[{"title": "日本\n" * row} if row else {} for row in range(20)])
    [hits] = index.search(vectors[3:4], 1)
    assert (hits[0].id, hits[0].metadata) == (ids[3], {"title": "日本\n" * 3})
    assert index.search(vectors[:1], 1)[0][0].metadata == {}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ids": ["a"] * 20}, "given twice"),
        ({"ids": [""] * 20}, "0 bytes"),
        ({"ids": ["a"]}, "as many"),
        ({"metadata": [{"year": 1}] * 19 + [{"year": "x"}]}, "both a number and a text"),
        ({"metadata": [{"year": {"from": 1}}] * 20}, "no text, number or list"),
    ],
)
def test_what_can_not_be_indexed_is_refused(
    tmp_path: Path, vectors: Floats, changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(QueryInvalid, match=reason):
        _build(tmp_path, vectors, **changes)


def test_every_damaged_file_is_refused(tmp_path: Path, vectors: Floats) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    _build(whole, vectors, texts=[f"film number {row}" for row in range(20)])
    for path in sorted(whole.iterdir()):
        for damage in ("missing", "truncated", "link"):
            copy = tmp_path / f"{path.name}-{damage}"
            shutil.copytree(whole, copy)
            broken = copy / path.name
            if damage == "truncated":
                broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
            else:
                broken.unlink()
                if damage == "link":
                    broken.symlink_to(path)
            with pytest.raises(IndexInvalid):
                VectorIndex(copy)


def _publish(library: IndexLibrary, vectors: Floats, name: str = "films") -> int:
    ids = [str(row) for row in range(len(vectors))]
    return library.publish(name, vectors, ids, [{}] * len(vectors), space_digest=SPACE).version


def test_library_serves_what_its_aliases_mean(tmp_path: Path, vectors: Floats) -> None:
    library = IndexLibrary(tmp_path)
    assert _publish(library, vectors[:5]) == 1
    assert _publish(library, vectors) == 2
    serving = IndexLibrary(tmp_path)
    assert len(serving.open("films", SPACE)) == 20
    assert len(serving.open("films@1")) == 5
    library.rollback("films")
    assert serving.refresh().changed
    assert len(serving.open("films")) == 5
    library.promote("films@2", "prod")
    serving.refresh()
    assert [(manifest.version, aliases) for manifest, aliases in serving.listing()] == [
        (1, ("current",)),
        (2, ("prod",)),
    ]
    with pytest.raises(ArtifactInUse):
        library.remove("films@2")
    library.remove("films")
    serving.refresh()
    assert serving.listing() == []
    with pytest.raises(IndexNotFound):
        serving.open("films")


def test_index_published_since_the_last_refresh_is_found(tmp_path: Path, vectors: Floats) -> None:
    serving = IndexLibrary(tmp_path)
    _publish(IndexLibrary(tmp_path), vectors)
    assert len(serving.open("films")) == 20


def test_bad_index_is_refused_and_the_old_one_stays(tmp_path: Path, vectors: Floats) -> None:
    library = IndexLibrary(tmp_path)
    _publish(library, vectors[:5])
    library.refresh()
    _publish(library, vectors)
    (tmp_path / "films" / "2" / "index.faiss").write_bytes(b"nothing")
    assert list(library.refresh().refused) == ["films@2"]
    assert len(library.open("films")) == 5
    assert len(IndexLibrary(tmp_path).open("films")) == 5


def test_items_come_and_go_by_versions(tmp_path: Path, vectors: Floats) -> None:
    library = IndexLibrary(tmp_path)
    _publish(library, vectors[:5])
    library.refresh()
    library.add("films", vectors[4:7], ["4", "5", "6"], [{"new": 1}] * 3, space_digest=SPACE)
    library.refresh()
    index = library.open("films")
    assert len(index) == 7
    assert index.search(vectors[4:5], 1)[0][0].metadata == {"new": 1}
    library.remove_items("films", ["4", "0"])
    library.refresh()
    assert sorted(library.open("films").items()[1]) == ["1", "2", "3", "5", "6"]
    assert "4" in library.open("films@2")
    with pytest.raises(QueryInvalid, match="'9'"):
        library.remove_items("films", ["1", "9"])
    with pytest.raises(QueryInvalid, match="at least one"):
        library.remove_items("films", ["1", "2", "3", "5", "6"])
    with pytest.raises(HeadSpaceMismatch):
        library.add("films", vectors[:1], ["7"], [{}], space_digest=bytes(32))


def test_index_of_another_space_and_unknown_names_are_refused(tmp_path: Path, vectors: Floats) -> None:
    library = IndexLibrary(tmp_path)
    _publish(library, vectors)
    with pytest.raises(HeadSpaceMismatch):
        library.open("films", bytes(32))
    with pytest.raises(IndexNotFound, match="films"):
        library.open("books")
    assert not issubclass(IndexNotFound, HeadNotFound)


def test_open_index_answers_after_its_files_are_removed(tmp_path: Path, vectors: Floats) -> None:
    library = IndexLibrary(tmp_path)
    _publish(library, vectors)
    index = library.open("films")
    library.remove("films")
    [hits] = index.search(vectors[4:5], 1)
    assert hits[0].id == "4"


@pytest.mark.parametrize("kind", list(IndexKind))
def test_every_kind_finds_what_its_manifest_promises(
    tmp_path: Path, clusters: Callable[[int], tuple[Floats, list[str]]], kind: IndexKind
) -> None:
    vectors, names = clusters(2500)
    metadata: list[Metadata] = [{"cluster": name, "even": row % 2} for row, name in enumerate(names)]
    index = _build(tmp_path, vectors, metadata=metadata, kind=kind)
    assert index.manifest.kind is kind
    assert index.manifest.recall_at_10 >= 0.99
    queries = clusters(2600)[0][2500:]
    truth = np.argsort(-(queries @ vectors.T), axis=1)
    found = index.search(queries, 10)
    hits = [int(hit.id.partition("-")[2]) for hits in found for hit in hits]
    right = np.mean([row in wanted[:10] for row, wanted in zip(hits, np.repeat(truth, 10, axis=0), strict=True)])
    assert right > 0.96
    for query, hits_of_query in zip(queries[:5], found, strict=False):
        rows = [int(hit.id.partition("-")[2]) for hit in hits_of_query]
        np.testing.assert_allclose([hit.score for hit in hits_of_query], vectors[rows] @ query, atol=2e-3)
    first = found[0][0].id
    assert first not in {hit.id for hit in index.search(queries[:1], 10, exclude=[first])[0]}
    for filters in ({"even": 1}, {"cluster": names[0]}):
        passing = [row for row in range(2500) if all(metadata[row][key] == value for key, value in filters.items())]
        [filtered] = index.search(queries[:1], 10, filters=filters)
        wanted = [f"film-{row}" for row in truth[0] if row in passing][:10]
        assert len({hit.id for hit in filtered} & set(wanted)) >= 9
        assert len(filtered) == 10


def test_number_of_items_chooses_the_kind() -> None:
    kinds = [kind_for(items) for items in (1, 50_000, 50_001, 200_001, 2_000_001)]
    assert kinds == [IndexKind.FLAT, IndexKind.FLAT, IndexKind.HNSW, IndexKind.IVF_FLAT, IndexKind.IVF_PQ]


def test_comparing_in_blocks_finds_the_nearest() -> None:
    generator = np.random.default_rng(0)
    vectors, queries = generator.standard_normal((70_000, 4)), generator.standard_normal((3, 4)).astype(np.float32)
    rows = exact_rows(queries, vectors.astype(np.float16), 5)
    truth = np.argsort(-(queries @ vectors.astype(np.float16).astype(np.float32).T), axis=1)[:, :5]
    np.testing.assert_array_equal(rows, truth)


def test_searching_from_many_threads_gives_the_same_hits(
    index: VectorIndex, clusters: Callable[[int], tuple[Floats, list[str]]]
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    queries, _ = clusters(40)
    expected = [[hit.id for hit in hits] for hits in index.search(queries, 5)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda query: [hit.id for hit in index.search(query[None], 5)[0]], queries))
    assert found == expected
