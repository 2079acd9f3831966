"""embedder-serve: the daemon."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from embedder.cli.logs import configure_logs
from embedder.cli.profile import profile
from embedder.config import ServeSettings, load_settings
from embedder.errors import ConfigurationError

if TYPE_CHECKING:
    from embedder.server.runtime import Runtime
    from embedder.server.service import Service

_SWITCH_INTERVAL_S = 0.0005
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
    # Blocked before any thread starts, and waited for: a handler that sets an event can meet the main thread inside that very
    # event's lock, and then neither goes on.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    # gRPC's and torch's own messages would break the banner and the JSON lines.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # The forward pass's threads sleep between operations instead of spinning: calls are answered on the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A thread that answers a hit waits this long at most for one that computes in Python; the interpreter's own 5 ms are its p99.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # Read once, when torch is imported: activations in large pages cost a thirtieth less time (measured).
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from embedder.server.service import Service
    from embedder_heads.blas import one_thread_a_product

    one_thread_a_product()
    service = Service(settings)
    runtime = service.start()
    try:
        print_banner(console, service, runtime)
        signal.sigwait(_STOP_SIGNALS)
    finally:
        service.stop()


def print_banner(console: Console, service: Service, runtime: Runtime) -> None:
    """Say where the service listens, what it serves, and where it keeps it."""
    settings = runtime.settings
    table = Table(
        title="embedder-serve is ready", title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_row("listens on", f"{service.address} ({_guards(settings)})")
    for space in runtime.spaces:
        info = space.info
        media = ", ".join(sorted(info.modalities))
        table.add_row(
            "space", f"{space.name}: {info.model_id}, {media}, dim {info.dim}, {info.numerics} on {info.device}"
        )
        table.add_row("", f"digest {space.digest.hex()[:16]}")
    stats = runtime.cache.stats()
    limit_gib = stats.max_bytes / (1 << 30)
    table.add_row("cache", f"{settings.cache_path} ({stats.entries:,} vectors, limit {limit_gib:.3g} GiB)")
    table.add_row("heads", f"{settings.heads_path} ({len(runtime.heads.snapshot.served())} heads)")
    table.add_row("savings", str(settings.ledger_path))
    if service.web.dashboard_url:
        table.add_row("dashboard", service.web.dashboard_url)
    if service.web.metrics_url:
        table.add_row("metrics", service.web.metrics_url)
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
