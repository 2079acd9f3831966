"""Makes the executor that a run asks for."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from embedder.backfill.asking import Asker
from embedder.backfill.executor import Executor
from embedder.backfill.local_executor import LocalExecutor, Stages
from embedder.backfill.local_space import LocalSpace, max_batch_units
from embedder.backfill.manifest import Manifest
from embedder.backfill.ray_executor import RayExecutor
from embedder.backfill.ray_pool import RayPool, connect, disconnect
from embedder.backfill.ray_worker import WorkerPlan
from embedder.backfill.reading import ShardReader
from embedder.config import ServeSettings
from embedder.errors import ConfigurationError
from embedder.server.parts import media_limits

EXECUTORS = ("local", "ray")
"""Names that `--executor` takes."""


@dataclass(frozen=True, slots=True)
class ExecutorContext:
    """What an executor is made of.

    Attributes:
        manifest: the job; other processes open it by its folder.
        settings: the service's settings; can be pickled.
        space: the space, its cache open for writing in this process; `space.pinned` says which space every encoder must be of.
        ray_address: the Ray cluster, with `ray`; empty starts one on this machine.
    """

    manifest: Manifest
    settings: ServeSettings
    space: LocalSpace
    ray_address: str = ""


def open_executor(name: str, context: ExecutorContext, stack: ExitStack) -> Executor:
    """Make an executor by its name; `stack` closes it.

    Raises:
        ConfigurationError: there is none of that name.
    """
    executor: LocalExecutor | RayExecutor
    match name:
        case "local":
            executor = LocalExecutor(local_stages(context))
        case "ray":
            executor = _ray_executor(context, stack)
        case _:
            raise ConfigurationError(f"executor={name!r} is none; there are {', '.join(EXECUTORS)}")
    stack.callback(executor.close)
    return executor


def _ray_executor(context: ExecutorContext, stack: ExitStack) -> RayExecutor:
    space = context.space
    plan = WorkerPlan(context.settings, space.pinned, space.key, max_batch_units(context.settings))

    def open_pool() -> RayPool:
        if connect(context.ray_address):
            stack.callback(disconnect)
        pool = RayPool(plan)
        stack.callback(pool.close)
        return pool

    reader = ShardReader(context.manifest, media_limits(context.settings))
    return RayExecutor(reader, Asker(space.cache, space.key, shared=space.shared), open_pool)


def local_stages(context: ExecutorContext) -> Stages:
    """Return the stages of this process."""
    space = context.space
    return Stages(
        reader=ShardReader(context.manifest, media_limits(context.settings)),
        asker=Asker(space.cache, space.key, shared=space.shared),
        preparer=space.preparer,
        encoder=space.encoder,
        store=space.store,
    )
