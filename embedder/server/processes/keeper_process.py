"""The keeper's process: opens the cache and the ledger for writing, and serves them."""

from __future__ import annotations

from contextlib import ExitStack

import zmq

from embedder.engine.transport.keeper_server import KeeperServer
from embedder.engine.transport.peers import keeper_socket
from embedder.server.parts import open_cache, open_ledger
from embedder.server.processes.control import ClientDown, ControlPipe, Ready, Start
from embedder.telemetry.elsewhere import GatheredCounts


def run_keeper(start: Start, control: ControlPipe) -> None:
    """Keep until told to stop.

    Raises:
        ConfigurationError: the cache or the ledger can't be opened.
    """
    settings = start.settings
    with ExitStack() as stack:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        cache = open_cache(settings, stack)
        ledger = open_ledger(settings, stack)
        context = stack.enter_context(zmq.Context())
        path = keeper_socket(start.folder, incarnation=start.incarnation)
        server = KeeperServer(cache, ledger, counts=GatheredCounts(), context=context, path=path)
        stack.callback(server.close)
        control.say(Ready({"entries": f"{cache.stats().entries:,}"}))
        for order in control.orders():
            if isinstance(order, ClientDown):
                server.forget_client(order.name)
