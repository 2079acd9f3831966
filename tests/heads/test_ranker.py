"""The ranker behind the towers: serving computes what training did, and it is kept only where it ranks no worse."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from embedder_heads.errors import IndexInvalid, TrainingDataInvalid
from embedder_heads.index.library import IndexLibrary
from embedder_heads.recommendation.ranker import Ranker
from embedder_heads.recommendation.recommender import TrainedRecommender, recommend, traits_of
from embedder_heads.recommendation.tags import tags_of
from embedder_heads.training import ranker as training
from embedder_heads.training.interactions import Catalogue, Rows, read_traits
from embedder_heads.training.ranker import Gain, RankerOptions, TrainedRanker, train_ranker
from embedder_heads.training.ranking_lists import Lists, ListShape
from embedder_heads.training.two_tower import TwoTowerOptions, train_two_tower

ITEMS, DIM = 80, 16
TOWERS = TwoTowerOptions(width=8, axes=8, side=4, recent=6, epochs=2, batch=64, random_negatives=32)
OPTIONS = RankerOptions(width=4, axes=8, inner=8, top=16, candidates=20, places=4, epochs=2, batch=32)
METADATA = [{"shelf": f"shelf {row % 4}"} for row in range(ITEMS)]
IDS = [f"i{row}" for row in range(ITEMS)]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    generator = np.random.default_rng(0)
    vectors = (
        generator.standard_normal((4, DIM))[np.arange(ITEMS) % 4] + generator.standard_normal((ITEMS, DIM))
    ).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Catalogue(tuple(IDS), vectors, tuple(tags_of(entry) for entry in METADATA))


@pytest.fixture(scope="module")
def histories() -> list[Rows]:
    """Users stay on a shelf; the last four items of the catalogue are seen by nobody."""
    generator = np.random.default_rng(1)
    shelves = [np.arange(shelf, ITEMS - 4, 4) for shelf in range(4)]
    return [generator.permutation(shelves[user % 4])[: 8 + user % 5] for user in range(60)]


TRAITS = [(f"from=town {user % 4}",) for user in range(60)]


@pytest.fixture(scope="module")
def trained(catalogue: Catalogue, histories: list[Rows]) -> TrainedRanker:
    return train_ranker(catalogue, histories, traits=TRAITS, towers=TOWERS, options=OPTIONS)


@pytest.fixture(scope="module")
def library(
    catalogue: Catalogue, histories: list[Rows], trained: TrainedRanker, tmp_path_factory: pytest.TempPathFactory
) -> IndexLibrary:
    library = IndexLibrary(tmp_path_factory.mktemp("indexes"))
    recommender = TrainedRecommender(
        train_two_tower(catalogue, histories, options=TOWERS),
        trained.ranker,
        users={"ann": [IDS[row] for row in histories[1]], "bob": [IDS[row] for row in histories[2]]},
        traits={"ann": TRAITS[1]},
    )
    library.publish("shop", catalogue.vectors, IDS, METADATA, space_digest=bytes(32), recommender=recommender)
    library.refresh()
    return library


def test_serving_logits_are_training_logits(catalogue: Catalogue, histories: list[Rows]) -> None:
    tower = train_two_tower(catalogue, histories, options=TOWERS)
    maker = training.ListMaker(catalogue, tower, histories, axes=OPTIONS.axes)
    shape = ListShape(places=2, candidates=20)
    lists = maker.lists(histories, range(60), shape).with_target()
    run = training._Run(maker, lists, TRAITS, OPTIONS)
    run.epoch()
    ranker = run.result(run.state(), catalogue, histories)
    table = tower.table(catalogue.vectors, catalogue.ids, catalogue.tags)
    items = ranker.items(catalogue.vectors, catalogue.ids, catalogue.tags)
    some = lists.take(np.arange(0, len(lists), 7))
    with torch.no_grad():
        expected = run._logits(some, torch.from_numpy(some.is_new), learning=False).numpy()
    starts = [*some.past_starts.tolist(), len(some.past)]
    for number, user in enumerate(some.user.tolist()):
        history = some.past[starts[number] : starts[number + 1]]
        vector = tower.history_vector(table.content[history], table.seen[history], table.attention[history])
        rows = some.rows[number]
        ours = ranker.logits(items.take(rows), table.vectors[rows] @ vector, items.take(history), TRAITS[user])
        np.testing.assert_allclose(ours, expected[number], rtol=1e-3, atol=1e-4)


def test_items_without_history_count_as_new(catalogue: Catalogue, trained: TrainedRanker) -> None:
    items = trained.ranker.items(catalogue.vectors, catalogue.ids, catalogue.tags)
    assert items.is_new.tolist() == [False] * (len(items.is_new) - 4) + [True] * 4
    assert not items.popularity[-4:].any()
    assert (items.popularity[:-4] > 0).all()
    assert not items.vectors[-4:, 0].any()
    assert items.vectors[-4:, 1:].any()


def test_new_items_keep_the_towers_order_at_one_learned_logit(catalogue: Catalogue, trained: TrainedRanker) -> None:
    ranker = trained.ranker
    items = ranker.items(catalogue.vectors, catalogue.ids, catalogue.tags)
    new = items.take(np.flatnonzero(items.is_new))
    towers = np.linspace(-1.0, 1.0, len(new.is_new), dtype=np.float32)
    logits = ranker.logits(new, towers, items.take(np.arange(5)), TRAITS[0])
    expected = ranker.tensors["logit_scale"] * towers + ranker.tensors["new_logit"]
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    assert (np.diff(logits) > 0).all()
    assert ranker.tensors["new_logit"] != 0.0, "it was learned"


def test_towers_were_not_told_what_their_lists_must_rank(
    catalogue: Catalogue, histories: list[Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towers learn from histories without the places that lists are made for, and no user both teaches and validates."""
    learned: list[list[Rows]] = []
    made: list[Lists] = []

    def watched_training(catalogue, histories, *, options, on_progress):  # type: ignore[no-untyped-def]
        learned.append(histories)
        return train_two_tower(catalogue, histories, options=options)

    class WatchedMaker(training.ListMaker):
        def lists(self, histories, users, shape):  # type: ignore[no-untyped-def]
            made.append(super().lists(histories, users, shape))
            return made[-1]

    monkeypatch.setattr(training, "train_two_tower", watched_training)
    monkeypatch.setattr(training, "ListMaker", WatchedMaker)
    train_ranker(catalogue, histories, towers=TOWERS, options=OPTIONS)
    [told] = learned
    for history, earlier in zip(histories, told, strict=True):
        np.testing.assert_array_equal(earlier, history[:-4])
    lists, held_out = made
    assert not set(lists.user.tolist()) & set(held_out.user.tolist())
    starts = [*lists.past_starts.tolist(), len(lists.past)]
    for number, user in enumerate(lists.user.tolist()):
        past = lists.past[starts[number] : starts[number + 1]]
        following = histories[user][len(past)]
        assert len(past) >= len(told[user]), "the towers know nothing beyond the place"
        place = lists.target[number]
        assert (
            (lists.rows[number, place] == following)
            if place < lists.rows.shape[1]
            else following not in lists.rows[number]
        )
        assert not set(lists.rows[number].tolist()) & set(past.tolist())


def test_ranker_is_kept_only_where_it_ranks_no_worse(trained: TrainedRanker) -> None:
    assert trained.lists > 0
    # The state before the first pass ranks as the towers do, so the best one can't be worse.
    assert trained.gain.ranked >= trained.gain.towers
    assert replace(trained, gain=Gain(0.1, 0.1)).is_better
    assert not replace(trained, gain=Gain(0.1, 0.11)).is_better


def test_recommended_items_are_in_the_rankers_order_and_score_the_same(library: IndexLibrary) -> None:
    index = library.open("shop")
    recommender = library.recommender_of(index)
    assert recommender is not None
    history, traits = recommender.seen_by("ann"), traits_of(recommender, "ann")
    assert traits == TRAITS[1]
    assert traits_of(recommender, "bob") == traits_of(recommender, "eve") == traits_of(None, "ann") == ()
    hits = recommend(index, recommender, 5, history_ids=history, traits=traits)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert not {hit.id for hit in hits} & set(history)
    rows = index.rows_of([hit.id for hit in hits])
    again = recommender.score(history_ids=history, history_vectors=None, traits=traits, rows=rows)
    np.testing.assert_allclose(again, scores, rtol=1e-4, atol=1e-5)
    strangers = recommender.score(history_ids=history, history_vectors=None, rows=rows)
    assert not np.allclose(strangers, scores, atol=1e-5), "traits must count"
    assert recommender.score(history_ids=history, history_vectors=None, vectors=index.items(rows)[0]).shape == (5,)
    mixed = recommend(index, recommender, 3, history_ids=history[:2], history_vectors=index.items([5, 9])[0])
    assert len(mixed) == 3
    only = recommend(index, recommender, 100, history_ids=history, filters={"shelf": "shelf 3"})
    assert {hit.metadata["shelf"] for hit in only} == {"shelf 3"}


def test_ranker_and_traits_go_along_to_the_next_version(library: IndexLibrary, catalogue: Catalogue) -> None:
    library.add("shop", catalogue.vectors[:1], ["brand-new"], [{"shelf": "shelf 1"}], space_digest=bytes(32))
    library.refresh()
    recommender = library.recommender_of(library.open("shop"))
    assert recommender is not None
    assert recommender.ranker is not None
    assert traits_of(recommender, "ann") == TRAITS[1]
    history = recommender.seen_by("ann")
    assert "brand-new" in [hit.id for hit in recommender.recommend(90, history_ids=history)]
    library.rollback("shop")
    library.refresh()


def test_ranker_comes_back_from_its_files_and_damage_is_refused(trained: TrainedRanker, tmp_path: Path) -> None:
    ranker = trained.ranker
    ranker.save(tmp_path)
    again = Ranker.load(tmp_path)
    assert (again.ids, again.tags, again.traits) == (ranker.ids, ranker.tags, ranker.traits)
    for name, tensor in ranker.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)

    def made(**changes: object) -> Ranker:
        told = {"tensors": ranker.tensors, "ids": ranker.ids, "tags": ranker.tags, "traits": ranker.traits} | changes
        return Ranker(told.pop("tensors"), **told)  # type: ignore[arg-type]

    with pytest.raises(IndexInvalid, match="NaN"):
        made(tensors={**ranker.tensors, "top_out": ranker.tensors["top_out"] * np.float32(np.nan)})
    with pytest.raises(IndexInvalid, match="seen_counts"):
        made(ids=ranker.ids[1:])
    with pytest.raises(IndexInvalid, match="has the tensors"):
        made(tensors={name: tensor for name, tensor in ranker.tensors.items() if name != "axes"})
    payload = bytearray((tmp_path / "ranker.safetensors").read_bytes())
    payload[-1] ^= 1
    (tmp_path / "ranker.safetensors").write_bytes(payload)
    with pytest.raises(IndexInvalid, match="digest"):
        Ranker.load(tmp_path)


def test_lists_can_be_taken_and_joined(catalogue: Catalogue, histories: list[Rows]) -> None:
    tower = train_two_tower(catalogue, histories, options=replace(TOWERS, epochs=1))
    maker = training.ListMaker(catalogue, tower, histories, axes=4)
    lists = maker.lists(histories, range(6), ListShape(places=2, candidates=10))
    order = np.random.default_rng(2).permutation(len(lists))
    back = Lists.join([lists.take(order[:5]), lists.take(order[5:])]).take(np.argsort(order))
    for name in ("user", "rows", "target", "past", "past_starts", "recent"):
        np.testing.assert_array_equal(getattr(back, name), getattr(lists, name))


def test_too_few_users_are_refused(catalogue: Catalogue, histories: list[Rows]) -> None:
    with pytest.raises(TrainingDataInvalid, match="1 users have two items or more; a ranker needs"):
        train_ranker(catalogue, [histories[0], histories[1][:1]], towers=TOWERS, options=OPTIONS)


def test_columns_of_users_become_traits(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user,age,town\nann,24,Bath\nbob,,York\n")
    assert read_traits(path, user="user") == {"ann": ("age=24", "age~20", "town=Bath"), "bob": ("town=York",)}
    with pytest.raises(TrainingDataInvalid, match="no column 'who'"):
        read_traits(path, user="who")
