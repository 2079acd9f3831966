"""embedder-heads train: heads from labelled contents, and fusions from labelled posts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from embedder.cli import training_options as common
from embedder.cli.training_options import console, told_errors

if TYPE_CHECKING:
    from embedder_heads.fusion.attention import AttentionFusion
    from embedder_heads.kinds import Floats
    from embedder_heads.training.posts import LabelledPosts
    from embedder_heads.training.vectors import Embedded

HEAD = "head"


class HeadByDefault(TyperGroup):
    """Takes `train FILE` for `train head FILE`: a head is what is trained unless another thing is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the missing word in."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [HEAD, *args]
        left: list[str] = super().parse_args(ctx, args)
        return left


app = typer.Typer(
    cls=HeadByDefault,
    no_args_is_help=True,
    help="Train a head from a labelled file ('train FILE' or 'train head FILE'), or a fusion of posts ('train fusion FILE').",
)


@app.command()
def fusion(
    file: Annotated[Path, typer.Argument(help="JSONL or Parquet file of labelled posts.", exists=True)],
    *,
    name: Annotated[str, typer.Option(help="Name of the fusion.")],
    fields: Annotated[
        str,
        typer.Option(
            help='Column of the fields: an object of name to text, {"image": PATH} or {"video": PATH}; fields may be missing.'
        ),
    ] = "fields",
    label: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the file at most.")] = 100,
    seed: Annotated[int, typer.Option(help="Of splits, dropout and initial weights.")] = 0,
    alias: Annotated[str, typer.Option(help="Alias to point at the new version, such as prod.")] = "",
    current: Annotated[bool, typer.Option(help="Let the bare name mean the new version.")] = True,
    fusions_dir: common.FusionsDir = None,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    space: common.Space = "",
) -> None:
    """Train an attention over the fields of posts, measure it beside the plain mean, and publish it.

    A running service picks it up within a second; calls name it, or --post-fusion makes it the service's own.
    """
    from embedder_heads.fusion.library import FusionLibrary
    from embedder_heads.training.fusion import FusionOptions, make_post_examples, train_fusion
    from embedder_heads.training.posts import read_posts

    with told_errors():
        posts = read_posts(file, fields=fields, label=label)
        contents = [content for post in posts.posts for content in post.values()]
        console.print(f"{len(posts.posts)} posts, {len(contents)} fields: {', '.join(posts.names)}")
        found = common.embed(contents, target=target, token=token, tls_root=tls_root, space=space, task=f"train {name}")
        vectors, labels = _by_post(posts, found)
        with common.progress("learn", epochs) as advance:
            trained = train_fusion(
                make_post_examples(vectors, labels),
                name=name,
                space_digest=found.space_digest,
                options=FusionOptions(max_epochs=epochs, seed=seed),
                on_progress=advance,
            )
        library = FusionLibrary(common.fusions_folder(fusions_dir))
        _tell(library.publish(trained, alias=alias, make_current=current))


def _by_post(posts: LabelledPosts, found: Embedded) -> tuple[list[dict[str, Floats]], list[str]]:
    """Hand the fields' vectors back to their posts; a field that failed is missing, a post without any left out."""
    vectors, labels = [], []
    row = 0
    for post, label in zip(posts.posts, posts.labels, strict=True):
        kept = {}
        for name in post:
            if row in found.failures:
                console.print(f"[yellow]a field {name!r} is left out:[/] {found.failures[row]}", highlight=False)
            else:
                kept[name] = found.vectors[row]
            row += 1
        if kept:
            vectors.append(kept)
            labels.append(label)
    return vectors, labels


def _tell(published: AttentionFusion) -> None:
    manifest = published.manifest
    title = f"{manifest.name} (attention, {len(manifest.fields)} fields)"
    table = Table("figure", "value", "95 % interval", "posts", "how", title=title, title_justify="left")
    for name, metric in manifest.metrics.items():
        interval = f"{metric.low:.4f} to {metric.high:.4f}"
        table.add_row(name, f"{metric.value:.4f}", interval, str(metric.samples), metric.method)
    Console().print(table)
    console.print(f"published {manifest.name}@{manifest.version}")
