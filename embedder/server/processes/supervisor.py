"""The supervisor: starts the processes of a service, starts anew what ends, tells each of the others, and drains them in order.

It imports neither torch nor gRPC, and its processes are spawned, never forked.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from pathlib import Path

import structlog

from embedder.config import ServeSettings
from embedder.engine.transport.board import Board
from embedder.engine.transport.peers import engine_name, frontend_name
from embedder.engine.transport.pixel_pool import POOL_BYTES
from embedder.engine.transport.shared_block import SharedBlock
from embedder.errors import ConfigurationError
from embedder.server.processes.child import Child
from embedder.server.processes.control import (
    ClientDown,
    EngineDown,
    EngineUp,
    Failed,
    KeeperDown,
    KeeperUp,
    Order,
    Ready,
    Start,
    Stop,
)
from embedder.server.processes.listening import ReservedPort

_log = structlog.get_logger(__name__)

# Beyond the drain itself: time to write everything down.
_CLOSE_GRACE_S = 45.0
_POLL_S = 5.0
_LONGEST_SILENCE_S = 60.0


class Supervisor:
    """One service of several processes: a keeper, an engine for each device, and front-ends."""

    def __init__(self, settings: ServeSettings, *, stop: Connection) -> None:
        """Prepare; `start` starts the processes.

        Args:
            stop: becomes readable when the service is to stop.
        """
        self._stop = stop
        self._port = ReservedPort(settings.listen_address)
        self.address = self._port.address
        self._settings = settings.model_copy(update={"listen_address": self._port.address})
        self._folder = tempfile.TemporaryDirectory(prefix="embedder-")  # of mode 0700
        self.keeper = Child("keeper", 0)
        self.engines = [Child("engine", number) for number in range(len(settings.device_list))]
        self.frontends = [Child("frontend", number) for number in range(settings.frontends)]
        self._board = Board.create(frontends=len(self.frontends), engines=len(self.engines))
        self._pixels = [
            [SharedBlock.create("embedder-pixels", size_bytes=POOL_BYTES) for _ in self.engines] for _ in self.frontends
        ]
        self._preparation = b""
        self._digest = ""
        self._is_starting = True
        self._is_stopping = False

    @property
    def children(self) -> list[Child]:
        """All processes, in the order of their starts."""
        return [self.keeper, *self.engines, *self.frontends]

    def start(self) -> bool:
        """Start everything, and wait until all of it serves; returns false when told to stop before that.

        Raises:
            ConfigurationError: a process can't do its work; the others are ended again.
        """
        try:
            for child in self.children:
                self._spawn(child)
            while not all(child.is_ready for child in self.children):
                if not self._turn():
                    return False
        except BaseException:
            self._close()
            raise
        self._is_starting = False
        return True

    def run(self) -> None:
        """Keep everything running until told to stop."""
        while self._turn():
            pass

    def stop(self) -> None:
        """Drain: front-ends first, so that every call they took is answered; then engines; the keeper last."""
        self._is_starting, self._is_stopping = False, True
        settings = self._settings
        drain_s = (settings.drain_delay_ms + settings.drain_grace_ms) / 1_000
        for children, seconds in (
            (self.frontends, drain_s + _CLOSE_GRACE_S),
            (self.engines, _CLOSE_GRACE_S),
            ([self.keeper], _CLOSE_GRACE_S),
        ):
            self._end(children, within_s=seconds)
        self._close()

    def _close(self) -> None:
        for child in self.children:
            child.kill()
        self._port.close()
        self._folder.cleanup()

    def _end(self, children: Iterable[Child], *, within_s: float) -> None:
        give_up_at = time.monotonic() + within_s
        running = [child for child in children if child.is_running]
        for child in running:
            child.tell(Stop())
        while running:
            self._listen(max(0.0, give_up_at - time.monotonic()))
            if time.monotonic() >= give_up_at:
                for child in running:
                    _log.error("a process did not end in time and is killed", name=child.name)
                    child.kill()
                give_up_at += within_s
            running = [child for child in running if child.is_running]

    def _turn(self) -> bool:
        """Wait for what happens next, and act on it; returns false when told to stop."""
        now = time.monotonic()
        due = [child.restart_at for child in self.children if not child.is_running]
        if self._listen(max(0.0, min(due, default=now + _POLL_S) - now)):
            return False
        for child in self.children:
            if not child.is_running and child.restart_at <= time.monotonic():
                self._spawn(child)
        self._end_silent_engines()
        return True

    def _end_silent_engines(self) -> None:
        """Kill an engine whose interpreter has stood still for long, such as in a driver that hangs; it is started again."""
        now = time.monotonic()
        for engine in self.engines:
            silence_s = self._board.silence_s(engine.number)
            if not engine.is_ready or silence_s < _LONGEST_SILENCE_S:
                engine.silent_since = None
            elif engine.silent_since is None:
                engine.silent_since = now  # looked at again later: a machine that slept wakes this process first
            elif now - engine.silent_since >= _POLL_S:
                _log.error("an engine stands still and is killed", name=engine.name, silence_s=round(silence_s, 1))
                engine.kill()

    def _listen(self, timeout_s: float) -> bool:
        """Take what the processes say, for a while; returns whether the service is to stop."""
        pipes = {child.connection: child for child in self.children if child.connection is not None}
        ready = wait([*pipes, *([] if self._is_stopping else [self._stop])], timeout_s)
        for connection in ready:
            if connection in pipes:
                self._hear(pipes[connection])
        return self._stop in ready

    def _hear(self, child: Child) -> None:
        message = child.hear()
        if message is None:
            self._bury(child)
        elif isinstance(message, Failed):
            if self._is_starting:
                raise ConfigurationError(message.message)
            if not self._is_stopping:
                _log.error("a process could not start", name=child.name, reason=message.message)
        else:
            self._welcome(child, message)

    def _welcome(self, child: Child, ready: Ready) -> None:
        if child.role == "engine" and self._is_of_another_space(child, ready.details["digest"]):
            child.kill()
            return
        child.is_ready = True
        child.details = ready.details
        _log.info("process ready", name=child.name, incarnation=child.incarnation)
        if child.role == "keeper":
            self._tell([*self.engines, *self.frontends], KeeperUp(child.incarnation))
        elif child.role == "engine":
            self._preparation = ready.preparation
            for frontend in self.frontends:  # those that serve have their preparation already
                preparation = b"" if frontend.is_ready else ready.preparation
                frontend.tell(EngineUp(child.number, child.incarnation, preparation))

    def _is_of_another_space(self, engine: Child, digest: str) -> bool:
        """Compare an engine's space with that of the engines before it: front-ends know one, and nothing may be mixed with it.

        Raises:
            ConfigurationError: engines that were started together differ.
        """
        self._digest = self._digest or digest
        if digest == self._digest:
            return False
        reason = (
            f"the engines came to different spaces ({self._digest[:16]}, and {digest[:16]} by {engine.name}): give the numerics, such "
            "as --precision fp32, instead of having each device measure them"
        )
        if self._is_starting:
            raise ConfigurationError(reason)
        _log.error("an engine may not serve", name=engine.name, reason=reason)
        return True

    def _bury(self, child: Child) -> None:
        """Take note of a process's end, and tell the others."""
        status = child.reap()
        if not self._is_stopping:
            _log.error("a process ended and is started again", name=child.name, exit_status=status)
        if child.role == "keeper":
            self._tell([*self.engines, *self.frontends], KeeperDown())
        elif child.role == "engine":
            self._tell(self.frontends, EngineDown(child.number))
            self._tell([self.keeper], ClientDown(engine_name(child.number, incarnation=child.incarnation)))
        else:
            self._board.forget_frontend(child.number)
            name = frontend_name(child.number, incarnation=child.incarnation)
            self._tell([*self.engines, self.keeper], ClientDown(name))

    def _tell(self, children: Iterable[Child], order: Order) -> None:
        for child in children:
            child.tell(order)

    def _spawn(self, child: Child) -> None:
        child.incarnation += 1
        if child.role == "frontend":
            pixels = [block.descriptor for block in self._pixels[child.number]]
        elif child.role == "engine":
            pixels = [blocks[child.number].descriptor for blocks in self._pixels]
        else:
            pixels = []
        board = self._board.block.descriptor
        start = Start(
            role=child.role,
            number=child.number,
            incarnation=child.incarnation,
            settings=self._settings,
            folder=Path(self._folder.name),
            frontends=len(self.frontends),
            engines=len(self.engines),
            board=board,
            pixels=tuple(pixels),
        )
        child.start(start, descriptors=[board, *pixels])
        # What is up already; the rest is told when it comes up.
        if child.role != "keeper" and self.keeper.is_ready:
            child.tell(KeeperUp(self.keeper.incarnation))
        if child.role == "frontend":
            for engine in self.engines:
                if engine.is_ready:
                    child.tell(EngineUp(engine.number, engine.incarnation, self._preparation))
