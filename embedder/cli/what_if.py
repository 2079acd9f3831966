"""embedder-report calibrate and replay: what a task costs alone, measured here; and what sharing would save on a trace."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from embedder.config import parse_bytes
from embedder.encoders.load import load_encoder
from embedder.errors import EmbedderError
from embedder.media.limits import MediaLimits
from embedder.savings.figures import Basis, Figure
from embedder.savings.replay import Costs, Replay, TraceRow, given_seconds, replay_trace

# One entry of the default space in the cache, all files counted; measured at a million entries by benchmarks.cache.
_BYTES_PER_VECTOR = 1_088
_SAMPLE = 64
_CALL_TEXTS = 16
_COLUMNS = ("time", "content", "task")
_TEXT = "understand content once and let many small task heads live on the shared vector of every text, number {}"


@dataclass(frozen=True, slots=True)
class _Calibration:
    model: str
    device: str
    texts: int
    seconds_per_content: float


def calibrate(
    model: Annotated[str, typer.Argument(help="Model of the task by itself, as embedder-serve --model names it.")],
    head: Annotated[str, typer.Option(help="Head or task that the model would serve.")] = "default",
    texts: Annotated[
        Path | None, typer.Option(help="File with one text a line to measure on; made-up sentences if left out.")
    ] = None,
    call_texts: Annotated[
        int, typer.Option(min=1, help="Texts in one batch, as the task would send them.")
    ] = _CALL_TEXTS,
    device: Annotated[str, typer.Option(help="'cpu', 'cuda:0' or 'auto'.")] = "auto",
) -> None:
    """Run a task's own model here, measure it, and print its part of the savings file.

    Loads the model and encodes every text three times; the middle figure counts. It is CPU time on a processor, as in the ledger.
    """
    console = Console(stderr=True)
    try:
        lines = texts.read_text().splitlines() if texts else [_TEXT.format(row) for row in range(_SAMPLE)]
        sample = [line for line in lines if line.strip()]
        if not sample:
            raise typer.BadParameter(f"{texts} holds no text")
        with console.status(f"Loading {model} and encoding {len(sample)} texts"):
            found = _measure(model, sample, device=device, call_texts=call_texts)
    except (EmbedderError, OSError, UnicodeDecodeError) as error:
        console.print(f"[bold red]embedder-report calibrate:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    source = f"embedder-report calibrate: {found.texts} texts in batches of {call_texts} on {found.device}, {time.strftime('%Y-%m-%d')}"
    section = f"heads.{json.dumps(head)}" if head != "default" else "default"
    typer.echo(
        f'[{section}]\nkind = "model"\nmodel = {json.dumps(model)}\nseconds_per_content = {found.seconds_per_content:.9f}\n'
        f"source = {json.dumps(source)}"
    )


def replay(
    trace: Annotated[Path, typer.Argument(help="CSV, JSONL or Parquet with the columns time, content and task.")],
    cache_bytes: Annotated[str, typer.Option(help="Size of the cache, such as '16 GiB'.")] = "16 GiB",
    bytes_per_vector: Annotated[int, typer.Option(min=1, help="What one vector takes in it.")] = _BYTES_PER_VECTOR,
    encode_ms: Annotated[
        float | None, typer.Option(min=0, help="Milliseconds of one encode; measured here with --model if left out.")
    ] = None,
    special_ms: Annotated[
        float | None,
        typer.Option(min=0, help="Milliseconds of one content for a task by itself; the same encoder's if left out."),
    ] = None,
    lookup_ms: Annotated[float, typer.Option(min=0, help="Milliseconds of one look-up.")] = 0.01,
    head_ms: Annotated[float, typer.Option(min=0, help="Milliseconds of one head for one content.")] = 0.01,
    model: Annotated[str, typer.Option(help="Encoder to measure where --encode-ms is not given.")] = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer what sharing would save, for a trace of (time, content, task), before anything is deployed.

    The trace runs through a cache of the given size that drops what was used longest ago; costs are measured or given.
    """
    console = Console(stderr=True)
    size = parse_bytes(cache_bytes)
    if not isinstance(size, int):
        raise typer.BadParameter(f"{cache_bytes!r} is no size; give bytes, or a number with KiB, MiB, GiB or TiB")
    try:
        rows = sorted(_rows(trace), key=lambda row: row.time)
        encode = given_seconds(encode_ms / 1e3, "encode") if encode_ms is not None else _measured_encode(model, console)
    except (EmbedderError, OSError, ValueError, pa.ArrowException) as error:
        console.print(f"[bold red]embedder-report replay:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    costs = Costs(
        encode=encode,
        lookup=given_seconds(lookup_ms / 1e3, "look-up"),
        head=given_seconds(head_ms / 1e3, "head"),
        special=encode if special_ms is None else given_seconds(special_ms / 1e3, "task by itself"),
    )
    found = replay_trace(rows, cache_bytes=size, bytes_per_vector=bytes_per_vector, costs=costs)
    if as_json:
        typer.echo(json.dumps(_values(found), indent=2))
    else:
        Console().print(_table(found), highlight=False)


def _measure(model: str, sample: list[str], *, device: str, call_texts: int) -> _Calibration:
    encoder = load_encoder(model, device=device, limits=MediaLimits())
    try:
        tokens = encoder.prepare_texts(sample)
        batches = [tokens[start : start + call_texts] for start in range(0, len(tokens), call_texts)]
        clock = time.process_time if encoder.info.device == "cpu" else time.perf_counter
        encoder.encode_texts(batches[0])
        rounds = []
        for _ in range(3):
            start = clock()
            for batch in batches:
                encoder.encode_texts(batch)
            rounds.append((clock() - start) / len(sample))
        return _Calibration(model, encoder.info.device, len(sample), sorted(rounds)[1])
    finally:
        encoder.close()


def _measured_encode(model: str, console: Console) -> Figure:
    with console.status(f"Loading {model} and measuring an encode; --encode-ms gives it instead"):
        found = _measure(model, [_TEXT.format(row) for row in range(_SAMPLE)], device="auto", call_texts=_CALL_TEXTS)
    return Figure(found.seconds_per_content, Basis.MEASURED, "s", f"{model} on {found.device}, made-up sentences")


def _rows(path: Path) -> Iterator[TraceRow]:
    readers = {".csv": pa_csv.read_csv, ".jsonl": pa_json.read_json, ".parquet": pq.read_table}
    if path.suffix not in readers:
        raise ValueError(f"{path}: a trace is a {', '.join(readers)} file; given was {path.suffix or 'no ending'!r}")
    table = readers[path.suffix](path)
    missing = [name for name in _COLUMNS if name not in table.column_names]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}; it has {', '.join(table.column_names)}")
    for batch in table.select(_COLUMNS).to_batches():
        for moment, content, task in zip(*[column.to_pylist() for column in batch.columns], strict=True):
            seconds = moment.timestamp() if hasattr(moment, "timestamp") else float(moment)
            yield TraceRow(seconds, str(content), str(task))


def _values(found: Replay) -> dict[str, object]:
    formula = found.formula
    return {
        "requests": found.requests,
        "contents": found.contents,
        "tasks": len(formula.heads),
        "hit_rate": found.hit_rate,
        "encodes": found.encodes,
        "evictions": found.evictions,
        "encode_s": {"value": formula.encode_s.value, "basis": formula.encode_s.basis.value},
        "shared_s": formula.shared_s,
        "alternative_s": formula.alternative_s,
        "saved_s": formula.saved_s,
        "saved_share": formula.saved_s / formula.alternative_s if formula.alternative_s else None,
        "break_even_tasks_uncached": formula.break_even_tasks(hit_rate=0.0),
        "basis": "estimated",
    }


def _table(found: Replay) -> Table:
    table = Table(title="What sharing would save on this trace: estimated", title_justify="left", show_header=False)
    for name, value in _values(found).items():
        table.add_row(name, f"{value:,.6g}" if isinstance(value, float) else str(value))
    return table
