"""embedder-heads index recommender: what comes next, learned from who saw what and when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.cli import training_options as common
from embedder.cli.training_options import console, told_errors
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.index.library import IndexLibrary
from embedder_heads.recommendation.recommender import TrainedRecommender

if TYPE_CHECKING:
    from embedder_heads.recommendation.ranker import Ranker
    from embedder_heads.training.interactions import Catalogue, Rows
    from embedder_heads.training.two_tower import TwoTowerOptions


def train_recommender(
    ref: Annotated[str, typer.Argument(help="An index: films, films@3 or films@prod.")],
    file: Annotated[
        Path, typer.Argument(help="JSONL, CSV or Parquet file: who saw which item, and when.", exists=True)
    ],
    *,
    user: Annotated[str, typer.Option(help="Column of the users.")] = "user",
    item: Annotated[str, typer.Option(help="Column of the items' ids.")] = "item",
    time: Annotated[
        str, typer.Option(help="Column of a number that rises with time; '' when rows are in order.")
    ] = "time",
    ranker: Annotated[
        bool,
        typer.Option(
            help="Train a ranker too, which ranks again what the towers find. It takes a second training of the towers, and is published "
            "only if it ranks at least as well as they do where nothing learned what came next."
        ),
    ] = True,
    users: Annotated[
        Path | None,
        typer.Option(
            help="JSONL, CSV or Parquet file of the users; its other columns become traits that the ranker may look at.",
            exists=True,
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the file.")] = 4,
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 0,
    indexes_dir: common.IndexesDir = None,
) -> None:
    """Train a two-tower recommender and its ranker on histories, and publish them with the index's items as its next version."""
    from embedder_heads.recommendation.tags import tags_of
    from embedder_heads.training.interactions import Catalogue, read_histories, read_traits
    from embedder_heads.training.two_tower import TwoTowerOptions, train_two_tower

    with told_errors():
        library = IndexLibrary(common.indexes_folder(indexes_dir))
        index = library.open(ref)
        vectors, ids, metadata = index.items()
        histories = read_histories(file, ids, user=user, item=item, time=time)
        traits = read_traits(users, user=user) if users else {}
        console.print(f"{len(histories)} users, {sum(map(len, histories.values()))} interactions with items of {ref}")
        catalogue = Catalogue(tuple(ids), vectors, tuple(tags_of(entry) for entry in metadata))
        options = TwoTowerOptions(epochs=epochs, seed=seed)
        with common.progress("learn", epochs) as advance:
            tower = train_two_tower(catalogue, list(histories.values()), options=options, on_progress=advance)
        trained = TrainedRecommender(
            tower,
            _ranker(catalogue, histories, traits, options) if ranker else None,
            users={user_id: [ids[row] for row in rows] for user_id, rows in histories.items()},
            traits={user_id: traits[user_id] for user_id in histories if user_id in traits},
        )
        name, space = index.manifest.name, bytes.fromhex(index.manifest.space_digest)
        manifest = library.publish(
            name, vectors, ids, metadata, space_digest=space, recommender=trained, texts=index.texts()
        )
        console.print(f"published {name}@{manifest.version} with a recommender that knows {len(tower.ids)} items")


def _ranker(
    catalogue: Catalogue, histories: Mapping[str, Rows], traits: Mapping[str, Sequence[str]], towers: TwoTowerOptions
) -> Ranker | None:
    """Train a ranker, say what it brings, and return it if that is nothing to lose."""
    from embedder_heads.training.ranker import RankerOptions, steps, train_ranker

    options = RankerOptions(seed=towers.seed)
    try:
        with common.progress("rank", steps(towers, options)) as advance:
            trained = train_ranker(
                catalogue,
                list(histories.values()),
                traits=[traits.get(user_id, ()) for user_id in histories],
                towers=towers,
                options=options,
                on_progress=advance,
            )
    except TrainingDataInvalid as error:  # the towers have learned from the same histories: they serve without one
        console.print(f"[yellow]the ranker is left out: {error}[/]")
        return None
    gain = trained.gain
    console.print(
        f"ranker: NDCG@10 {gain.ranked:.4f}, the towers alone {gain.towers:.4f} ({trained.lists} lists held out)"
    )
    if not trained.is_better:
        console.print("[yellow]the ranker is left out: it ranks worse than the towers alone[/]")
    return trained.ranker if trained.is_better else None
