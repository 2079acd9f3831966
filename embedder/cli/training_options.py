"""What the commands that train and index have in common: where things lie, whom to ask, how progress is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from embedder.config import default_data_dir
from embedder_client import Client, ClientSettings, EmbedderClientError
from embedder_heads.errors import HeadError

if TYPE_CHECKING:
    from embedder_heads.training.table import Content
    from embedder_heads.training.vectors import Embedded

HeadsDir = Annotated[
    Path | None,
    typer.Option(envvar="EMBEDDER_HEADS_DIR", help="Folder of the heads; the service's own default if left out."),
]
IndexesDir = Annotated[
    Path | None,
    typer.Option(envvar="EMBEDDER_INDEXES_DIR", help="Folder of the indexes; the service's own default if left out."),
]
FusionsDir = Annotated[
    Path | None,
    typer.Option(envvar="EMBEDDER_FUSIONS_DIR", help="Folder of the fusions; the service's own default if left out."),
]
Target = Annotated[str, typer.Option(envvar="EMBEDDER_TARGET", help="Address of the service that embeds the contents.")]
Token = Annotated[
    str, typer.Option(envvar="EMBEDDER_BEARER_TOKEN", help="Bearer token of the service.", show_default=False)
]
TlsRoot = Annotated[
    Path | None,
    typer.Option(help="PEM file with the authority of the service's certificate; turns TLS on."),
]
Space = Annotated[
    str, typer.Option(help="Space or alias of the vectors; the service's default if left out.", show_default=False)
]

DEFAULT_TARGET = "127.0.0.1:50051"

console = Console(stderr=True)


def heads_folder(given: Path | None) -> Path:
    """Return where the heads lie."""
    return given or default_data_dir() / "heads"


def indexes_folder(given: Path | None) -> Path:
    """Return where the indexes lie."""
    return given or default_data_dir() / "indexes"


def fusions_folder(given: Path | None) -> Path:
    """Return where the trained fusions lie."""
    return given or default_data_dir() / "fusions"


@contextmanager
def told_errors() -> Iterator[None]:
    """Turn what is raised on purpose into one line and exit status 1."""
    try:
        yield
    except (HeadError, EmbedderClientError, OSError) as error:
        console.print(f"[bold red]embedder-heads:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def embed(
    contents: Sequence[Content],
    *,
    target: str,
    token: str,
    tls_root: Path | None,
    space: str,
    task: str,
    segment_seconds: float | None = None,
) -> Embedded:
    """Embed contents by a running service, with a progress bar."""
    from embedder_heads.training.vectors import embed_contents

    authority = tls_root.read_bytes() if tls_root else None
    settings = ClientSettings(client_name="embedder-heads", bearer_token=token, tls_root_certificates=authority)
    with Client(target, settings=settings) as service, progress("understand", len(contents)) as advance:
        return embed_contents(
            service, contents, task=task, space=space, segment_seconds=segment_seconds, on_progress=advance
        )


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar; yields what is told how many are done."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


@contextmanager
def counter(what: str) -> Iterator[Callable[[int], None]]:
    """Show how many are done of a number that is not known; yields what is told how many are done."""
    columns = (TextColumn("{task.description:>10}"), BarColumn(), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done: bar.update(task, completed=done)
