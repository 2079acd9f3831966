"""embedder-report: what sharing saved, from a running service; and what it would save, from a trace."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from embedder.cli.report_formats import as_json, write_csv, write_parquet
from embedder.cli.savings_explained import explained
from embedder.cli.savings_table import savings_table
from embedder.cli.what_if import calibrate, replay
from embedder_client import Client, ClientSettings, EmbedderClientError, SavingsReport

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
app.command()(calibrate)
app.command()(replay)


class Format(StrEnum):
    """How the report is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


class Rows(StrEnum):
    """What rows are made by."""

    TASK = "task"
    CLIENT = "client"
    SPACE = "space"
    LANE = "lane"
    TENANT = "tenant"
    HEAD = "head"
    NONE = "none"


@app.callback(invoke_without_command=True)
def report(
    context: typer.Context,
    target: Annotated[
        str, typer.Option(envvar="EMBEDDER_TARGET", help="Address of the service to ask.")
    ] = "127.0.0.1:50051",
    start: Annotated[
        datetime | None, typer.Option(help="First minute to count, UTC; everything since the beginning if left out.")
    ] = None,
    end: Annotated[datetime | None, typer.Option(help="Count up to this minute, UTC; up to now if left out.")] = None,
    by: Annotated[
        Rows,
        typer.Option(help="Make a row for each task, client, space, lane, tenant or head; they add up to the total."),
    ] = Rows.TASK,
    task: Annotated[str, typer.Option(help="Count this task only.")] = "",
    client: Annotated[str, typer.Option(help="Count this client only.")] = "",
    tenant: Annotated[str, typer.Option(help="Count this tenant only.")] = "",
    head: Annotated[str, typer.Option(help="Count this head or index only.")] = "",
    output: Annotated[
        Format,
        typer.Option(
            "--format",
            help="'json' prints every figure with its basis, unit and source; 'csv' and 'parquet' a line a row.",
        ),
    ] = Format.TABLE,
    output_file: Annotated[
        Path | None, typer.Option(help="Write here instead of to the terminal; needed for Parquet.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the formula with the numbers put in, break-even and sensitivity.")
    ] = False,
    token: Annotated[
        str, typer.Option(envvar="EMBEDDER_BEARER_TOKEN", help="Bearer token of the service.", show_default=False)
    ] = "",
    tls_root: Annotated[
        Path | None, typer.Option(help="PEM file with the authority of the service's certificate; turns TLS on.")
    ] = None,
) -> None:
    """Ask a running service what sharing saved: cost per inference x contents x tasks.

    The ledger counts by the minute and survives restarts; every figure says whether it is measured, estimated or assumed.
    """
    if context.invoked_subcommand is not None:
        return
    if output is Format.PARQUET and output_file is None:
        raise typer.BadParameter("Parquet is no text: name a file with --output-file", param_hint="--format")
    settings = ClientSettings(
        client_name="embedder-report",
        bearer_token=token,
        tls_root_certificates=tls_root.read_bytes() if tls_root else None,
    )
    try:
        with Client(target, settings=settings) as service:
            found = service.savings(
                start=_utc(start),
                end=_utc(end),
                group_by="" if by is Rows.NONE else by.value,
                task=task,
                client=client,
                tenant=tenant,
                head=head,
            )
    except EmbedderClientError as error:
        Console(stderr=True).print(f"[bold red]embedder-report:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    _write(found, by=by, output=output, file=output_file, explain=explain)


def _write(found: SavingsReport, *, by: Rows, output: Format, file: Path | None, explain: bool) -> None:
    if output is Format.PARQUET:
        assert file is not None
        write_parquet(found, file)
        return
    with file.open("w", newline="") if file else nullcontext(sys.stdout) as stream:
        if output is Format.JSON:
            stream.write(as_json(found))
        elif output is Format.CSV:
            write_csv(found, stream)
        else:
            console = Console(file=stream)
            console.print(savings_table(found, by=by.value, width=console.width))
            if explain:
                console.print(explained(found), highlight=False)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def main() -> None:
    """Run the command."""
    app()
