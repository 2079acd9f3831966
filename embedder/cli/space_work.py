"""embedder-spaces backfill, drift and bridge: what takes vectors of two spaces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedder.cli import training_options as common
from embedder.cli.drift_tables import drift_json, print_drift, print_metrics
from embedder.cli.space_desk import (
    DataDir,
    HeadsDir,
    Json,
    SpaceName,
    administration,
    console,
    data_folder,
    told_errors,
)
from embedder.cli.space_examples import RunningService, labels_for_map, labels_of_both, read_labels
from embedder.cli.space_options import (
    CacheDir,
    ImageColumn,
    LabelColumn,
    LabelledFile,
    Separator,
    TextColumn,
    open_two,
)
from embedder.errors import EmbedderError, InvalidRequest
from embedder.spaces.document import BridgeRow
from embedder_cache import CacheError
from embedder_client import EmbedderClientError
from embedder_heads import HeadError, HeadRegistry, Task

if TYPE_CHECKING:
    from embedder_heads import Head
    from embedder_heads.training.bridge import Labelled

app = typer.Typer()

OldSpace = Annotated[str, typer.Argument(help="The old space, or an alias that points at it.")]
NewSpace = Annotated[str, typer.Argument(help="The new space, such as default@2.")]


@app.command()
def backfill(
    name: SpaceName,
    originals: Annotated[
        list[Path],
        typer.Argument(
            help="Where the originals lie: JSONL, CSV or Parquet files, folders and files of images and .txt.",
            exists=True,
        ),
    ],
    *,
    from_cache: Annotated[
        str,
        typer.Option(
            "--from-cache",
            help="The space, or an alias of it, whose contents are computed; what it does not hold is left out.",
        ),
    ],
    text: TextColumn = "text",
    image: ImageColumn = "",
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    cache_dir: CacheDir = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Compute in a new space what an old one holds, through the running service and in its bulk lane.

    The cache holds vectors and no originals, so these are read from the files given; only contents that the old space holds are
    computed. What the new space holds already is skipped, so the command may be stopped and given again. At the end it says how
    many contents of the old space are still missing because no original of theirs was given.
    """
    from embedder.spaces.refill import Originals, read_originals, refill, refill_client

    with told_work_errors(), open_two(administration(data_dir), from_cache, name, cache_dir) as two:
        given = Originals(tuple(originals), text, image)
        with (
            refill_client(target, token=token, tls_root=tls_root) as client,
            common.counter("contents") as advance,
        ):
            report = refill(
                read_originals(given), two.cache, spaces=two.keys, client=client, new=two.new, on_progress=advance
            )
    if as_json:
        print(json.dumps(asdict(report), indent=2))  # noqa: T201 - the command's answer
        return
    console.print(
        f"{report.read:,} contents read: {report.computed:,} computed in {two.new}, {report.held:,} were there, {report.unknown:,} are not "
        f"in {two.old}, {sum(report.failures.values()):,} failed"
    )
    for reason, count in report.failures.most_common():
        console.print(f"  {count:,} x {reason}")
    share = 1 - report.left / report.old_entries if report.old_entries else 1.0
    console.print(
        f"{two.new} holds {share:.1%} of the {report.old_entries:,} contents of {two.old}; {report.left:,} are missing (posts and "
        "videos as wholes are not counted: they are made from their parts when they are asked for)"
    )


@app.command()
def drift(
    old: OldSpace,
    new: NewSpace,
    *,
    sample: Annotated[
        int, typer.Option(min=20, help="Contents that are compared at most, of those that both hold.")
    ] = 5_000,
    k: Annotated[int, typer.Option(min=1, help="Neighbours that are compared.")] = 10,
    labelled: LabelledFile = None,
    text: TextColumn = "text",
    image: ImageColumn = "",
    label: LabelColumn = "label",
    separator: Separator = "",
    task: Annotated[Task, typer.Option(help="What the labels mean.")] = Task.SINGLE_LABEL,
    seed: Annotated[int, typer.Option(help="Of folds and resampling.")] = 0,
    page: Annotated[
        Path | None, typer.Option("--html", help="File for the report as a page that needs nothing beside it.")
    ] = None,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    cache_dir: CacheDir = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Measure what changes from one space to another: neighbours, and what heads make of labelled contents in each.

    Neighbours are compared on contents that the cache holds in both spaces. With --labelled the running service embeds the file in
    both, and a head is trained in each on the same folds.
    """
    from embedder.spaces.drift import Compared, compare_heads, measure_drift
    from embedder.spaces.pairing import count_held, find_pairs

    with told_work_errors(), open_two(administration(data_dir), old, new, cache_dir) as two:
        heads = None
        if labelled is not None:
            asked = RunningService(target, token, tls_root)
            examples = labels_of_both(read_labels(labelled, text, image, label, separator, task), two, asked, task)
            with console.status("training a head in each space"):
                heads = compare_heads(*examples, seed=seed)
        with console.status("comparing neighbours"):
            pairs = find_pairs(two.cache, *two.keys, limit=sample)
            compared = Compared(two.old, two.new, *two.digests, count_held(two.cache, two.keys[0]))
            report = measure_drift(compared, pairs, k=k, seed=seed, heads=heads)
        if page is not None:
            from embedder.spaces.drift_page import drift_page

            page.write_text(drift_page(report), encoding="utf-8")
    if as_json:
        print(json.dumps(drift_json(report), indent=2))  # noqa: T201 - the command's answer
    else:
        print_drift(report)
    if page is not None:
        console.print(f"report in {page}")


@app.command()
def bridge(
    new: NewSpace,
    old: OldSpace,
    *,
    sample: Annotated[
        int, typer.Option(min=100, help="Contents that it learns from at most, of those that both hold.")
    ] = 20_000,
    labelled: LabelledFile = None,
    head: Annotated[
        str,
        typer.Option(
            help="With --labelled: the head whose accuracy is measured on both sides; one that did not learn from it."
        ),
    ] = "",
    text: TextColumn = "text",
    image: ImageColumn = "",
    label: LabelColumn = "label",
    separator: Separator = "",
    allow: Annotated[
        bool, typer.Option(help="Let the running service serve heads of the old space over it at once.")
    ] = False,
    forbid: Annotated[
        bool, typer.Option(help="Fit nothing; serve no head over a bridge between the two any more.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the split and the resampling.")] = 0,
    target: common.Target = common.DEFAULT_TARGET,
    token: common.Token = "",
    tls_root: common.TlsRoot = None,
    heads_dir: HeadsDir = None,
    cache_dir: CacheDir = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Fit a linear map from the new space to the old one, so that old heads answer for new vectors while their teams retrain.

    What is lost by it is measured on a fifth of the contents, which the measured map did not learn from: cosine, neighbours, and how
    often each head of the old space decides otherwise. Nothing is served over it unless --allow is given; replies then say so,
    with the measured loss.
    """
    from embedder.spaces.pairing import find_pairs
    from embedder_heads.bridge.library import BridgeLibrary
    from embedder_heads.training.bridge import BridgeEnds, fit_bridge

    with told_work_errors():
        desk = administration(data_dir)
        with open_two(desk, old, new, cache_dir) as two:
            ends = BridgeRow("", source=two.digests[1], target=two.digests[0])
            if forbid:
                desk.forbid_bridge(ends)
                console.print(f"no head is served over a bridge from {two.new} to {two.old} any more")
                return
            heads = _heads_of(HeadRegistry(heads_dir or data_folder(data_dir) / "heads"), two.digests[0])
            examples: dict[str, Labelled] = {}
            judged: frozenset[bytes] = frozenset()
            if labelled is not None:
                measured = _named(heads, head)
                table = read_labels(labelled, text, image, label, separator, measured.manifest.task)
                judged = frozenset(table.hashes)
                examples[measured.manifest.name] = labels_for_map(
                    table, measured, two, RunningService(target, token, tls_root)
                )
            with console.status("fitting"):
                pairs = find_pairs(two.cache, *two.keys, limit=sample + len(judged)).without(judged)
                name = f"{two.new}-to-{two.old}".replace("@", "-")[:64].strip("-_")
                joined = BridgeEnds(name, source_digest=ends.source, target_digest=ends.target)
                fitted = fit_bridge(joined, pairs.new, pairs.old, heads=heads, labelled=examples, seed=seed)

        published = BridgeLibrary(desk.data_dir / "bridges").publish(fitted).manifest
        if allow:
            desk.allow_bridge(replace(ends, name=published.reference))
    if as_json:
        metrics = {name: asdict(metric) for name, metric in published.metrics.items()}
        told = {
            "bridge": published.reference,
            "method": published.method,
            "training": dict(published.training),
            "metrics": metrics,
        }
        print(json.dumps(told | {"allowed": allow}, indent=2))  # noqa: T201 - the command's answer
        return
    title = f"{published.reference}: {published.method} from {two.new} to {two.old}"
    print_metrics(title, dict(published.metrics))
    served = "heads are served over it now" if allow else "nothing is served over it; give --allow for that"
    console.print(f"published {published.reference}; {served}")


@contextmanager
def told_work_errors() -> Iterator[None]:
    """Tell what heads, the cache and the service refuse as `told_errors` does."""
    with told_errors():
        try:
            yield
        except (HeadError, EmbedderClientError, CacheError) as error:
            raise EmbedderError(str(error)) from error


def _heads_of(registry: HeadRegistry, digest: str) -> list[Head]:
    """Return the newest head of each name that is of a space."""
    newest: dict[str, Head] = {}
    for listed in registry.listing():
        if listed.manifest is not None and listed.manifest.space_digest == digest:
            newest[listed.name] = registry.load(listed.name, listed.version)
    return list(newest.values())


def _named(heads: list[Head], name: str) -> Head:
    for head in heads:
        if head.manifest.name == name:
            return head
    known = ", ".join(sorted(head.manifest.name for head in heads)) or "none"
    raise InvalidRequest(f"--labelled goes with --head; head={name!r} is none of the old space's heads: {known}")
