"""embedder-heads: from a labelled file to a served head, and the registry of heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from embedder.cli import indexes, training
from embedder.cli import training_options as common
from embedder.cli.training_options import console, told_errors
from embedder_client import Text
from embedder_heads import Head, HeadManifest, HeadRegistry, Task, load_head, save_head
from embedder_heads.training.options import HeadChoice, TrainOptions

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.add_typer(indexes.app, name="index")
app.add_typer(training.app, name="train")

LabelledFile = Annotated[Path, typer.Argument(help="JSONL, CSV or Parquet file of labelled contents.", exists=True)]
TextColumn = Annotated[str, typer.Option("--text", help="Column of the texts; '' when there is none.")]
ImageColumn = Annotated[
    str,
    typer.Option("--image", help="Column of the images, as paths beside the file or as bytes; '' when there is none."),
]
LabelColumn = Annotated[str, typer.Option("--label", help="Column of the labels.")]
Separator = Annotated[str, typer.Option(help="Splits a label's text into several labels; '' leaves it whole.")]
Ref = Annotated[str, typer.Argument(help="A head: topic, topic@3 or topic@prod.")]


@app.callback()
def heads() -> None:
    """Train heads on contents that the service understands once, and say which of them are served.

    A published head is picked up by a running service within a second.
    """


@training.app.command(training.HEAD)
def train(
    file: LabelledFile,
    *,
    name: Annotated[str, typer.Option(help="Name of the head.")],
    task: Annotated[Task, typer.Option(help="What the labels mean.")] = Task.SINGLE_LABEL,
    kind: Annotated[
        HeadChoice, typer.Option(help="How the head computes; auto tries linear and kernel.")
    ] = HeadChoice.AUTO,
    text: TextColumn = "text",
    image: ImageColumn = "",
    label: LabelColumn = "label",
    separator: Separator = "",
    balanced: Annotated[bool, typer.Option(help="Let every label count the same, however rare it is.")] = False,
    folds: Annotated[int, typer.Option(min=2, help="Parts of the file; each is held out once to measure.")] = 5,
    seed: Annotated[int, typer.Option(help="Of splits, samples and initial weights.")] = 0,
    alias: Annotated[str, typer.Option(help="Alias to point at the new version, such as prod.")] = "",
    current: Annotated[bool, typer.Option(help="Let the bare name mean the new version.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write the head into this folder and do not publish it.")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for the report page (HTML and PNG): confusion, calibration, precision and recall."),
    ] = None,
    heads_dir: common.HeadsDir = None,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    space: common.Space = "",
) -> None:
    """Train a head from a labelled file, measure it on held-out parts, and publish it."""
    from embedder_heads.training.classification import train_head
    from embedder_heads.training.examples import make_examples
    from embedder_heads.training.table import Columns, read_labelled

    with told_errors():
        table = read_labelled(file, Columns(text, image, label, separator), task=task)
        console.print(
            f"{len(table.contents)} contents, {table.repeats} repeats folded, {len(table.conflicts)} rows contradict an earlier one"
        )
        found = common.embed(
            table.contents, target=target, token=token, tls_root=tls_root, space=space, task=f"train {name}"
        )
        _tell_failures(found.failures)
        kept = np.array([row for row in range(len(table.contents)) if row not in found.failures])
        examples = make_examples(found.vectors[kept], [table.given[row] for row in kept], task=task)
        with console.status(f"training {kind} on {len(examples)} examples ({found.computed} newly encoded)"):
            trained = train_head(
                examples,
                name=name,
                space_digest=found.space_digest,
                options=TrainOptions(choice=kind, balanced=balanced, folds=folds, seed=seed),
            )
        placed = _place(trained.head, out=out, heads_dir=heads_dir, alias=alias, current=current)
        if report is not None:
            from embedder_heads.training.report_page import write_report

            report.mkdir(parents=True, exist_ok=True)
            console.print(f"report in {write_report(trained, placed, report)}")


@app.command("zero-shot")
def zero_shot(
    *,
    name: Annotated[str, typer.Option(help="Name of the head.")],
    label: Annotated[list[str], typer.Option(help="A label; give the option once for each.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="What is said of a label, with {label} in it; may be given several times.")
    ] = None,
    alias: Annotated[str, typer.Option(help="Alias to point at the new version, such as prod.")] = "",
    current: Annotated[bool, typer.Option(help="Let the bare name mean the new version.")] = True,
    heads_dir: common.HeadsDir = None,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    space: common.Space = "",
) -> None:
    """Make a head from label names alone, and publish it; nothing is measured."""
    from embedder_heads.training import zero_shot as zero

    with told_errors():
        prompts = zero.label_prompts(label, prompt or zero.PROMPTS)
        contents = [Text(line) for line in prompts]
        found = common.embed(contents, target=target, token=token, tls_root=tls_root, space=space, task=f"train {name}")
        _tell_failures(found.failures)
        head = zero.zero_shot_head(found.vectors, label, name=name, space_digest=found.space_digest)
        _place(head, out=None, heads_dir=heads_dir, alias=alias, current=current)


@app.command()
def evaluate(
    ref: Ref,
    file: LabelledFile,
    *,
    text: TextColumn = "text",
    image: ImageColumn = "",
    label: LabelColumn = "label",
    separator: Separator = "",
    heads_dir: common.HeadsDir = None,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    space: common.Space = "",
) -> None:
    """Measure a published head on a labelled file that it did not learn from."""
    from embedder_heads.training.evaluation import evaluate_head
    from embedder_heads.training.examples import make_examples
    from embedder_heads.training.table import Columns, read_labelled

    with told_errors():
        head = HeadRegistry(common.heads_folder(heads_dir)).resolve(ref)
        table = read_labelled(file, Columns(text, image, label, separator), task=head.manifest.task)
        found = common.embed(
            table.contents, target=target, token=token, tls_root=tls_root, space=space, task=f"evaluate {ref}"
        )
        _tell_failures(found.failures)
        kept = np.array([row for row in range(len(table.contents)) if row not in found.failures])
        given = [table.given[row] for row in kept]
        examples = make_examples(
            found.vectors[kept], given, task=head.manifest.task, labels=head.manifest.labels, complete=False
        )
        _print_metrics(head.manifest, evaluate_head(head, examples, space_digest=found.space_digest))


@app.command("list")
def list_heads(heads_dir: common.HeadsDir = None) -> None:
    """List every version of every head."""
    with told_errors():
        table = Table("head", "version", "aliases", "kind", "task", "labels", "quality", "created")
        for entry in HeadRegistry(common.heads_folder(heads_dir)).listing():
            aliases = ", ".join(entry.aliases)
            if entry.manifest is None:
                table.add_row(entry.name, str(entry.version), aliases, f"[red]refused: {entry.refused}")
                continue
            m = entry.manifest
            quality = next((f"{key} {metric.value:.4f}" for key, metric in m.metrics.items()), "not measured")
            labels = str(len(m.labels))
            table.add_row(entry.name, str(entry.version), aliases, m.kind, m.task, labels, quality, m.created)
        Console().print(table)


@app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder with head.json and head.safetensors.", exists=True)],
    name: Annotated[str, typer.Option(help="Name to publish under; the head's own if left out.")] = "",
    alias: Annotated[str, typer.Option(help="Alias to point at the new version, such as prod.")] = "",
    current: Annotated[bool, typer.Option(help="Let the bare name mean the new version.")] = True,
    heads_dir: common.HeadsDir = None,
) -> None:
    """Publish a head that lies in a folder, after checking it."""
    with told_errors():
        head = load_head(folder)
        registry = HeadRegistry(common.heads_folder(heads_dir))
        published = registry.publish(head, name=name, alias=alias, make_current=current).manifest
        console.print(f"published {published.name}@{published.version}")


@app.command()
def promote(
    ref: Ref,
    alias: Annotated[str, typer.Argument(help="Alias to point at it, such as prod.")],
    heads_dir: common.HeadsDir = None,
) -> None:
    """Point an alias at a version."""
    with told_errors():
        version = HeadRegistry(common.heads_folder(heads_dir)).promote(ref, alias)
        console.print(f"{ref.partition('@')[0]}@{alias} is version {version} now")


@app.command()
def rollback(ref: Ref, heads_dir: common.HeadsDir = None) -> None:
    """Point an alias back at the version that it pointed to before; a bare name means its current version."""
    with told_errors():
        version = HeadRegistry(common.heads_folder(heads_dir)).rollback(ref)
        console.print(f"{ref} is version {version} now")


@app.command()
def remove(ref: Ref, heads_dir: common.HeadsDir = None) -> None:
    """Remove a version that no alias points to, or every version of a name."""
    with told_errors():
        HeadRegistry(common.heads_folder(heads_dir)).remove(ref)
        console.print(f"{ref} is removed")


def main() -> None:
    """Run the command line."""
    app()


def _place(head: Head, *, out: Path | None, heads_dir: Path | None, alias: str, current: bool) -> HeadManifest:
    if out is not None:
        out.mkdir(parents=True)
        placed = save_head(head, out, name=head.manifest.name, version=0)
        _print_metrics(placed.manifest, placed.manifest.metrics)
        console.print(f"written to {out}")
        return placed.manifest
    registry = HeadRegistry(common.heads_folder(heads_dir))
    published = registry.publish(head, alias=alias, make_current=current).manifest
    _print_metrics(published, published.metrics)
    console.print(f"published {published.name}@{published.version} in {registry.root}")
    return published


def _print_metrics(manifest: HeadManifest, metrics: object) -> None:
    from embedder_heads.metric import Metric

    title = f"{manifest.name} ({manifest.kind}, {len(manifest.labels)} labels)"
    table = Table("figure", "value", "95 % interval", "examples", "how", title=title, title_justify="left")
    for name, metric in dict(metrics).items():  # type: ignore[call-overload]
        assert isinstance(metric, Metric)
        interval = f"{metric.low:.4f} to {metric.high:.4f}"
        table.add_row(name, f"{metric.value:.4f}", interval, str(metric.samples), metric.method)
    Console().print(table if table.row_count else f"{title}: nothing was held out, so nothing was measured")


def _tell_failures(failures: dict[int, str]) -> None:
    for row, reason in list(failures.items())[:5]:
        console.print(f"[yellow]content {row + 1} is left out:[/] {reason}", highlight=False)
    if len(failures) > 5:
        console.print(f"[yellow]and {len(failures) - 5} more[/]")
