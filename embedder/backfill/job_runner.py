"""The job runner: opens everything for one run of a job, carries it out, and closes it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedder.backfill.coordinator import Beat, Coordinator, JobParts
from embedder.backfill.executors import ExecutorContext, open_executor
from embedder.backfill.job_folder import working_on
from embedder.backfill.journal import Journal, ShardDone
from embedder.backfill.local_keeper import LocalKeeper
from embedder.backfill.local_space import CLIENT, LocalSpace
from embedder.backfill.manifest import Manifest
from embedder.backfill.outputs.index_output import IndexOutput
from embedder.backfill.outputs.npy_matrix import NpyMatrix
from embedder.backfill.outputs.output import Output
from embedder.backfill.outputs.parquet_parts import ParquetParts
from embedder.backfill.outputs.rejects import Rejects
from embedder.backfill.pinned_space import PinnedSpace
from embedder.backfill.reading import ShardReader
from embedder.backfill.service_executor import ServiceExecutor
from embedder.backfill.wholes import LocalWholes
from embedder.config import ServeSettings
from embedder.encoders.base import Encoder
from embedder.errors import ConfigurationError, UnknownSpace
from embedder.server.parts import media_limits
from embedder_client import Client, ClientSettings
from embedder_heads.index.library import IndexLibrary

_BULK_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How one run goes about its job.

    Attributes:
        executor: what computes; see `EXECUTORS`.
        ray_address: the Ray cluster, with the executor 'ray'; empty starts one on this machine.
        again: ask for every row anew, even where the journal says that it is done.
        max_rejects: most rejects; None bears any number.
        token: bearer token of the service, with a target.
        tls_root: PEM file of the authority of the service's certificate, with a target.
    """

    executor: str = "local"
    ray_address: str = ""
    again: bool = False
    max_rejects: int | None = None
    token: str = ""
    tls_root: Path | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended.

    Attributes:
        was_done: whether nothing was left to do.
        is_complete: whether every shard is done now, and the outputs are complete.
        outputs: what the outputs hold, in words.
    """

    was_done: bool
    is_complete: bool
    outputs: tuple[str, ...] = ()


class JobRunner:
    """Carries a job out in this process; `stop` may be called from any thread, or from a signal's handler."""

    def __init__(
        self,
        manifest: Manifest,
        settings: ServeSettings,
        options: RunOptions,
        *,
        load: Callable[[ServeSettings, ExitStack], Encoder] | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            load: loads the encoder; None loads the one that the settings name.
        """
        self._manifest = manifest
        self._settings = settings
        self._options = options
        self._load = load
        self._coordinator: Coordinator | None = None
        self._is_stopped = False
        self._encoding = 0

    def stop(self) -> None:
        """Let shards that are under way end, and begin no other."""
        self._is_stopped = True
        if self._coordinator is not None:
            self._coordinator.stop()

    def run(
        self,
        *,
        on_done: Callable[[ShardDone], None] = lambda done: None,
        on_encoded: Callable[[int], None] = lambda encodes: None,
    ) -> RunEnd:
        """Do what is left of the job.

        Args:
            on_done: is told of each shard once it is done.
            on_encoded: is told of contents that the device computed just now, in its thread.
        Raises:
            ConfigurationError: another process works on the job or writes to the cache, or the space is another.
            TooManyRejects: more rows were rejected than allowed.
            EmbedderError: the job can't go on; what is done stays done.
        """
        journal = Journal(self._manifest.folder)
        with working_on(self._manifest.folder):
            if journal.is_finished() and not self._options.again:
                return RunEnd(was_done=True, is_complete=True)
            with ExitStack() as stack:
                parts = self._open(journal, stack, on_encoded)
                journal.begin(again=self._options.again)
                with self._noted(journal):
                    return self._carry_out(parts, on_done)

    def _carry_out(self, parts: JobParts, on_done: Callable[[ShardDone], None]) -> RunEnd:
        self._coordinator = coordinator = Coordinator(parts)
        if self._is_stopped:
            coordinator.stop()

        def note(done: ShardDone) -> None:
            self._encoding = max(0, self._encoding - done.encodes)
            on_done(done)

        coordinator.run(on_done=note)
        if coordinator.is_stopped:
            return RunEnd(was_done=False, is_complete=False)
        return RunEnd(was_done=False, is_complete=True, outputs=tuple(coordinator.finish()))

    @contextmanager
    def _noted(self, journal: Journal) -> Iterator[None]:
        """Say in the journal that the run lives, and how it ended."""
        outcome = "stopped"
        try:
            with Beat(journal, lambda: self._encoding):
                yield
            outcome = "stopped" if self._is_stopped else "complete"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
            raise
        finally:
            journal.end(outcome)

    def _open(self, journal: Journal, stack: ExitStack, on_encoded: Callable[[int], None]) -> JobParts:
        job = self._manifest.job
        if job.target:
            executor, pinned = self._open_service(stack)
            return JobParts(
                manifest=self._manifest,
                journal=journal,
                executor=executor,
                keeper=None,
                wholes=None,
                rejects=Rejects(self._manifest.folder),
                outputs=self._outputs(pinned, stack),
                max_rejects=self._options.max_rejects,
            )
        folder = self._manifest.folder
        known = PinnedSpace.read(folder)

        def encoded(encodes: int) -> None:
            self._encoding += encodes
            on_encoded(encodes)

        space = LocalSpace(self._settings, known, task=task_of(self._manifest), on_encoded=encoded, load=self._load)
        stack.callback(space.close)
        if known is None:
            space.pinned.write(folder)
        context = ExecutorContext(self._manifest, self._settings, space, self._options.ray_address)
        return JobParts(
            manifest=self._manifest,
            journal=journal,
            executor=open_executor(self._options.executor, context, stack),
            keeper=LocalKeeper(space),
            wholes=LocalWholes(space),
            rejects=Rejects(folder),
            outputs=self._outputs(space.pinned, stack),
            max_rejects=self._options.max_rejects,
        )

    def _open_service(self, stack: ExitStack) -> tuple[ServiceExecutor, PinnedSpace]:
        job, folder = self._manifest.job, self._manifest.folder
        client = open_client(job.target, self._options)
        stack.callback(client.close)
        served = served_space(client, job.space)
        known = PinnedSpace.read(folder)
        if known is None:
            served.write(folder)
        elif known.digest != served.digest:
            raise ConfigurationError(
                f"this job's vectors are of the space {known.digest[:16]} ({known.model}), and {job.target} serves "
                f"{served.digest[:16]} ({served.model}): start another job for it"
            )
        reader = ShardReader(self._manifest, media_limits(self._settings))
        executor = ServiceExecutor(client, reader, served, space=job.space, task=task_of(self._manifest))
        stack.callback(executor.close)
        return executor, served

    def _outputs(self, pinned: PinnedSpace, stack: ExitStack) -> list[Output]:
        asked = self._manifest.job.outputs
        outputs: list[Output] = []
        if asked.parquet:
            outputs.append(ParquetParts(Path(asked.parquet), pinned, has_wholes=self._manifest.has_wholes))
        if asked.npy:
            outputs.append(NpyMatrix(Path(asked.npy), self._manifest, dim=pinned.dim))
        if asked.index:
            root = self._settings.indexes_path
            outputs.append(IndexOutput(asked.index, self._manifest, pinned, library=lambda: IndexLibrary(root)))
        for output in outputs:
            stack.callback(output.close)
        return outputs


def task_of(manifest: Manifest) -> str:
    """Return what a job's work is called in the savings ledger."""
    return f"backfill {manifest.folder.name}"


def open_client(target: str, options: RunOptions) -> Client:
    """Connect to a service."""
    return Client(
        target,
        settings=ClientSettings(
            client_name=CLIENT,
            bearer_token=options.token,
            tls_root_certificates=options.tls_root.read_bytes() if options.tls_root else None,
            bulk_timeout_s=_BULK_TIMEOUT_S,
        ),
    )


def served_space(client: Client, name: str) -> PinnedSpace:
    """Ask a service for a space of its; raises UnknownSpace where it serves none of that name."""
    listed = client.spaces()
    wanted = listed.aliases.get(name, name)
    for space in listed.spaces:
        if space.name == wanted:
            return PinnedSpace(
                digest=space.provenance.space_digest.hex(),
                dim=space.dim,
                model=space.provenance.model,
                numerics=space.provenance.numerics,
            )
    raise UnknownSpace(
        f"space={name!r} is not served at {client.target}; it serves {', '.join(one.name for one in listed.spaces)}"
    )
