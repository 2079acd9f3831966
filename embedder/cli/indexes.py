"""embedder-heads index: nearest-neighbour indexes of contents that the service understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from embedder.cli import training_options as common
from embedder.cli.recommenders import train_recommender
from embedder.cli.training_options import console, told_errors
from embedder_heads.index.library import IndexLibrary

app = typer.Typer(no_args_is_help=True, help="Build and list the indexes that Retrieve and Recommend search.")
app.command("recommender")(train_recommender)

Ref = Annotated[str, typer.Argument(help="An index: films, films@3 or films@prod.")]


ItemsFile = Annotated[Path, typer.Argument(help="JSONL, CSV or Parquet file of items.", exists=True)]
IdColumn = Annotated[str, typer.Option("--id", help="Column of the items' ids.")]
TextColumn = Annotated[str, typer.Option("--text", help="Column of the texts; '' when there is none.")]
ImageColumn = Annotated[
    str, typer.Option("--image", help="Column of the images, as paths or bytes; '' when there is none.")
]
VideoColumn = Annotated[
    str, typer.Option("--video", help="Column of the videos, as paths or bytes; '' when there is none.")
]
SegmentSeconds = Annotated[
    float,
    typer.Option(
        min=-1,
        help="Length of the segments that each video becomes, an item each; 0 takes the service's. -1 keeps videos whole.",
    ),
]
MetadataColumns = Annotated[
    list[str] | None,
    typer.Option("--metadata", help="Column to keep beside the vector and to filter on; may be given several times."),
]
PassageWords = Annotated[
    int,
    typer.Option(
        min=0,
        help="Cut texts into passages of at most so many words, items of their own with ids such as 12#0; 0 keeps each text whole. The "
        "default model reads about 190 words.",
    ),
]


@app.command()
def build(
    file: ItemsFile,
    *,
    name: Annotated[str, typer.Option(help="Name of the index.")],
    item_id: IdColumn = "id",
    text: TextColumn = "text",
    image: ImageColumn = "",
    video: VideoColumn = "",
    segment_seconds: SegmentSeconds = 0,
    metadata: MetadataColumns = None,
    passage_words: PassageWords = 0,
    keep_texts: Annotated[
        bool,
        typer.Option(help="Keep the texts in the index: search by words, hybrid search and Answer need them."),
    ] = True,
    indexes_dir: common.IndexesDir = None,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    space: common.Space = "",
) -> None:
    """Build an index from a file of items, and publish it."""
    from embedder_heads.training.items import read_items
    from embedder_heads.training.segments import index_rows

    with told_errors():
        items = read_items(file, item_id=item_id, text=text, image=image, video=video, metadata=metadata or [])
        items = items.in_passages(passage_words) if passage_words else items
        found = common.embed(
            items.contents,
            target=target,
            token=token,
            tls_root=tls_root,
            space=space,
            task=f"index {name}",
            segment_seconds=_segments_wanted(video, segment_seconds),
        )
        _tell_left_out(items.ids, found.failures)
        rows = index_rows(items, found.vectors, found.segments, found.failures)
        manifest = IndexLibrary(common.indexes_folder(indexes_dir)).publish(
            name,
            rows.vectors,
            rows.ids,
            rows.metadata,
            space_digest=found.space_digest,
            texts=rows.texts if keep_texts and any(rows.texts) else None,
        )
        console.print(f"published {name}@{manifest.version}: {manifest.items} items, {manifest.kind}")


@app.command()
def add(
    ref: Ref,
    file: ItemsFile,
    *,
    item_id: IdColumn = "id",
    text: TextColumn = "text",
    image: ImageColumn = "",
    video: VideoColumn = "",
    segment_seconds: SegmentSeconds = 0,
    metadata: MetadataColumns = None,
    passage_words: PassageWords = 0,
    indexes_dir: common.IndexesDir = None,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    space: common.Space = "",
) -> None:
    """Add a file of items to an index, in place of those with the same ids, and publish it as the next version."""
    from embedder_heads.training.items import read_items
    from embedder_heads.training.segments import index_rows

    with told_errors():
        items = read_items(file, item_id=item_id, text=text, image=image, video=video, metadata=metadata or [])
        items = items.in_passages(passage_words) if passage_words else items
        found = common.embed(
            items.contents,
            target=target,
            token=token,
            tls_root=tls_root,
            space=space,
            task=f"index {ref}",
            segment_seconds=_segments_wanted(video, segment_seconds),
        )
        _tell_left_out(items.ids, found.failures)
        rows = index_rows(items, found.vectors, found.segments, found.failures)
        manifest = IndexLibrary(common.indexes_folder(indexes_dir)).add(
            ref,
            rows.vectors,
            rows.ids,
            rows.metadata,
            space_digest=found.space_digest,
            texts=rows.texts,
        )
        console.print(f"published {manifest.name}@{manifest.version}: {manifest.items} items, {manifest.kind}")


@app.command("remove-items")
def remove_items(
    ref: Ref,
    ids: Annotated[list[str], typer.Argument(help="Ids of the items.")],
    indexes_dir: common.IndexesDir = None,
) -> None:
    """Take items out of an index, and publish it as the next version; the earlier versions keep them until removed."""
    with told_errors():
        manifest = IndexLibrary(common.indexes_folder(indexes_dir)).remove_items(ref, ids)
        console.print(f"published {manifest.name}@{manifest.version}: {manifest.items} items, {manifest.kind}")


@app.command("list")
def list_indexes(indexes_dir: common.IndexesDir = None) -> None:
    """List the indexes that aliases point to."""
    with told_errors():
        table = Table("index", "version", "aliases", "kind", "items", "dim", "recall@10", "created")
        for manifest, aliases in IndexLibrary(common.indexes_folder(indexes_dir)).listing():
            m = manifest
            figures = (str(m.items), str(m.dim), f"{m.recall_at_10:.4f}")
            table.add_row(m.name, str(m.version), ", ".join(aliases), m.kind, *figures, m.created)
        Console().print(table)


@app.command()
def promote(
    ref: Ref,
    alias: Annotated[str, typer.Argument(help="Alias to point at it, such as prod.")],
    indexes_dir: common.IndexesDir = None,
) -> None:
    """Point an alias at a version."""
    with told_errors():
        version = IndexLibrary(common.indexes_folder(indexes_dir)).promote(ref, alias)
        console.print(f"{ref.partition('@')[0]}@{alias} is version {version} now")


@app.command()
def rollback(ref: Ref, indexes_dir: common.IndexesDir = None) -> None:
    """Point an alias back at the version that it pointed to before; a bare name means its current version."""
    with told_errors():
        version = IndexLibrary(common.indexes_folder(indexes_dir)).rollback(ref)
        console.print(f"{ref} is version {version} now")


@app.command()
def compact(
    name: Annotated[str, typer.Argument(help="Name of an index.")],
    indexes_dir: common.IndexesDir = None,
) -> None:
    """Remove every version that no alias points to; rollback then has nothing to go back to."""
    with told_errors():
        gone = IndexLibrary(common.indexes_folder(indexes_dir)).compact(name)
        console.print(
            f"removed {', '.join(f'{name}@{version}' for version in gone) or 'nothing: every version is in use'}"
        )


@app.command()
def remove(ref: Ref, indexes_dir: common.IndexesDir = None) -> None:
    """Remove a version that no alias points to, or every version of a name."""
    with told_errors():
        IndexLibrary(common.indexes_folder(indexes_dir)).remove(ref)
        console.print(f"{ref} is removed")


def _segments_wanted(video: str, segment_seconds: float) -> float | None:
    return segment_seconds if video and segment_seconds >= 0 else None


def _tell_left_out(ids: Sequence[str], failures: Mapping[int, str]) -> None:
    """Say which items could not be embedded."""
    for row, reason in list(failures.items())[:5]:
        console.print(f"[yellow]item {ids[row]} is left out:[/] {reason}", highlight=False)
    if len(failures) > 5:
        console.print(f"[yellow]and {len(failures) - 5} more[/]")
