"""embedder-spaces: from one embedding space to the next, while the service serves."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperGroup

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
from embedder.spaces.administration import Move, alias_of, new_row
from embedder.spaces.document import Shadow, SpacesDocument
from embedder.spaces.serving import ServingReport, SpaceReport

_WORK = ("backfill", "drift", "bridge")


class LateWork(TyperGroup):
    """Imports what works with vectors only where it is asked for: a rollback starts in a third of the time."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every command's name, in the order of a migration."""
        names: list[str] = super().list_commands(ctx)
        return [*names[:3], *_WORK, *names[3:]]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name."""
        if cmd_name not in _WORK:
            return super().get_command(ctx, cmd_name)
        from embedder.cli.space_work import app as work

        return typer.main.get_group(work).get_command(ctx, cmd_name)


app = typer.Typer(
    cls=LateWork, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich"
)
Reason = Annotated[str, typer.Option(help="Why, for the history of the alias.")]
AliasName = Annotated[str, typer.Argument(help="The alias, such as default.")]


class HeadsPolicy(StrEnum):
    """What becomes of the heads at a cut-over."""

    BLOCK = "block"
    MOVE = "move"
    BRIDGE = "bridge"
    LEAVE = "leave"


@app.callback()
def spaces() -> None:
    """Move a service from one embedding space to another, without a failed call: create, shadow, backfill, drift, cut-over, retire.

    A running service follows within a second. It holds every space that is not retired in memory: two models at once take
    the memory of both, and share the processor or GPU.
    """


@app.command()
def create(
    name: SpaceName,
    model: Annotated[
        str,
        typer.Option(
            help="What makes its vectors, as embedder-serve --model takes it. A folder is given by its whole path."
        ),
    ],
    *,
    precision: Annotated[
        str,
        typer.Option(
            help="Numerics, as embedder-serve --precision takes them. 'auto' measures which is fastest when the space is first "
            "loaded; beside running traffic that takes longer and measures less well than at a quiet start."
        ),
    ] = "auto",
    wait_s: Annotated[float, typer.Option(help="How long the running service may take to load it.")] = 600.0,
    data_dir: DataDir = None,
) -> None:
    """Add a space, and have the running service load it beside the others.

    Nothing is asked of it until somebody names it or an alias points at it. A space that can't be loaded is refused with the
    reason, and nothing has changed. Until the old space is retired the service takes the memory of both models.
    """
    with told_errors():
        folder = Path(model).expanduser()
        row = new_row(name, model=str(folder.resolve()) if folder.is_dir() else model, precision=precision)
        with console.status(f"loading {name} beside what is served"):
            space = administration(data_dir).create(row, wait_s=wait_s)
        if space is None:
            console.print(
                f"{name} is added; no running service has loaded it yet. 'embedder-spaces list' says when one has"
            )
        else:
            console.print(f"{name} is {space.state}: {space.summary}, digest {space.digest[:16]}", soft_wrap=True)


@app.command("list")
def list_spaces(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the spaces, where the aliases point, and how they came to."""
    with told_errors():
        desk = administration(data_dir)
        document, report = desk.document(), desk.serving()
    if as_json:
        states = {} if report is None else {space.name: space for space in report.spaces}
        told = asdict(document)
        told["is_running"] = report is not None
        for space in told["spaces"]:
            space["state"] = _state(states.get(space["name"]), retired=bool(space["retired"]))
        print(json.dumps(told, indent=2))  # noqa: T201 - the command's answer
        return
    _print_spaces(document, report)
    if document.moves:
        table = Table("when", "alias", "from", "to", "why", title="moves of aliases", title_justify="left")
        for move in document.moves[-10:]:
            why = f"rollback {move.reason}".strip() if move.is_rollback else move.reason
            table.add_row(move.at, move.alias, move.before or "new", move.after, why)
        Console().print(table)


@app.command()
def shadow(
    name: SpaceName,
    *,
    rate: Annotated[
        float, typer.Option(help="Share of the contents, 0 to 1, by their hash: always the same ones. 0 stops.")
    ] = 0.01,
    of: Annotated[str, typer.Option(help="Alias whose traffic is taken; the default one if left out.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Compute a sample of live traffic in a space too, in the bulk lane and after the reply.

    Callers never wait for it, but it takes device time: about RATE of what the traffic's misses and hits cost the new model,
    since what the old space holds is new to this one. What it can't keep up with is dropped and counted.
    """
    with told_errors():
        desk = administration(data_dir)
        chosen = Shadow(alias_of(desk.document(), of), rate) if rate else None
        desk.shadow(name, chosen)
        console.print(
            f"{name} shadows {chosen.rate:.2%} of {chosen.alias!r}" if chosen else f"{name} shadows nothing any more"
        )


@app.command("cut-over")
def cut_over(
    alias: AliasName,
    name: SpaceName,
    *,
    heads: Annotated[
        HeadsPolicy,
        typer.Option(
            help="block: refuse while a head of the old space has no version in the new one that its name means there. move: point "
            "the heads' names at their newest versions of the new space, and refuse where one has none. bridge: the same, where "
            "heads without one are served by an allowed bridge. leave: move, and let calls for such heads fail."
        ),
    ] = HeadsPolicy.BLOCK,
    reason: Reason = "",
    heads_dir: HeadsDir = None,
    data_dir: DataDir = None,
) -> None:
    """Point an alias at another space: at once, for every call that begins afterwards.

    A call that has begun is answered in the space that it began in. The old space stays loaded until it is retired, so that
    'rollback' takes the alias back in under a second; heads follow the alias either way.
    """
    with told_errors():
        from embedder_heads import HeadRegistry

        registry = HeadRegistry(heads_dir or data_folder(data_dir) / "heads")
        moved = administration(data_dir).cut_over(alias, name, heads=registry, policy=heads, reason=reason)
        for head in moved.heads:
            console.print(f"head {head.reference} is version {head.successor} in {name}")
        _print_move(alias, moved)


@app.command()
def rollback(alias: AliasName, *, reason: Reason = "", data_dir: DataDir = None) -> None:
    """Point an alias back at the space that it was moved from."""
    with told_errors():
        _print_move(alias, administration(data_dir).rollback(alias, reason=reason))


@app.command()
def retire(
    name: SpaceName,
    *,
    erase: Annotated[
        bool, typer.Option(help="Erase its vectors from the cache too, in every tier: a rollback then starts cold.")
    ] = False,
    wait_s: Annotated[
        float, typer.Option(help="How long the running service may take to let its last calls end and close it.")
    ] = 120.0,
    data_dir: DataDir = None,
) -> None:
    """Take a space out of service and free its model; refused while an alias points at it.

    Its name is never used again. Indexes that were built in it answer nobody from then on.
    """
    with told_errors():
        with console.status(f"closing {name}"):
            is_closed = administration(data_dir).retire(name, erase=erase, wait_s=wait_s)
        console.print(
            f"{name} is retired" if is_closed else f"{name} is retired; no service that runs has closed it yet"
        )


def main() -> None:
    """Run the command line."""
    app()


def _state(space: SpaceReport | None, *, retired: bool) -> str:
    return str(space.state) if space else "retired" if retired else "not loaded"


def _print_move(alias: str, moved: Move) -> None:
    followed = "" if moved.is_followed else "; no service that runs follows it yet"
    console.print(f"{alias} points at {moved.after} now, and not at {moved.before or 'nothing'} any more{followed}")


def _print_spaces(document: SpacesDocument, report: ServingReport | None) -> None:
    states = {} if report is None else {space.name: space for space in report.spaces}
    kept = (Column(name, no_wrap=True) for name in ("space", "state", "aliases"))
    table = Table(
        *kept, Column("model", overflow="fold"), "precision", Column("digest", overflow="fold"), "shadow", "created"
    )
    for row in document.spaces:
        space = states.get(row.name)
        aliases = ", ".join(sorted(alias for alias, target in document.aliases.items() if target == row.name))
        digest = row.digest or (space.digest if space else "")
        sample = f"{row.shadow.rate:.2%} of {row.shadow.alias}" if row.shadow else ""
        state = _state(space, retired=bool(row.retired))
        table.add_row(row.name, state, aliases, row.model, row.precision, digest[:16], sample, row.created)
    Console().print(table)
    for space in states.values():
        if space.reason:
            console.print(f"{space.name} was refused: {space.reason}", style="red", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
