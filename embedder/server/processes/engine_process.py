"""An engine's process: the model on one device, and everything that waits for it."""

from __future__ import annotations

import gc
import json
import os
import pickle
import threading
import time
from contextlib import ExitStack

import zmq

from embedder.config import ServeSettings
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.engine.engine import Engine
from embedder.engine.transport.board import Board
from embedder.engine.transport.engine_server import AdmittedByFrontends, EngineServer
from embedder.engine.transport.keeper_client import KeeperClient
from embedder.engine.transport.keeper_messages import KeeperKind
from embedder.engine.transport.peers import engine_name, engine_socket
from embedder.engine.transport.pixel_pool import PixelReader
from embedder.engine.transport.remote_cache import RemoteCache
from embedder.engine.transport.remote_ledger import RemoteLedger
from embedder.engine.transport.shared_block import SharedBlock
from embedder.engine.warm_up import warm_up
from embedder.errors import ConfigurationError
from embedder.savings.meter import Meter
from embedder.server.accounting import SpaceAccount
from embedder.server.encoder_opening import open_encoder
from embedder.server.metering import open_meter
from embedder.server.parts import engine_settings, open_cache_for_reading, open_shared_cache
from embedder.server.processes.control import ClientDown, ControlPipe, KeeperUp, Order, Ready, Start
from embedder.server.processes.counts_feed import CountsFeed, is_counted
from embedder.server.processes.keeper_connection import follow_keeper
from embedder.server.secrets import load_domain_secret
from embedder.server.tracing_opening import open_tracing
from embedder.telemetry.observer import ServiceObserver
from embedder.telemetry.tally import Tally
from embedder_cache import space_key

_PUBLISH_S = 0.1
_METER_S = 10.0  # a keeper that was restarted learns it again within this


def run_engine(start: Start, control: ControlPipe) -> None:
    """Serve one device until told to stop.

    Raises:
        ConfigurationError: something can't be loaded, or the encoder fails its golden items.
    """
    settings = _settings_of(start)
    orders = control.orders()
    with ExitStack() as stack:
        encoder = open_encoder(settings)
        stack.callback(encoder.close)
        preparation = _pickled_preparation(encoder)
        context = stack.enter_context(zmq.Context())
        own_name = engine_name(start.number, incarnation=start.incarnation)
        keeper = KeeperClient(context, own_name=own_name)
        stack.callback(keeper.disconnect, "the engine is shutting down", linger_ms=2_000)
        order: Order | None = None
        while not isinstance(order, KeeperUp):
            order = next(orders, None)
            if order is None:
                return  # told to stop before there was anything to do
            follow_keeper(keeper, order, start.folder)
        cache = RemoteCache(open_cache_for_reading(settings, stack), keeper)
        ledger = RemoteLedger(settings.ledger_path, keeper, cache_counts=dict)
        stack.callback(ledger.close)
        info = encoder.info
        meter = open_meter(info.device)
        tally = Tally()
        tracing = open_tracing(settings)
        if tracing is not None:
            stack.callback(tracing.close)
        observer = ServiceObserver(tally, tracing=tracing, reason_of=lambda error: type(error).__name__)
        engine = Engine(
            encoder,
            cache=cache,
            space=space_key(
                load_domain_secret(settings.data_dir, settings.domain_key_file), info.space_digest, info.dim
            ),
            ledger=SpaceAccount(ledger, space=settings.space),
            settings=engine_settings(settings),
            shared=open_shared_cache(settings, stack),
            admission=AdmittedByFrontends(),
            meter=meter,
            # Of batches and commits: what calls look up and are answered, front-ends count and trace.
            observer=observer.of_space(settings.space, traces_lookups=False),
        )
        readers = [PixelReader(SharedBlock(pool), image_size=info.image_size) for pool in start.pixels]
        server = EngineServer(
            engine,
            context=context,
            path=engine_socket(start.folder, start.number, incarnation=start.incarnation),
            pixels=readers,
        )
        stack.callback(server.close)
        stack.callback(engine.close)  # first: then the server sends what is left
        warm_up(encoder, engine.cost_model)
        gc.collect()
        gc.freeze()
        if is_counted(settings):
            stack.enter_context(CountsFeed(keeper, tally.snapshot))
        stack.enter_context(_Publisher(start, engine, meter=meter, keeper=keeper))
        control.say(Ready(_details(encoder), preparation))
        for order in orders:
            if isinstance(order, ClientDown):
                server.forget_frontend(order.name)
            follow_keeper(keeper, order, start.folder)


class _Publisher:
    """Shows the engine's pulse and figures on the board, and tells the keeper what the device takes at rest, in a thread."""

    def __init__(self, start: Start, engine: Engine, *, meter: Meter, keeper: KeeperClient) -> None:
        self._board = Board(SharedBlock(start.board), frontends=start.frontends, engines=start.engines)
        self._number = start.number
        self._engine = engine
        self._meter = meter
        self._keeper = keeper
        self._metered_at = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)

    def __enter__(self) -> None:
        self._publish()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_PUBLISH_S):
            self._publish()

    def _publish(self) -> None:
        cost_model = self._engine.cost_model
        self._board.publish(self._number, cost_model.lines(), pace=cost_model.pace)
        if time.monotonic() - self._metered_at > _METER_S:
            self._metered_at = time.monotonic()
            told = {
                "device": self._engine.info.device,
                "idle_watts": self._meter.idle_watts,
                "meter": dict(self._meter.description()),
            }
            self._keeper.request(KeeperKind.METER, json.dumps(told).encode())


def _settings_of(start: Start) -> ServeSettings:
    """Return the service's settings for this engine's device; engines on the CPU share its cores."""
    settings = start.settings
    devices = settings.device_list
    device = devices[start.number]
    threads = settings.threads
    on_cpu = sum(name == "cpu" for name in devices)
    if device == "cpu" and on_cpu > 1 and not threads:
        threads = max(1, len(os.sched_getaffinity(0)) // on_cpu)
    return settings.model_copy(update={"device": device, "threads": threads})


def _pickled_preparation(encoder: TowerEncoder) -> bytes:
    try:
        return pickle.dumps(encoder.preparation)
    except Exception as error:  # whatever a library's tokenizer raises
        raise ConfigurationError(
            f"the tokenizer of model={encoder.info.model_id!r} can't be handed to front-ends ({error}): use --frontends 1"
        ) from error


def _details(encoder: TowerEncoder) -> dict[str, str]:
    info = encoder.info
    return {"model": info.summary, "digest": info.space_digest.hex()}
