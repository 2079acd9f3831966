"""A pool of Ray actors, one for each GPU of the cluster, or for its processors where it has none."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass, replace
from typing import Any

import structlog

from embedder.backfill.ray_worker import RayWorker, WorkerPlan, unlock
from embedder.backfill.records import ShardRecords
from embedder.backfill.shard_contents import AskedShard
from embedder.errors import ConfigurationError, EmbedderError

_log = structlog.get_logger(__name__)

_CLOSE_TIMEOUT_S = 30
_RETURN_TIMEOUT_S = 300
_LOOK_INTERVAL_S = 1.0
_KNOCK_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerShape:
    """How many workers a cluster has room for, and what each takes.

    Attributes:
        workers: how many.
        cpus: of each; its encoder uses as many threads.
        gpus: of each, 1 or 0.
    """

    workers: int
    cpus: int
    gpus: int


class WorkerLost(Exception):
    """A worker is gone with what it did, as when its node ends."""


def connect(address: str) -> bool:
    """Connect to a cluster, or start one on this machine where the address is empty; returns whether this process connected just now.

    Raises:
        ConfigurationError: Ray is not installed, or there is no cluster at that address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError(
            f"executor='ray' needs the package ray: pip install 'embedder[ray]' ({error})"
        ) from error
    if ray.is_initialized():
        return False
    try:
        if address:
            _knock(address)
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(include_dashboard=False, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigurationError(
            f"ray_address={address!r} has no cluster that can be reached; leave it out to start one here ({error})"
        ) from error
    return True


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself goes on trying for minutes. Other forms are Ray's to judge."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_TIMEOUT_S).close()


def disconnect() -> None:
    """Leave the cluster; one that was started here ends."""
    import ray

    ray.shutdown()


def shape_of(nodes: list[dict[str, Any]], *, device: str, threads: int) -> WorkerShape:
    """Return what workers a cluster has room for.

    Args:
        nodes: as `ray.nodes()` lists them.
        device: the encoder's device; GPUs are used unless it is 'cpu'.
        threads: of the forward pass; 0 takes the processors of the smallest node.
    Raises:
        ConfigurationError: it has room for none.
    """
    resources = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = sum(int(one.get("GPU", 0)) for one in resources)
    if gpus and device != "cpu":
        return WorkerShape(gpus, 1, 1)
    cpus = [int(one["CPU"]) for one in resources if one.get("CPU", 0) >= 1]
    each = threads or min(cpus, default=0)
    workers = sum(count // each for count in cpus) if each else 0
    if not workers:
        raise ConfigurationError(
            f"the Ray cluster has no room for a worker of {max(1, each)} CPUs; its nodes have {cpus or 'none'}"
        )
    return WorkerShape(workers, each, 0)


class RayPool:
    """The actors; used by one thread. One that ends is started again by Ray, on another node if its own is gone and one has room."""

    def __init__(self, plan: WorkerPlan) -> None:
        """Start the actors; they load their encoders while the first shards are read.

        Raises:
            ConfigurationError: the cluster has room for none.
        """
        import ray

        self._ray: Any = ray
        settings = plan.settings
        shape = shape_of(self._ray.nodes(), device=settings.device, threads=settings.threads)
        here = {"device": "cuda:0", "devices": ""} if shape.gpus else {"device": "cpu", "threads": shape.cpus}
        told = self._ray.put(replace(plan, settings=settings.model_copy(update=here)))
        demand = {"num_cpus": shape.cpus, "num_gpus": shape.gpus}
        actor: Any = self._ray.remote(**demand, max_restarts=-1, scheduling_strategy="SPREAD")(RayWorker)
        self._actors = [actor.remote(told) for _ in range(shape.workers)]
        self._load = [0] * len(self._actors)
        self._worker_of: dict[Any, int] = {}
        self._lost: dict[int, Any] = {}
        _log.info("ray workers", workers=shape.workers, cpus=shape.cpus, gpus=shape.gpus)

    @property
    def room(self) -> int:
        """Shards that may be under way: one that is computed and one that waits, for each worker."""
        return 2 * len(self._actors)

    def submit(self, asked: AskedShard) -> Any:
        """Send a shard to the worker that has least to do; returns what `take` takes.

        Raises:
            EmbedderError: every worker is gone, and none came back.
        """
        worker = min(self._present(), key=lambda number: self._load[number])
        self._load[worker] += 1
        ticket = self._actors[worker].compute.remote(asked)
        self._worker_of[ticket] = worker
        return ticket

    def take(self, ticket: Any) -> ShardRecords:
        """Wait for a shard's records.

        Raises:
            WorkerLost: its worker is gone; submit it again.
            EmbedderError: it can't be computed.
        """
        worker = self._worker_of.pop(ticket)
        self._load[worker] -= 1
        errors = self._ray.exceptions
        try:
            records: ShardRecords = self._ray.get(ticket)
        except errors.RayTaskError as error:
            if isinstance(error.cause, EmbedderError):
                raise error.cause from error
            raise EmbedderError(f"a Ray worker failed: {error}") from error
        except errors.RayError as error:  # the actor, its process, its node, or what it returned
            if getattr(error, "actor_init_failed", False):
                raise ConfigurationError(f"a Ray worker could not begin: {error}") from error
            self._lost.setdefault(worker, self._actors[worker].is_ready.remote())
            raise WorkerLost(str(error)) from error
        return unlock(records)

    def _present(self) -> list[int]:
        """Return the workers that are not known to be gone; waits for one to come back where all are."""
        deadline = time.monotonic() + _RETURN_TIMEOUT_S
        while True:
            for worker, answer in list(self._lost.items()):
                if self._ray.wait([answer], timeout=0)[0]:
                    try:
                        self._ray.get(answer)
                        del self._lost[worker]
                    except self._ray.exceptions.RayError:
                        self._lost[worker] = self._actors[worker].is_ready.remote()
            if present := [number for number in range(len(self._actors)) if number not in self._lost]:
                return present
            if time.monotonic() > deadline:
                raise EmbedderError(f"every Ray worker is gone, and none came back in {_RETURN_TIMEOUT_S} s")
            time.sleep(_LOOK_INTERVAL_S)

    def close(self) -> None:
        """End the actors."""
        present = [actor for number, actor in enumerate(self._actors) if number not in self._lost]
        if present:
            self._ray.wait(
                [actor.close.remote() for actor in present], num_returns=len(present), timeout=_CLOSE_TIMEOUT_S
            )
        for actor in self._actors:
            self._ray.kill(actor)
