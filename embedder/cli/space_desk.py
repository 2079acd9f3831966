"""What the commands on spaces have in common: the data folder, and how errors are told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from embedder.errors import EmbedderError
from embedder.spaces.administration import HeadsMissing, SpaceAdministration
from embedder.spaces.document import SpacesDocument, first_document

console = Console(stderr=True)

DataDir = Annotated[
    Path | None,
    typer.Option(envvar="EMBEDDER_DATA_DIR", help="The service's data folder; its own default if left out."),
]
HeadsDir = Annotated[
    Path | None, typer.Option(envvar="EMBEDDER_HEADS_DIR", help="Folder of the heads; default: DATA_DIR/heads.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
SpaceName = Annotated[str, typer.Argument(help="A space: its name and version, such as default@2.")]


@contextmanager
def told_errors() -> Iterator[None]:
    """Turn what is raised on purpose into one line and exit status 1."""
    try:
        yield
    except HeadsMissing as error:
        _print_heads(error)
        console.print(f"[bold red]embedder-spaces:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    except (EmbedderError, OSError) as error:
        console.print(f"[bold red]embedder-spaces:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def administration(data_dir: Path | None) -> SpaceAdministration:
    """Return what changes the spaces of a data folder."""

    def defaults() -> SpacesDocument:
        from embedder.config import load_settings  # a rollback needs no settings, and starts sooner

        settings = load_settings()
        return first_document(settings.space, model=settings.model, precision=settings.precision)

    return SpaceAdministration(data_folder(data_dir), defaults=defaults)


def data_folder(given: Path | None) -> Path:
    """Return the service's data folder."""
    if given is not None:
        return given
    from embedder.config import default_data_dir

    return default_data_dir()


def _print_heads(error: HeadsMissing) -> None:
    table = Table("head", "version in the old space", "version in the new space")
    for head in error.heads:
        new = str(head.successor) if head.successor else "[red]none[/]"
        note = "" if head.is_promoted or not head.successor else " (its name does not mean it yet: --heads move)"
        table.add_row(head.reference, str(head.version), new + note)
    console.print(table)
