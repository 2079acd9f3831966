"""The two-tower recommender: it learns what follows what, new items go by content, and serving computes what training did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from embedder_heads.errors import IndexInvalid, QueryInvalid, TrainingDataInvalid, UserNotFound
from embedder_heads.index.library import IndexLibrary
from embedder_heads.index.metadata import Metadata
from embedder_heads.recommendation.recommender import TrainedRecommender, recommend, seen_by
from embedder_heads.recommendation.tags import tags_of
from embedder_heads.recommendation.two_tower import TwoTower
from embedder_heads.training import two_tower as training
from embedder_heads.training.interactions import Catalogue, Rows, read_histories
from embedder_heads.training.two_tower import TwoTowerOptions, train_two_tower

Floats = npt.NDArray[np.float32]
OPTIONS = TwoTowerOptions(width=16, axes=8, side=8, recent=6, epochs=15, batch=64, random_negatives=32)
ITEMS, GROUPS, DIM = 60, 3, 16


@dataclass(frozen=True)
class World:
    """Items of three groups; users stay in one group and walk through it in order."""

    catalogue: Catalogue
    metadata: list[Metadata]
    histories: list[Rows]
    group: npt.NDArray[np.intp]


@pytest.fixture(scope="module")
def world() -> World:
    generator = np.random.default_rng(0)
    group = np.arange(ITEMS) % GROUPS
    vectors = (generator.standard_normal((GROUPS, DIM))[group] + 0.7 * generator.standard_normal((ITEMS, DIM))).astype(
        np.float32
    )
    vectors += 2.0  # all contents share a direction, as texts of one form do
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    metadata: list[Metadata] = [{"shelf": f"shelf {group[row]}", "name": f"item {row}"} for row in range(ITEMS)]
    catalogue = Catalogue(
        tuple(f"i{row}" for row in range(ITEMS)), vectors, tuple(tags_of(entry) for entry in metadata)
    )
    histories = []
    for user in range(120):
        own = np.flatnonzero(group == user % GROUPS)[:-2]  # the last two of each group are seen by nobody
        start = int(generator.integers(0, len(own) - 8))
        histories.append(own[start : start + 8])
    return World(catalogue, metadata, histories, group)


@pytest.fixture(scope="module")
def tower(world: World) -> TwoTower:
    return train_two_tower(world.catalogue, world.histories, options=OPTIONS)


@pytest.fixture(scope="module")
def library(world: World, tower: TwoTower, tmp_path_factory: pytest.TempPathFactory) -> IndexLibrary:
    library = IndexLibrary(tmp_path_factory.mktemp("indexes"))
    library.publish(
        "shop",
        world.catalogue.vectors,
        world.catalogue.ids,
        world.metadata,
        space_digest=bytes(32),
        recommender=TrainedRecommender(tower),
    )
    library.refresh()
    return library


def _ask(library: IndexLibrary, top_k: int, history: list[str], **options: object) -> list[str]:
    index = library.open("shop")
    found = recommend(index, library.recommender_of(index), top_k, history_ids=history, **options)  # type: ignore[arg-type]
    return [hit.id for hit in found]


def test_what_follows_is_found_near_the_top(library: IndexLibrary, world: World) -> None:
    own = np.flatnonzero(world.group == 1)
    assert f"i{own[8]}" in _ask(library, 3, [f"i{row}" for row in own[5:8]])
    hits = _ask(library, 5, [f"i{row}" for row in own[2:6]])
    assert all(world.group[int(name[1:])] == 1 for name in hits)
    assert not set(hits) & {f"i{row}" for row in own[2:6]}


def test_items_that_nobody_has_seen_are_ranked_by_their_content(
    library: IndexLibrary, world: World, tower: TwoTower
) -> None:
    unseen = [row for group in range(GROUPS) for row in np.flatnonzero(world.group == group)[-2:]]
    assert not {f"i{row}" for row in unseen} & set(tower.ids)
    for group in range(GROUPS):
        history = [f"i{row}" for row in np.flatnonzero(world.group == group)[:4]]
        others = [f"i{row}" for row in range(ITEMS) if row not in unseen]
        best = _ask(library, 2, history, exclude=others)
        assert {world.group[int(name[1:])] for name in best} == {group}


def test_item_added_today_is_recommended_today(library: IndexLibrary, world: World) -> None:
    own = [row for row in range(ITEMS) if world.group[row] == 0]
    vector = world.catalogue.vectors[own].mean(axis=0, keepdims=True)
    vector /= np.linalg.norm(vector)
    added = library.add("shop", vector, ["brand-new"], [{"shelf": "shelf 0"}], space_digest=bytes(32))
    library.refresh()
    others = [f"i{row}" for row in range(ITEMS) if world.group[row] == 0]
    assert "brand-new" in _ask(library, 1, [f"i{row}" for row in own[:4]], exclude=others[4:])
    assert added.items == ITEMS + 1
    library.rollback("shop")
    library.refresh()


def test_contents_outside_the_index_and_filters_are_understood(library: IndexLibrary, world: World) -> None:
    own = np.flatnonzero(world.group == 2)
    hits = _ask(library, 5, [], history_vectors=world.catalogue.vectors[own[:3]])
    assert sum(world.group[int(name[1:])] == 2 for name in hits) >= 4
    hits = _ask(library, 5, [f"i{own[0]}"], filters={"shelf": "shelf 0"})
    assert {world.group[int(name[1:])] for name in hits} == {0}
    with pytest.raises(QueryInvalid, match="none of the history"):
        _ask(library, 5, ["gone"])
    with pytest.raises(QueryInvalid, match="top_k=0"):
        _ask(library, 0, ["i0"])


def test_serving_scores_are_training_scores(world: World) -> None:
    options = TwoTowerOptions(width=16, axes=8, side=8, recent=6, epochs=1, batch=64, random_negatives=16)
    run = training._Run(world.catalogue, world.histories, options)
    run.epoch()
    tower = run.result()
    table = tower.table(world.catalogue.vectors, world.catalogue.ids, world.catalogue.tags)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "dropout", lambda inputs, share: inputs)
        steps = run._next.take(torch.arange(0, 200, 7))
        users = run._users(steps).numpy()
        rows = torch.arange(ITEMS)
        known, new = run._items(rows, 0.0).numpy(), run._items(rows, 1.0).numpy()
    seen = np.isin(world.catalogue.ids, tower.ids)
    np.testing.assert_allclose(table.vectors, np.where(seen[:, None], known, new), rtol=1e-4, atol=1e-5)
    for number, recent in enumerate(steps.recent.numpy()):
        history = recent[recent < ITEMS][::-1]
        if len(history) == options.recent:
            continue  # training saw more of it in the profile than these rows tell
        ours = tower.history_vector(table.content[history], table.seen[history], table.attention[history])
        np.testing.assert_allclose(ours, users[number], rtol=1e-3, atol=1e-4)


def test_recommender_comes_back_from_its_files_and_damage_is_refused(tower: TwoTower, tmp_path: Path) -> None:
    tower.save(tmp_path)
    again = TwoTower.load(tmp_path)
    assert (again.ids, again.tags) == (tower.ids, tower.tags)
    for name, tensor in tower.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)
    with pytest.raises(IndexInvalid, match="NaN"):
        TwoTower({**tower.tensors, "key": tower.tensors["key"] * np.float32(np.nan)}, ids=tower.ids, tags=tower.tags)
    with pytest.raises(IndexInvalid, match="item_own"):
        TwoTower(tower.tensors, ids=tower.ids[1:], tags=tower.tags)
    payload = bytearray((tmp_path / "recommender.safetensors").read_bytes())
    payload[-1] ^= 1
    (tmp_path / "recommender.safetensors").write_bytes(payload)
    with pytest.raises(IndexInvalid, match="digest"):
        TwoTower.load(tmp_path)


def test_user_is_known_by_what_the_training_file_said(world: World, tower: TwoTower, tmp_path: Path) -> None:
    library = IndexLibrary(tmp_path)
    ids = list(world.catalogue.ids)
    users = {"ann": [ids[0], ids[3], "gone"], "bob": [ids[1]], "new": []}
    library.publish(
        "shop",
        world.catalogue.vectors,
        ids,
        world.metadata,
        space_digest=bytes(32),
        recommender=TrainedRecommender(tower, users=users),
    )
    library.refresh()
    recommender = library.recommender_of(library.open("shop"))
    assert recommender is not None
    assert [seen_by(recommender, user) for user in ("ann", "bob", "new", "")] == [[ids[0], ids[3]], [ids[1]], [], []]
    with pytest.raises(UserNotFound, match="'eve' is not among the 3"):
        seen_by(recommender, "eve")
    with pytest.raises(UserNotFound, match="no trained recommender"):
        seen_by(None, "ann")
    library.remove_items("shop", [ids[0]])  # users go along to the next version
    library.refresh()
    assert seen_by(library.recommender_of(library.open("shop")), "ann") == [ids[3]]
    broken = next(tmp_path.glob("shop/2/users.seen.npy"))
    np.save(broken, np.full_like(np.load(broken), ITEMS))
    with pytest.raises(IndexInvalid, match="outside the index"):
        IndexLibrary(tmp_path).open("shop@2")


def test_score_of_a_candidate_is_its_score_when_recommended(library: IndexLibrary, world: World) -> None:
    index = library.open("shop")
    recommender = library.recommender_of(index)
    assert recommender is not None
    history = [world.catalogue.ids[0], world.catalogue.ids[3]]
    hits = recommender.recommend(5, history_ids=history)
    rows = index.rows_of([hit.id for hit in hits])
    scores = recommender.score(history_ids=history, history_vectors=None, rows=rows)
    np.testing.assert_allclose(scores, [hit.score for hit in hits], rtol=1e-5)
    unseen = world.catalogue.vectors[-2:]
    as_new = recommender.score(history_ids=history, history_vectors=None, vectors=unseen)
    assert as_new.shape == (2,)
    assert np.isfinite(as_new).all()


def test_histories_are_read_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "seen.csv"
    path.write_text("user,item,at\nann,b,3\nbob,a,1\nann,a,1\nann,gone,2\nann,c,3\n")
    histories = read_histories(path, ["a", "b", "c"], user="user", item="item", time="at")
    assert {user: history.tolist() for user, history in histories.items()} == {"ann": [0, 1, 2], "bob": [0]}
    with pytest.raises(TrainingDataInvalid, match="row 1 has no column 'who'"):
        read_histories(path, ["a"], user="who", item="item", time="")
    with pytest.raises(TrainingDataInvalid, match="no interaction"):
        read_histories(path, ["z"], user="user", item="item", time="at")


def test_histories_of_one_item_are_nothing_to_learn_from(world: World) -> None:
    with pytest.raises(TrainingDataInvalid, match="nothing that follows"):
        train_two_tower(world.catalogue, [np.array([3])], options=OPTIONS)


def test_metadata_become_tags() -> None:
    tags = tags_of({"title": "Heat", "year": 1995, "genres": ["Crime", "Drama"], "score": float("nan")})
    assert tags == ("title=Heat", "year=1995", "year~1990", "genres=Crime", "genres=Drama")
