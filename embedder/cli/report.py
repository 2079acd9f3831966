"""embedder-report: what sharing saved, as a table or JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from embedder.cli.savings_table import savings_table
from embedder_client import Client, ClientSettings, EmbedderClientError, SavingsReport

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class Format(StrEnum):
    """How the report is printed."""

    TABLE = "table"
    JSON = "json"


class Rows(StrEnum):
    """What rows are made by."""

    TASK = "task"
    CLIENT = "client"
    SPACE = "space"
    LANE = "lane"
    NONE = "none"


@app.command()
def report(
    target: Annotated[
        str, typer.Option(envvar="EMBEDDER_TARGET", help="Address of the service to ask.")
    ] = "127.0.0.1:50051",
    start: Annotated[
        datetime | None, typer.Option(help="First minute to count, UTC; everything since the beginning if left out.")
    ] = None,
    end: Annotated[datetime | None, typer.Option(help="Count up to this minute, UTC; up to now if left out.")] = None,
    by: Annotated[
        Rows, typer.Option(help="Make a row for each task, client, space or lane; they add up to the total.")
    ] = Rows.TASK,
    task: Annotated[str, typer.Option(help="Count this task only.")] = "",
    client: Annotated[str, typer.Option(help="Count this client only.")] = "",
    output: Annotated[
        Format, typer.Option("--format", help="'json' prints every figure with its basis, unit and source.")
    ] = Format.TABLE,
    token: Annotated[
        str, typer.Option(envvar="EMBEDDER_BEARER_TOKEN", help="Bearer token of the service.", show_default=False)
    ] = "",
    tls_root: Annotated[
        Path | None, typer.Option(help="PEM file with the authority of the service's certificate; turns TLS on.")
    ] = None,
) -> None:
    """Ask a running service what sharing saved: cost per inference x contents x tasks.

    The ledger counts by the minute and survives restarts; every figure says whether it is measured or estimated.
    """
    settings = ClientSettings(
        client_name="embedder-report",
        bearer_token=token,
        tls_root_certificates=tls_root.read_bytes() if tls_root else None,
    )
    try:
        with Client(target, settings=settings) as service:
            found = service.savings(
                start=_utc(start), end=_utc(end), group_by="" if by is Rows.NONE else by.value, task=task, client=client
            )
    except EmbedderClientError as error:
        Console(stderr=True).print(f"[bold red]embedder-report:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    if output is Format.JSON:
        sys.stdout.write(json.dumps(as_json(found), indent=2) + "\n")
    else:
        console = Console()
        console.print(savings_table(found, by=by.value, width=console.width))


def as_json(found: SavingsReport) -> dict[str, Any]:
    """Return a report as JSON values; times are ISO 8601."""
    values = asdict(found)
    for name in ("start", "end"):
        values[name] = values[name].isoformat() if values[name] else None
    return values


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment


def main() -> None:
    """Run the command."""
    app()
