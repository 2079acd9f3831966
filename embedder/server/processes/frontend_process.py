"""A front-end's process: the gRPC services over engines that are processes of their own."""

from __future__ import annotations

import pickle
import threading
from contextlib import ExitStack, nullcontext

import structlog
import zmq

from embedder.config import ServeSettings
from embedder.encoders.preparation import Preparation, import_resizer
from embedder.engine.admission import Admission
from embedder.engine.transport.board import Board
from embedder.engine.transport.engine_link import EngineLink
from embedder.engine.transport.keeper_client import KeeperClient
from embedder.engine.transport.peers import engine_socket, frontend_name
from embedder.engine.transport.pixel_pool import PixelWriter
from embedder.engine.transport.remote_cache import RemoteCache
from embedder.engine.transport.remote_engine import RemoteEngine, RemoteShard
from embedder.engine.transport.remote_ledger import RemoteLedger
from embedder.engine.transport.shared_block import SharedBlock
from embedder.errors import ConfigurationError
from embedder.savings.plan import load_plan
from embedder.server.answer_desk import AnswerDesk
from embedder.server.cache_identity import load_cache_id
from embedder.server.compose import open_composites, open_uploads
from embedder.server.parts import (
    engine_settings,
    open_cache_for_reading,
    open_registries,
    open_shared_cache,
    start_decoder,
    start_video_decoder,
)
from embedder.server.processes.control import ControlPipe, EngineDown, EngineUp, KeeperUp, Order, Ready, Start, Stop
from embedder.server.processes.counts_feed import CountsFeed, counted_elsewhere, is_counted
from embedder.server.processes.keeper_connection import follow_keeper
from embedder.server.reporting import open_report, start_call_energy
from embedder.server.runtime import Runtime
from embedder.server.secrets import load_domain_secret
from embedder.server.service import Service
from embedder.server.spaces import FixedSpaces, ServedSpace, Spaces
from embedder.telemetry.observer import ServiceObserver
from embedder.telemetry.tally import Snapshot
from embedder_cache import space_key

_log = structlog.get_logger(__name__)

_TEXTS_ONLY = "hf:"
_LINGER_MS = 2_000
_RESTARTING = "the engine is restarting"


def run_frontend(start: Start, control: ControlPipe) -> None:
    """Serve until told to stop.

    Raises:
        ConfigurationError: something can't be opened.
    """
    with ExitStack() as stack:
        frontend = _Frontend(start, stack.enter_context(zmq.Context()))
        stack.callback(frontend.disconnect)
        thread = threading.Thread(target=frontend.follow, args=(control,), name="control", daemon=True)
        thread.start()
        if not start.settings.model.startswith(_TEXTS_ONLY):
            # Meanwhile the engine loads: what the first image needs is there when it serves.
            threading.Thread(target=import_resizer, name="import", daemon=True).start()
        # A successor takes no connection before it can answer: the others on the port do.
        service = Service(
            _settings_of(start),
            build=frontend.build,
            shares_port=True,
            binds_late=start.incarnation > 1,
            elsewhere=frontend.counted_elsewhere,
        )
        runtime = service.start()
        frontend.service = service
        frontend.show_health()
        feed = CountsFeed(frontend.keeper, service.own_counts) if is_counted(start.settings) else nullcontext()
        with feed:
            pages = {"metrics": service.web.metrics_url or "", "dashboard": service.web.dashboard_url or ""}
            control.say(Ready({"heads": str(len(runtime.heads.snapshot.served())), **pages}))
            frontend.stopped.wait()
            service.stop()


def _settings_of(start: Start) -> ServeSettings:
    """Return the service's settings for this front-end: the first serves metrics and page for all of them."""
    if start.number == 0:
        return start.settings
    return start.settings.model_copy(update={"metrics_address": None, "dashboard": False})


class _Frontend:
    """What a front-end knows of the processes behind it."""

    def __init__(self, start: Start, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self._start = start
        self._context = context
        self._name = frontend_name(start.number, incarnation=start.incarnation)
        self.keeper = KeeperClient(context, own_name=self._name)
        self._lock = threading.Lock()
        self._keeper_was_up = False
        self._engines: dict[int, int] = {}  # number to incarnation, of those that are up
        self._links: list[EngineLink] = []
        self._preparation: Preparation | None = None
        self._may_build = threading.Event()
        self.stopped = threading.Event()
        self.service: Service | None = None

    def follow(self, control: ControlPipe) -> None:
        """Do what the supervisor says, until it says stop."""
        for order in control.orders():
            try:
                self._obey(order)
            except Exception:  # noqa: BLE001 - the next order may mend what this one met
                _log.exception("an order could not be followed", order=type(order).__name__)

    def build(self, settings: ServeSettings, stack: ExitStack, observer: ServiceObserver) -> Runtime:
        """Wait until everything behind is up, and open what a service consists of.

        Raises:
            ConfigurationError: told to stop before that, or something can't be opened.
        """
        plan = load_plan(settings.savings_file)
        decoder = start_decoder(settings, stack)  # the processes get ready while the engine loads
        video_decoder = start_video_decoder(settings, stack)
        self._may_build.wait()
        if self._preparation is None or self.stopped.is_set():
            raise ConfigurationError("told to stop while starting")
        preparation = self._preparation.with_decoder(decoder)
        preparation.warm_up()
        cache = RemoteCache(open_cache_for_reading(settings, stack), self.keeper)
        ledger = RemoteLedger(settings.ledger_path, self.keeper, cache_counts=cache.counts)
        stack.callback(ledger.close)
        info = preparation.info
        shared = open_shared_cache(settings, stack)
        start = self._start
        board = Board(SharedBlock(start.board), frontends=start.frontends, engines=start.engines)
        engine = RemoteEngine(
            preparation,
            cache=cache,
            shared=shared,
            space=space_key(
                load_domain_secret(settings.data_dir, settings.domain_key_file), info.space_digest, info.dim
            ),
            settings=engine_settings(settings),
            board=board,
            observer=observer.of_space(settings.space),
        )
        stack.callback(engine.close)
        self._attach(engine, board)
        heads, indexes, fusions = open_registries(settings, stack)
        composite = open_composites(
            settings,
            stack,
            engine,
            encoder=preparation,
            cache=cache,
            shared=shared,
            decoder=video_decoder,
            fusions=fusions,
        )
        savings = open_report(plan, ledger, processor=preparation.device_name)
        return Runtime(
            settings=settings,
            directory=FixedSpaces(Spaces([ServedSpace(settings.space, composite)])),
            cache=cache,
            shared_cache=shared,
            cache_id=load_cache_id(settings.data_dir),
            heads=heads,
            indexes=indexes,
            ledger=ledger,
            savings=savings,
            call_energy=start_call_energy(savings, stack),
            fusions=fusions,
            uploads=open_uploads(settings),
            answers=AnswerDesk(settings, None),  # a model in each front-end would take the memory that front-ends save
            observer=observer,
        )

    def counted_elsewhere(self) -> Snapshot:
        """Return what the service's other processes have counted."""
        return counted_elsewhere(self.keeper)

    def disconnect(self) -> None:
        """Let go of the keeper, once everything that uses it is closed."""
        self.keeper.disconnect("the service is shutting down", linger_ms=_LINGER_MS)

    def show_health(self) -> None:
        """Say whether misses are served; hits are, as long as this process lives."""
        if self.service is not None:
            self.service.set_serving(len(self._engines) == self._start.engines)

    def _attach(self, engine: RemoteEngine, board: Board) -> None:
        start = self._start
        max_queue_s = engine_settings(start.settings).max_queue_s
        shards = []
        for number, pool in enumerate(start.pixels):
            pixels = PixelWriter(SharedBlock(pool), image_size=engine.info.image_size)
            link = EngineLink(engine.table, context=self._context, own_name=self._name, pixels=pixels)
            queued = board.queue(frontend=start.number, engine=number)
            shards.append(RemoteShard(link, Admission(max_queue_s=max_queue_s, queued=queued)))
        engine.attach(shards)
        with self._lock:
            self._links = [shard.link for shard in shards]
            for number, incarnation in self._engines.items():
                self._connect(number, incarnation)

    def _connect(self, number: int, incarnation: int) -> None:
        if self._links:
            self._links[number].connect(engine_socket(self._start.folder, number, incarnation=incarnation))

    def _obey(self, order: Order) -> None:
        if isinstance(order, EngineUp):
            with self._lock:
                self._engines[order.number] = order.incarnation
                self._connect(order.number, order.incarnation)
            if order.preparation and self._preparation is None:
                self._preparation = pickle.loads(order.preparation)  # from a process of this service, over its pipe
            self.show_health()
        elif isinstance(order, EngineDown):
            with self._lock:
                self._engines.pop(order.number, None)
            self.show_health()
            if self._links:
                self._links[order.number].disconnect(_RESTARTING)
        elif isinstance(order, Stop):
            self.stopped.set()
        else:
            follow_keeper(self.keeper, order, self._start.folder)
            self._keeper_was_up |= isinstance(order, KeeperUp)
        is_complete = self._keeper_was_up and len(self._engines) == self._start.engines
        if self.stopped.is_set() or (is_complete and self._preparation is not None):
            self._may_build.set()
