"""The cache as a user sees it: one folder, opened by one writing process and any number of reading ones."""

from __future__ import annotations

import os
import time
from concurrent.futures import Future
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from embedder_cache.catalogue import Request, SpaceRow
from embedder_cache.duties import Duties
from embedder_cache.errors import (
    CacheBackpressure,
    CacheClosed,
    CacheForked,
    CacheReadOnly,
    CacheRequestError,
)
from embedder_cache.generation import Generation, folder_bytes
from embedder_cache.generations import Generations
from embedder_cache.key import SpaceKey, count_hashes, pack_keys
from embedder_cache.opening import lock_for_writing, open_catalogue
from embedder_cache.reading import ReadScope, read_batch
from embedder_cache.record import RecordLayout
from embedder_cache.reporting import DamageReporter
from embedder_cache.samples import AccessSampler
from embedder_cache.settings import CacheSettings
from embedder_cache.stats import CacheStats, Counters, GenerationStats
from embedder_cache.tier import AskedAt, Lookup, as_half_vectors
from embedder_cache.writer import PutRequest, Writer

_SAMPLES_PART = 64
_UPKEEP_INTERVAL_S = 1.0


class VectorCache:
    """Vectors under content hashes, on the local disk, shared by processes; thread-safe.

    Open it before threads or gRPC objects exist, and never carry it over a fork.
    """

    def __init__(self, path: Path, settings: CacheSettings, *, read_only: bool) -> None:
        """Use `VectorCache.open`."""
        self._path = path
        self._settings = settings
        self._process = os.getpid()
        self._closed = False
        self._counters = Counters()
        self._reporter = DamageReporter()
        self._dims: dict[bytes, int] = {}
        self._sampler = _make_sampler(path, settings)
        self._writer: Writer | None = None
        with ExitStack() as stack:
            if not read_only:
                stack.callback(os.close, lock_for_writing(path))
            self._catalogue = open_catalogue(path, writable=not read_only)
            stack.callback(self._catalogue.close)
            self._generations = Generations(path, self._catalogue, settings, writable=not read_only)
            stack.callback(self._generations.close)
            if self._sampler:
                stack.callback(self._sampler.flush)
            if not read_only:
                self._start_writing(stack)
            self._resources = stack.pop_all()

    def _start_writing(self, stack: ExitStack) -> None:
        settings = self._settings
        self._catalogue.note_settings(settings)
        self._duties = Duties(self._generations, self._catalogue, settings, self._counters)
        self._writer = Writer(
            self._duties,
            max_queue_bytes=settings.max_queue_bytes,
            max_commit_entries=settings.max_commit_entries,
            upkeep_interval_s=min(_UPKEEP_INTERVAL_S, settings.reader_check_interval_s),
        )
        stack.callback(self._writer.close)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], settings: CacheSettings | None = None, *, read_only: bool = False
    ) -> VectorCache:
        """Open the cache in a folder, making it (mode 0700) when this process is to write.

        Args:
            path: the folder.
            settings: how it behaves; the defaults where none are given.
            read_only: whether another process writes.
        Raises:
            CacheLocked: another process writes already.
            CacheDamaged: it is opened for reading, and is not there or can't be read. A writer sets damaged parts aside
                and goes on without them.
        """
        folder = Path(path)
        if not read_only:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
        return cls(folder, settings or CacheSettings(), read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what is queued and let go of all files; closing twice does nothing."""
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        self._resources.close()

    @property
    def path(self) -> Path:
        """The cache's folder."""
        return self._path

    def _guard(self) -> None:
        """Refuse a closed cache and a forked process."""
        if os.getpid() != self._process:
            raise CacheForked("the cache was opened before a fork; open it again in this process")
        if self._closed:
            raise CacheClosed("the cache is closed")

    def _require_writer(self) -> Writer:
        self._guard()
        if self._writer is None:
            raise CacheReadOnly("this process opened the cache for reading")
        return self._writer

    def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
        """Look a batch up.

        Args:
            space: the space of one tenant.
            hashes: n packed content hashes, n * 32 bytes.
        Returns:
            vectors (n, dim) float16, rows of zeros for misses, and found (n,) bool. Every vector that is found
            belongs to its hash and passed its checksum.
        Raises:
            CacheRequestError: the length of `hashes` is not a multiple of 32.
            CacheForked, CacheClosed: this process may not use the cache.
        """
        self._guard()
        keys = pack_keys(space.prefix, hashes)
        if self._writer is None:
            self._generations.refresh()
        asked_at = time.time()
        age = self._settings.time_to_live_s
        generations = self._generations
        scope = ReadScope(generations.live, generations.guide, int(asked_at) - age if age else 0, generations.era)
        read = read_batch(scope, keys, _layout(space.dim))
        self._counters.note(read, int(asked_at))
        if read.damaged or read.unreadable:
            self._reporter.note(read)
        if self._sampler:
            self._sampler.note(keys, now=int(asked_at), record_bytes=_layout(space.dim).record_bytes)
        if read.unreadable and self._writer:
            for sequence in read.unreadable:
                self._writer.call(partial(generations.quarantine, sequence))
        return Lookup(read.vectors, read.found, asked_at)

    def put_many(
        self,
        space: SpaceKey,
        hashes: bytes,
        vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
        *,
        asked_at: AskedAt | None = None,
    ) -> Future[None]:
        """Queue a batch to be stored; a content that is held already keeps its first vector.

        Args:
            space: the space of one tenant.
            hashes: n packed content hashes, n * 32 bytes.
            vectors: (n, dim), finite in float16; copied before this returns.
            asked_at: `Lookup.asked_at` of the lookup that missed, one for all or (n,) float64; what was erased since then is not
                stored. Without it only what was queued before an erasure is held back.
        Returns:
            A future that is done when the batch is committed; it holds CacheWriteFailed when that was not possible.
        Raises:
            CacheRequestError: shapes don't fit, the space has another dim, or a vector is not finite.
            CacheBackpressure: too much waits to be committed; nothing was queued.
            CacheReadOnly, CacheForked, CacheClosed: this process may not write.
        """
        writer = self._require_writer()
        self._check_dim(space)
        keys = pack_keys(space.prefix, hashes)
        halves = as_half_vectors(vectors, count=len(keys), dim=space.dim)
        committed: Future[None] = Future()
        if not len(keys):
            committed.set_result(None)
            return committed
        try:
            writer.put(PutRequest(space, keys, halves, time.time() if asked_at is None else asked_at, committed))
        except CacheBackpressure:
            self._counters.add(refused=len(keys))
            raise
        return committed

    def _check_dim(self, space: SpaceKey) -> None:
        """Refuse a dim that is not the space's: its records could not be erased whole."""
        known = self._dims.get(space.prefix)
        if known is None:
            row = self._catalogue.space(space.prefix)
            known = self._dims[space.prefix] = row.dim if row else space.dim
        if known != space.dim:
            raise CacheRequestError(f"dim={space.dim}; this space has {known}")

    def delete_many(self, space: SpaceKey, hashes: bytes) -> int:
        """Erase contents from all generations, behind all puts that were queued before; waits until it is done.

        Returns:
            How many were held.
        Raises:
            CacheRequestError: the length of `hashes` is not a multiple of 32.
            CacheReadOnly, CacheForked, CacheClosed: this process may not write.
        """
        count_hashes(hashes)
        deleted: int = self._call(lambda: self._duties.eraser.erase_hashes(space.prefix, hashes, dim=space.dim))
        return deleted

    def erase_space(self, space: SpaceKey) -> int:
        """Erase a space of one tenant and forget it; returns how many entries it had."""
        erased: int = self._call(lambda: self._duties.eraser.erase_space(space.prefix))
        return erased

    def erase_domain(self, domain: bytes) -> int:
        """Erase every space of a tenant that was registered with its `domain_id`; returns how many entries it had."""
        erased: int = self._call(lambda: self._duties.eraser.erase_domain(domain.hex()))
        return erased

    def compact(self) -> None:
        """Write every generation anew without what was erased; afterwards no file holds a byte of it."""
        self._call(self._duties.eraser.compact)

    def register_space(self, space: SpaceKey, *, name: str = "", domain: bytes = b"", pinned: bool = False) -> None:
        """Describe a space in the catalogue, so that it can be listed, pinned, and erased with its tenant.

        Args:
            space: the space of one tenant.
            name: for people.
            domain: `domain_id` of the tenant's secret.
            pinned: whether its vectors outlive their generation.
        """
        self._require_writer()
        self._check_dim(space)
        row = SpaceRow(dim=space.dim, name=name, domain=domain.hex(), pinned=pinned)
        self._call(lambda: self._duties.committer.register(space, row))

    def rotate(self) -> None:
        """Begin a new generation now, as when the newest is full."""
        self._call(self._duties.rotate)

    def carry_out(self, request: Request) -> None:
        """Carry a request of a tool out, as the writer does for other processes; waits until it is done."""
        self._call(lambda: self._duties.carry_out(request))

    def spaces(self) -> dict[bytes, SpaceRow]:
        """List the spaces that the store knows, by prefix (16 bytes)."""
        self._guard()
        return self._catalogue.spaces()

    def generations(self) -> tuple[Generation, ...]:
        """Give the live generations, the newest first, for walking through all entries."""
        self._guard()
        if self._writer is None:
            self._generations.refresh()
        return self._generations.live

    def _call(self, run: Any) -> Any:
        return self._require_writer().call(run).result()

    def flush(self) -> None:
        """Wait until everything that was put before is committed, or has failed."""
        self._call(lambda: None)

    def counts(self) -> dict[str, int]:
        """Tell what happened in this process, by the names of `CacheStats`' fields; names that never occurred are left out."""
        return self._counters.snapshot().totals

    def stats(self) -> CacheStats:
        """Count what happened in this process, and measure the store; asks the file system."""
        self._guard()
        if self._writer is None:
            self._generations.refresh()
        counts = self._counters.snapshot()
        generations = tuple(
            GenerationStats(
                generation.sequence,
                len(generation.index),
                generation.file_bytes,
                counts.hits_of.get(generation.sequence, 0),
            )
            for generation in self._generations.live
        )
        return CacheStats(
            entries=sum(generation.entries for generation in generations),
            file_bytes=folder_bytes(self._path),
            max_bytes=self._settings.max_bytes,
            generations=generations,
            quarantined=self._generations.quarantined,
            queued_bytes=self._writer.queued_bytes if self._writer else 0,
            hits_by_age=counts.hits_by_age,
            **counts.totals,
        )


@lru_cache(maxsize=256)
def _layout(dim: int) -> RecordLayout:
    return RecordLayout(dim)


def _make_sampler(path: Path, settings: CacheSettings) -> AccessSampler | None:
    """Prepare the access sample; its files take at most 1/64 of the limit."""
    if not settings.sample_rate:
        return None
    return AccessSampler(path, rate=settings.sample_rate, max_bytes=settings.max_bytes // _SAMPLES_PART)
