"""The running service: binds its port, says when it is ready, and drains when it is told to stop."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from embedder.config import ServeSettings
from embedder.errors import ConfigurationError
from embedder.server.admin_service import AdminService
from embedder.server.embedding_service import EmbeddingService
from embedder.server.error_table import row_of
from embedder.server.guard import CallGuard
from embedder.server.head_service import HeadService
from embedder.server.native_front import FrontSettings, NativeFront
from embedder.server.page_figures import PageFigures
from embedder.server.runtime import Runtime, RuntimeGate
from embedder.server.savings_service import SavingsService
from embedder.server.state import ServiceState
from embedder.server.tracing_opening import open_tracing
from embedder.server.web import WebServers
from embedder.telemetry import catalogue as metrics
from embedder.telemetry.observer import ServiceObserver
from embedder.telemetry.tally import Snapshot, Tally
from embedder_client.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    head_service_pb2,
    head_service_pb2_grpc,
    savings_service_pb2,
    savings_service_pb2_grpc,
)

if TYPE_CHECKING:
    from embedder.telemetry.tracing import Tracing

_log = structlog.get_logger(__name__)

SERVICE_NAMES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (embedding_service_pb2, "EmbeddingService"),
        (head_service_pb2, "HeadService"),
        (savings_service_pb2, "SavingsService"),
        (admin_service_pb2, "AdminService"),
    )
)
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Clients ping idle connections at most this often; a fifth of gRPC's default, so that dead balancers are noticed in time.
_MIN_PING_INTERVAL_MS = 10_000
# Calls that wait for a thread beyond those that have one; gRPC itself then refuses, without words.
_WAITING_CALLS = 4


BuildRuntime = Callable[[ServeSettings, ExitStack, ServiceObserver], Runtime]
"""Makes what a service consists of; the stack closes it again, in reverse order."""


class Service:
    """One embedder-serve process.

    `start` returns when the service is ready; health answers NOT_SERVING from the bind until then, and again from `stop` on.
    """

    def __init__(
        self,
        settings: ServeSettings,
        *,
        build: BuildRuntime | None = None,
        shares_port: bool = False,
        binds_late: bool = False,
        tracing: Tracing | None = None,
        elsewhere: Callable[[], Snapshot] | None = None,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            settings: what to serve, and where.
            build: makes the runtime once the port is bound; None builds everything in this process.
            shares_port: whether other processes of the same service listen on the port too.
            binds_late: whether the port is bound only once calls can be answered.
            tracing: where spans go; None means what the settings say.
            elsewhere: what other processes of the same service have counted; None where there are none.
        """
        self._elsewhere = elsewhere
        self._serves_misses = True
        self._settings = settings
        self._build = build or _build_here
        self._shares_port = shares_port
        self._binds_late = binds_late
        self._gate = RuntimeGate()
        self._observer = ServiceObserver(
            Tally(), tracing=tracing or open_tracing(settings), reason_of=lambda error: row_of(error).reason
        )
        self.web = WebServers(settings)
        self._stack = ExitStack()
        self._health = health.HealthServicer()
        self._server: grpc.Server | None = None
        self._front: NativeFront | None = None
        self._stopped = threading.Event()
        self.address = settings.listen_address

    def start(self) -> Runtime:
        """Bind, load, warm up, check, and serve.

        Raises:
            ConfigurationError: the port can't be bound, or something can't be loaded; everything is closed again.
        """
        try:
            self._set_health(_NOT_SERVING)
            if not self._binds_late:
                self._server = self._bind()
            self._start_web()
            runtime = self._build(self._settings, self._stack, self._observer)
            # What was loaded stays for good: a full collection over it would stop every call for half a second.
            gc.collect()
            gc.freeze()
            self._gate.open(runtime)
            if self._binds_late:
                self._server = self._bind()
        except BaseException:
            self._close(grace_s=0.0)
            raise
        self._set_health(_SERVING)
        # Where there are several, the supervisor says so once for all of them.
        log = _log.debug if self._shares_port else _log.info
        log(
            "serving",
            address=self.address,
            spaces=[space.name for space in runtime.spaces],
            metrics=self.web.metrics_url,
            dashboard=self.web.dashboard_url,
        )
        return runtime

    def set_serving(self, is_serving: bool) -> None:
        """Say whether misses are served; calls are taken either way, since hits need no engine."""
        self._serves_misses = is_serving
        self._set_health(_SERVING if is_serving else _NOT_SERVING)

    def own_counts(self) -> Snapshot:
        """Return what this process has counted, and its part of what adds up over processes."""
        counts = self._observer.tally.snapshot()
        runtime = self._gate.peek()
        for space in runtime.spaces if runtime else ():
            counts.set(metrics.IN_FLIGHT_ITEMS, space.engine.in_flight, (space.name,))
        return counts

    def stop(self) -> None:
        """Drain: say NOT_SERVING, take no new calls, let running ones end, and write everything down."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        start = time.perf_counter()
        # For good: a Watch is told too, and no later change says otherwise.
        self._health.enter_graceful_shutdown()
        time.sleep(self._settings.drain_delay_ms / 1_000)
        self._close(grace_s=self._settings.drain_grace_ms / 1_000)
        log = _log.debug if self._shares_port else _log.info
        log("stopped", seconds=round(time.perf_counter() - start, 2))

    def _close(self, *, grace_s: float) -> None:
        stopped = None if self._server is None else self._server.stop(grace_s)
        if self._front is not None:
            self._front.stop(grace_s)
        if stopped is not None:
            stopped.wait()
        self._gate.close("the service is shutting down")
        self.web.close()
        self._stack.close()
        if self._observer.tracing:
            self._observer.tracing.close()

    def _start_web(self) -> None:
        def is_serving() -> bool:
            return self._gate.is_open and self._serves_misses and not self._stopped.is_set()

        state = ServiceState(runtime=self._gate.peek, is_serving=is_serving)
        self.web.start(
            [self._counted, state.snapshot], PageFigures(self._gate.get, self._counted, target=lambda: self.address)
        )

    def _counted(self) -> Snapshot:
        counts = self._observer.tally.snapshot()
        if self._elsewhere:
            counts.merge(self._elsewhere())
        return counts

    def _set_health(self, status: int) -> None:
        for name in ("", *SERVICE_NAMES):
            self._health.set(name, status)

    def _bind(self) -> grpc.Server:
        settings = self._settings
        token = settings.bearer_token
        pool = ThreadPoolExecutor(max_workers=settings.max_calls, thread_name_prefix="call")
        self._stack.callback(pool.shutdown)
        server = grpc.server(
            pool,
            interceptors=[CallGuard(bearer_token=token.get_secret_value() if token else None, observer=self._observer)],
            maximum_concurrent_rpcs=settings.max_calls * _WAITING_CALLS,
            options=[
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
                ("grpc.so_reuseport", int(self._shares_port)),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", _MIN_PING_INTERVAL_MS),
            ],
        )
        self._add_services(server)
        if _is_native(settings):
            self._front = self._bind_front(server)
        else:
            self._bind_port(server)
        server.start()
        if self._front is not None:
            self._front.start()
        return server

    def _bind_front(self, server: grpc.Server) -> NativeFront:
        """Bind the port natively, with the grpcio server on a private socket behind it."""
        settings = self._settings
        folder = self._stack.enter_context(TemporaryDirectory(prefix="embedder-"))
        socket = f"{folder}/grpcio.sock"
        server.add_insecure_port(f"unix:{socket}")
        token = settings.bearer_token
        chosen = FrontSettings(
            address=settings.listen_address,
            fallback=socket,
            bearer_token=token.get_secret_value() if token else None,
            max_message_bytes=settings.max_message_bytes,
            default_deadline_s=settings.default_deadline_ms / 1_000,
            may_look_up=settings.shared_cache_url is None,
            reuse_port=self._shares_port,
        )
        try:
            front = NativeFront(chosen, self._gate, self._observer)
        except OSError as error:
            raise _cannot_bind(settings.listen_address, error) from error
        self.address = f"{settings.listen_address.rpartition(':')[0]}:{front.port}"
        return front

    def _add_services(self, server: grpc.Server) -> None:
        deadline_s = self._settings.default_deadline_ms / 1_000
        embedding = EmbeddingService(self._gate, default_deadline_s=deadline_s)
        embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server(embedding, server)
        heads = HeadService(self._gate, default_deadline_s=deadline_s)
        head_service_pb2_grpc.add_HeadServiceServicer_to_server(heads, server)
        savings_service_pb2_grpc.add_SavingsServiceServicer_to_server(SavingsService(self._gate), server)
        admin_service_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(self._gate), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)

    def _bind_port(self, server: grpc.Server) -> None:
        settings = self._settings
        address = settings.listen_address
        credentials = _tls_credentials(settings)
        try:
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise _cannot_bind(address, error) from error
        if not address.startswith("unix:"):
            self.address = f"{address.rpartition(':')[0]}:{port}"


def _is_native(settings: ServeSettings) -> bool:
    """Whether the native front serves.

    Raises:
        ConfigurationError: it was asked for and can't.
    """
    if settings.server == "grpcio":
        return False
    obstacles = [
        ("TLS", settings.tls_certificate is not None),
        ("a Unix socket", settings.listen_address.startswith("unix:")),
        ("a machine without pygrpc-native (pip install 'embedder[native]')", find_spec("pygrpc_native") is None),
    ]
    in_the_way = [what for what, is_so in obstacles if is_so]
    if in_the_way and settings.server == "native":
        raise ConfigurationError(f"server='native' does not go with {' and '.join(in_the_way)}; use 'auto' or 'grpcio'")
    return not in_the_way


def _cannot_bind(address: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"listen_address={address!r} can't be bound: is another process listening there, and is the address this machine's? ({error})"
    )


def _build_here(settings: ServeSettings, stack: ExitStack, observer: ServiceObserver) -> Runtime:
    # Imports torch, which a front-end whose engine is another process does without.
    from embedder.server.build import build_runtime

    return build_runtime(settings, stack, observer)


def _tls_credentials(settings: ServeSettings) -> grpc.ServerCredentials | None:
    """Read the server's certificate and key, if TLS is on."""
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    try:
        pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"tls_certificate or tls_key can't be read: {error}") from error
    return grpc.ssl_server_credentials([pair])
