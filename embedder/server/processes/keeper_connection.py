"""Following the keeper through its restarts."""

from __future__ import annotations

from pathlib import Path

from embedder.engine.transport.keeper_client import KeeperClient
from embedder.engine.transport.peers import keeper_socket
from embedder.server.processes.control import KeeperDown, KeeperUp, Order


def follow_keeper(keeper: KeeperClient, order: Order, folder: Path) -> None:
    """Connect to a keeper that is up, and let go of one that is gone; other orders mean nothing here."""
    if isinstance(order, KeeperUp):
        keeper.connect(keeper_socket(folder, incarnation=order.incarnation))
    elif isinstance(order, KeeperDown):
        keeper.disconnect("the process that writes the cache and the ledger is restarting")
