"""embedder-cache: look into the vector cache and look after it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from embedder.config import default_data_dir
from embedder_cache import CacheError, CacheLocked, SpaceKey, VectorCache
from embedder_cache.advising import advise as advise_sizes
from embedder_cache.catalogue import Request, SpaceRow
from embedder_cache.opening import ask_writer, stored_settings
from embedder_cache.parquet import export_space, import_space
from embedder_cache.record_file import import_record_file, read_record_space
from embedder_cache.samples import read_samples
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_cache.verifying import verify as verify_records
from embedder_client.content_hash import Modality, hash_content

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Look into the vector cache and look after it.",
)
console = Console()
errors = Console(stderr=True)

CachePath = Annotated[
    Path | None,
    typer.Option(
        "--cache-dir", envvar="EMBEDDER_CACHE_DIR", help="Folder of the vector cache; default: DATA_DIR/cache."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
SpaceOption = Annotated[
    str | None,
    typer.Option("--space", help="A space's name, or its prefix in hex as `stats` prints it; all if left out."),
]

_ADVISED_SHARES = (0.125, 0.25, 0.5, 1, 2, 4, 8)


@app.command()
def stats(cache_dir: CachePath = None, as_json: Json = False) -> None:
    """Show entries, sizes, generations and spaces. Safe while a service uses the cache."""
    path = _folder(cache_dir)
    with VectorCache.open(path, stored_settings(path), read_only=True) as cache:
        counted = cache.stats()
        spaces = cache.spaces()
    if as_json:
        console.print_json(
            json.dumps(
                {
                    "entries": counted.entries,
                    "file_bytes": counted.file_bytes,
                    "max_bytes": counted.max_bytes,
                    "generations": [
                        {"sequence": one.sequence, "entries": one.entries, "file_bytes": one.file_bytes}
                        for one in counted.generations
                    ],
                    "spaces": {prefix.hex(): asdict(row) for prefix, row in spaces.items()},
                }
            )
        )
        return
    console.print(
        f"[bold]{counted.entries:,}[/] entries, {decimal(counted.file_bytes)} of {decimal(counted.max_bytes)} on disk"
    )
    table = Table("generation", "entries", "size", title="Generations, the newest first")
    for one in counted.generations:
        table.add_row(str(one.sequence), f"{one.entries:,}", decimal(one.file_bytes))
    console.print(table)
    console.print(_spaces_table(spaces))


def _spaces_table(spaces: dict[bytes, SpaceRow]) -> Table:
    table = Table("prefix", "name", "dim", "tenant domain", "pinned", title="Spaces")
    for prefix, row in sorted(spaces.items(), key=lambda item: item[1].name):
        table.add_row(prefix.hex(), row.name or "-", str(row.dim), row.domain or "-", "yes" if row.pinned else "no")
    return table


@app.command()
def verify(cache_dir: CachePath = None, as_json: Json = False) -> None:
    """Read every record and check it; exit 1 when one is damaged. Safe while a service uses the cache."""
    path = _folder(cache_dir)
    with (
        VectorCache.open(path, stored_settings(path), read_only=True) as cache,
        _progress("Verifying", cache.stats().entries) as note,
    ):
        result = verify_records(cache, note_progress=note)
    if as_json:
        console.print_json(json.dumps(asdict(result)))
    else:
        console.print(
            f"{result.entries:,} entries: {result.whole:,} whole, {result.damaged:,} damaged (served as misses), "
            f"{result.unreadable} generations unreadable"
        )
    if result.damaged or result.unreadable:
        raise typer.Exit(1)


@app.command()
def advise(cache_dir: CachePath = None, as_json: Json = False) -> None:
    """Replay the access sample and show hit rate against size. Safe while a service uses the cache."""
    path = _folder(cache_dir)
    settings = stored_settings(path)
    accesses = read_samples(path)
    if not len(accesses):
        errors.print("The cache has no access sample yet; it fills while a service runs with a sample rate above 0.")
        raise typer.Exit(1)
    sizes = [int(share * settings.max_bytes) for share in _ADVISED_SHARES]
    with _progress("Replaying", len(accesses) * len(sizes)) as note:
        points = advise_sizes(accesses, rate=settings.sample_rate, sizes=sizes, note_progress=note)
    if as_json:
        console.print_json(
            json.dumps(
                {
                    "accesses": len(accesses),
                    "sample_rate": settings.sample_rate,
                    "sizes": [asdict(one) for one in points],
                }
            )
        )
        return
    table = Table("size", "hit rate", "", title=f"Estimated from {len(accesses):,} sampled accesses")
    for point in points:
        mark = "the limit now" if point.max_bytes == settings.max_bytes else ""
        table.add_row(decimal(point.max_bytes), f"{point.hit_rate:.1%}", mark)
    console.print(table)


@app.command()
def erase(
    *,
    cache_dir: CachePath = None,
    content_hash: Annotated[
        list[str] | None, typer.Option("--hash", help="Content hash in hex; may be given several times.")
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help="A text, exactly as it was embedded.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="An image file, exactly as it was embedded.")] = None,
    space: SpaceOption = None,
    whole_space: Annotated[bool, typer.Option("--whole-space", help="Erase everything in --space.")] = False,
    tenant: Annotated[str | None, typer.Option(help="Erase a tenant: the domain in hex as `stats` prints it.")] = None,
    max_wait_s: Annotated[float, typer.Option(help="How long to wait for the service that has the cache open.")] = 60.0,
    shared_cache_url: Annotated[
        str | None,
        typer.Option(
            envvar="EMBEDDER_SHARED_CACHE_URL",
            help="Erase from this Valkey server too, as the service's setting of that name: what stays there comes back.",
        ),
    ] = None,
) -> None:
    """Erase contents, a space or a tenant from all generations. Safe while a service uses the cache: it does the work.

    The vectors' bytes are overwritten at once; `compact` takes their hashes out of the files too.
    """
    path = _folder(cache_dir)
    hashes = _content_hashes(content_hash or [], text or [], image or [])
    if tenant is not None:
        requests = [Request("erase-domain", domain=tenant)]
    else:
        prefixes = _prefixes(path, space)
        if whole_space and space:
            requests = [Request("erase-space", prefix=prefix.hex()) for prefix in prefixes]
        elif hashes:
            requests = [Request("erase-hashes", prefix=prefix.hex(), hashes=hashes.hex()) for prefix in prefixes]
        else:
            _refuse("Nothing to erase: give --hash, --text, --image, --space with --whole-space, or --tenant.")
    if shared_cache_url is not None:  # first: what is fetched from there meanwhile is erased here
        _erase_shared(path, requests, shared_cache_url)
    for request in requests:
        _change(path, request, max_wait_s=max_wait_s)
    console.print("Erased.")


def _erase_shared(path: Path, requests: list[Request], url: str) -> None:
    """Erase from the shared tier what the requests name, in the spaces that this cache knows."""
    with VectorCache.open(path, stored_settings(path), read_only=True) as cache:
        rows = cache.spaces()
    try:
        with closing(ValkeyTier(ValkeySettings(url))) as tier:
            for request in requests:
                if request.kind == "erase-hashes":
                    prefix = bytes.fromhex(request.prefix)
                    tier.delete_many(SpaceKey(prefix, rows[prefix].dim), bytes.fromhex(request.hashes))
                    continue
                for prefix, row in rows.items():
                    if request.prefix == prefix.hex() or (request.domain and request.domain == row.domain):
                        tier.erase_space(SpaceKey(prefix, row.dim))
    except CacheError as error:
        _refuse(f"Nothing was erased here, since the shared cache comes first: {error}")
    except ImportError:
        _refuse("--shared-cache-url needs the package redis: pip install 'embedder[valkey]'")


def _content_hashes(hashes: list[str], texts: list[str], images: list[Path]) -> bytes:
    packed = b""
    for given in hashes:
        if len(given) != 64 or not all(digit in "0123456789abcdefABCDEF" for digit in given):
            _refuse(f"--hash has {len(given)} characters; a content hash is 64 hexadecimal digits.")
        packed += bytes.fromhex(given)
    packed += b"".join(hash_content(Modality.TEXT, one.encode()) for one in texts)
    return packed + b"".join(hash_content(Modality.IMAGE, one.read_bytes()) for one in images)


@app.command()
def compact(
    cache_dir: CachePath = None,
    max_wait_s: Annotated[
        float, typer.Option(help="How long to wait for the service that has the cache open.")
    ] = 3600.0,
) -> None:
    """Write every generation anew without what was erased or is damaged. Needs room for one generation more.

    Safe while a service uses the cache: it does the work, and stores nothing new meanwhile.
    """
    with console.status("Compacting"):
        _change(_folder(cache_dir), Request("compact"), max_wait_s=max_wait_s)
    console.print("Compacted.")


@app.command("export")
def export_command(
    target: Annotated[Path, typer.Argument(help="Folder for the Parquet files, one for each space.")],
    cache_dir: CachePath = None,
    space: SpaceOption = None,
) -> None:
    """Write spaces into Parquet files. Safe while a service uses the cache."""
    path = _folder(cache_dir)
    prefixes = _prefixes(path, space)
    target.mkdir(parents=True, exist_ok=True)
    with (
        VectorCache.open(path, stored_settings(path), read_only=True) as cache,
        _progress("Exporting", cache.stats().entries) as note,
    ):
        written = sum(
            export_space(cache, prefix, target / f"{prefix.hex()}.parquet", note_progress=note) for prefix in prefixes
        )
    console.print(f"{written:,} entries of {len(prefixes)} spaces written to {target}.")


@app.command("import")
def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            exists=True, dir_okay=False, help="Parquet files of an export, or of `embedder-backfill run --parquet`."
        ),
    ],
    cache_dir: CachePath = None,
    domain_key: Annotated[
        Path | None,
        typer.Option(
            help="The service's domain.key, under which a backfill's record files are put; default: beside the cache's folder."
        ),
    ] = None,
) -> None:
    """Put the entries of Parquet files into the cache, merging what several machines computed. No service may have it open.

    Checksums are verified; an export keeps its space's key, a record file is put under this service's own key of the space that it names.
    What the cache holds already keeps its vector.
    """
    path = _folder(cache_dir, must_exist=False)
    settings = stored_settings(path) if (path / "catalogue").exists() else None
    key_file = domain_key or path.parent / "domain.key"
    with VectorCache.open(path, settings) as cache, _progress("Importing", None) as note:
        put = sum(_import_file(cache, file, key_file, note) for file in files)
    console.print(f"{put:,} entries put into the cache.")


def _import_file(cache: VectorCache, file: Path, key_file: Path, note: Callable[[int], None]) -> int:
    if read_record_space(file) is None:
        return import_space(cache, file, note_progress=note)
    if not key_file.is_file():
        _refuse(
            f"{file.name} is put under the service's own key, and {key_file} is not there: name it with --domain-key."
        )
    return import_record_file(cache, file, domain_secret=key_file.read_bytes(), note_progress=note)


def _folder(cache_dir: Path | None, *, must_exist: bool = True) -> Path:
    path = cache_dir or default_data_dir() / "cache"
    if must_exist and not (path / "catalogue").exists():
        _refuse(f"There is no cache in {path}.")
    return path


def _prefixes(path: Path, space: str | None) -> list[bytes]:
    """Find the spaces that are meant: by name, by prefix in hex, or all."""
    with VectorCache.open(path, stored_settings(path), read_only=True) as cache:
        spaces = cache.spaces()
    chosen = [prefix for prefix, row in spaces.items() if space is None or space in {row.name, prefix.hex()}]
    if space is not None and not chosen:
        _refuse(f"The cache knows no space {space!r}; `embedder-cache stats` lists them.")
    return chosen


def _change(path: Path, request: Request, *, max_wait_s: float) -> None:
    """Make a change here when no process writes to the cache, or ask the one that does."""
    try:
        cache = VectorCache.open(path, stored_settings(path))
    except CacheLocked:
        ask_writer(path, request, max_wait_s=max_wait_s)
        return
    with cache:
        cache.carry_out(request)


@contextmanager
def _progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error; yields what to call with each count of finished things."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


def _refuse(message: str) -> NoReturn:
    """Say what was wrong and end with status 2."""
    errors.print(message, style="red", highlight=False)
    raise typer.Exit(2)


def main() -> None:
    """Run the command; what the cache refuses is one line on standard error, and status 1."""
    try:
        app()
    except CacheError as error:
        errors.print(str(error), style="red", highlight=False)
        sys.exit(1)
