"""embedder-serve: the daemon."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import TYPE_CHECKING

import structlog
from rich.console import Console
from rich.table import Table

from embedder.cli.logs import configure_logs
from embedder.cli.process import SWITCH_INTERVAL_S
from embedder.cli.profile import profile
from embedder.config import ServeSettings, load_settings
from embedder.errors import ConfigurationError

if TYPE_CHECKING:
    from embedder.server.processes.supervisor import Supervisor
    from embedder.server.runtime import Runtime
    from embedder.server.service import Service

_log = structlog.get_logger(__name__)

_STOP_SIGNALS = {signal.SIGTERM, signal.SIGINT}


def main() -> None:
    """Serve until SIGTERM or SIGINT, or profile the encoder; exit 2 when a setting is wrong."""
    console = Console(stderr=True)
    try:
        if sys.argv[1:2] == ["profile"]:
            configure_logs(log_format="auto", level="info")
            profile(sys.argv[2:], Console())
            return
        settings = load_settings(sys.argv[1:])
        configure_logs(log_format=settings.log_format, level=settings.log_level)
        _serve(settings, console)
    except ConfigurationError as error:
        console.print(f"[bold red]embedder-serve can't start:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(2)


def _serve(settings: ServeSettings, console: Console) -> None:
    # Blocked before any thread or process starts, which inherit that, and waited for: a handler that sets an event can meet the
    # main thread inside that very event's lock, and then neither goes on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    # gRPC's and torch's own messages would break the banner and the JSON lines.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # The forward pass's threads sleep between operations instead of spinning: calls are answered on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Read once, when torch is imported: activations in large pages cost a thirtieth less time (measured).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    if settings.is_one_process:
        _serve_here(settings, console)
    else:
        _serve_by_processes(settings, console)


def _serve_here(settings: ServeSettings, console: Console) -> None:
    """Serve in this process, with the engine inside."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    from embedder.server.service import Service
    from embedder_heads.blas import one_thread_a_product

    one_thread_a_product()
    service = Service(settings)
    runtime = service.start()
    try:
        print_banner(console, banner_of(service, runtime))
        signal.sigwait(_STOP_SIGNALS)
    finally:
        service.stop()


def _serve_by_processes(settings: ServeSettings, console: Console) -> None:
    """Serve by front-ends, engines and a keeper; this process imports neither torch nor gRPC and only looks after them."""
    from embedder.server.processes.supervisor import Supervisor

    told, tell = Pipe(duplex=False)
    threading.Thread(target=lambda: tell.send(signal.sigwait(_STOP_SIGNALS)), name="signals", daemon=True).start()
    supervisor = Supervisor(settings, stop=told)
    start = time.perf_counter()
    if supervisor.start():
        _log.info("serving", address=supervisor.address, spaces=[settings.space], frontends=settings.frontends)
        print_banner(console, _banner_of_processes(settings, supervisor))
        supervisor.run()
        start = time.perf_counter()
    supervisor.stop()
    _log.info("stopped", seconds=round(time.perf_counter() - start, 2))


@dataclass(frozen=True, slots=True)
class Banner:
    """What the banner says.

    Attributes:
        settings: the service's.
        address: where it listens.
        models: each space's model in words.
        digests: each space's digest, in hexadecimal.
        entries: vectors in the cache.
        heads: heads that are served.
        processes: the processes in words; empty where there is one.
        dashboard_url: where the page is; None where it is not served.
        metrics_url: where metrics are; None where they are not served.
    """

    settings: ServeSettings
    address: str
    models: dict[str, str]
    digests: dict[str, str]
    entries: str
    heads: str
    processes: str = ""
    dashboard_url: str | None = None
    metrics_url: str | None = None


def banner_of(service: Service, runtime: Runtime) -> Banner:
    """Say what one process serves."""
    infos = {space.name: space.info for space in runtime.spaces}
    return Banner(
        settings=runtime.settings,
        address=service.address,
        models={name: info.summary for name, info in infos.items()},
        digests={space.name: space.digest.hex() for space in runtime.spaces},
        entries=f"{runtime.cache.stats().entries:,}",
        heads=str(len(runtime.heads.snapshot.served())),
        dashboard_url=service.web.dashboard_url,
        metrics_url=service.web.metrics_url,
    )


def _banner_of_processes(settings: ServeSettings, supervisor: Supervisor) -> Banner:
    engine, first = supervisor.engines[0].details, supervisor.frontends[0].details
    devices = ", ".join(settings.device_list)
    return Banner(
        settings=settings,
        address=supervisor.address,
        models={settings.space: engine["model"]},
        digests={settings.space: engine["digest"]},
        entries=supervisor.keeper.details["entries"],
        heads=first["heads"],
        dashboard_url=first["dashboard"] or None,
        metrics_url=first["metrics"] or None,
        processes=f"{len(supervisor.frontends)} front-ends, {len(supervisor.engines)} engines ({devices}), 1 keeper",
    )


def print_banner(console: Console, banner: Banner) -> None:
    """Say where the service listens, what it serves, and where it keeps it."""
    settings = banner.settings
    table = Table(
        title="embedder-serve is ready", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_row("listens on", f"{banner.address} ({_guards(settings)})")
    for name, model in banner.models.items():
        table.add_row("space", f"{name}: {model}")
        table.add_row("", f"digest {banner.digests[name][:16]}")
    limit_gib = settings.cache_limit_bytes / (1 << 30)
    table.add_row("cache", f"{settings.cache_path} ({banner.entries} vectors, limit {limit_gib:.3g} GiB)")
    table.add_row("heads", f"{settings.heads_path} ({banner.heads} heads)")
    table.add_row("savings", str(settings.ledger_path))
    if banner.processes:
        table.add_row("processes", banner.processes)
    if banner.dashboard_url:
        table.add_row("dashboard", banner.dashboard_url)
    if banner.metrics_url:
        table.add_row("metrics", banner.metrics_url)
    console.print(table, highlight=False, soft_wrap=True)
    if settings.insecure_listen and not (settings.is_loopback or settings.is_guarded):
        console.print(
            "[bold yellow]Warning:[/] reachable from other machines without TLS and a bearer token (--insecure-listen): "
            "whoever reaches this port can read vectors and spend device time.",
            soft_wrap=True,
        )


def _guards(settings: ServeSettings) -> str:
    tls = "TLS" if settings.tls_certificate else "no TLS"
    token = "bearer token" if settings.bearer_token else "no token"
    return (
        f"{tls}, {token}"
        if not settings.is_loopback or settings.tls_certificate or settings.bearer_token
        else "this machine only"
    )


if __name__ == "__main__":
    main()
