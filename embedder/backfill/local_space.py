"""A space in this process: its cache as the one writer, its ledger, and its encoder, which is loaded once something must be computed.

What imports torch is imported then: a job of hits spends no second on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress

from embedder.backfill.encoder_on_demand import EncoderOnDemand
from embedder.backfill.encoding import ComputedBatch, ShardEncoder
from embedder.backfill.pinned_space import PinnedSpace
from embedder.backfill.preparing import ShardPreparer
from embedder.config import ServeSettings
from embedder.encoders.base import Encoder
from embedder.engine.composite_engine import CompositeEngine
from embedder.engine.contents import CallSize, EmbedOptions, Lane
from embedder.engine.cost_model import CostModel
from embedder.engine.engine import Engine
from embedder.errors import ConfigurationError
from embedder.savings.usage import Slice
from embedder.server.accounting import SpaceAccount
from embedder.server.parts import (
    engine_settings,
    media_limits,
    open_cache,
    open_ledger,
    open_shared_cache,
    start_decoder,
    start_video_decoder,
)
from embedder.server.secrets import load_domain_secret
from embedder_cache import CacheBackpressure, CacheLocked, VectorCache, space_key
from embedder_client.content_hash import Modality
from embedder_heads import HeadError
from embedder_heads.fusion.library import FusionLibrary

CLIENT = "backfill"
"""Who asks, in the savings ledger."""

# Nobody waits for a bulk batch: the larger ones that fit the processor's caches, or fill a GPU, beat those that a caller waits for.
_BULK_FACTOR = 4
_DEADLINE_S = 24 * 3_600.0


class LocalSpace:
    """What a job computes with in this process. Thread-safe."""

    def __init__(
        self,
        settings: ServeSettings,
        pinned: PinnedSpace | None,
        *,
        task: str,
        on_encoded: Callable[[int], None] = lambda encodes: None,
        load: Callable[[ServeSettings, ExitStack], Encoder] | None = None,
    ) -> None:
        """Open the cache and the ledger, and where the job is pinned to no space yet, load the encoder.

        Args:
            settings: as the service's, so that the space is the service's.
            pinned: the space that the job was begun in; None for a new job.
            task: what the work is called in the savings ledger.
            on_encoded: is told of contents that the device computed just now, in its thread.
            load: loads the encoder; None loads the one that the settings name, and checks it on its golden items.
        Raises:
            ConfigurationError: something can't be opened, or another process writes to the cache.
        """
        self.settings = settings
        self._task = task
        self._on_encoded = on_encoded
        self._load = load or _load
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._composite: CompositeEngine | None = None
        self._preparer: ShardPreparer | None = None
        self._encoder: ShardEncoder | None = None
        self.cost_model: CostModel | None = None
        self._pinned = pinned
        stack = self._stack
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.cache = _open_cache(settings, stack)
            self.shared = open_shared_cache(settings, stack)
            self.ledger = open_ledger(settings, stack)
            self.account = SpaceAccount(self.ledger, space=settings.space)
            self.model = EncoderOnDemand(self._load_checked)
            stack.callback(self.model.close)
            self.pinned = pinned or PinnedSpace.of(self.model.info)
            secret = load_domain_secret(settings.data_dir, settings.domain_key_file)
            self.key = space_key(secret, bytes.fromhex(self.pinned.digest), self.pinned.dim)
        except BaseException:
            stack.close()
            raise

    def close(self) -> None:
        """Commit what is queued, and let go of everything."""
        self._stack.close()

    @property
    def options(self) -> EmbedOptions:
        """How contents are embedded: as bulk work, and durably."""
        return EmbedOptions(
            deadline=time.monotonic() + _DEADLINE_S, lane=Lane.BULK, durable=True, task=self._task, client=CLIENT
        )

    def preparer(self) -> ShardPreparer:
        """Return what tokenizes and decodes; loads the encoder."""
        with self._lock:
            if self._preparer is None:
                threads = max(self.settings.prepare_threads, self.settings.decode_workers)
                self._preparer = ShardPreparer(self.model, media_limits(self.settings), decode_threads=threads)
                self._stack.callback(self._preparer.close)
            return self._preparer

    def encoder(self) -> ShardEncoder:
        """Return what encodes; loads the encoder."""
        with self._lock:
            if self._encoder is None:
                from embedder.server.metering import open_meter, watch

                meter = open_meter(self.model.info.device)
                watch(self.ledger, meter, self.cache)
                self._encoder = ShardEncoder(
                    self.model, max_batch_units=max_batch_units(self.settings), cost_model=self.cost_model, meter=meter
                )
            return self._encoder

    def composite(self) -> CompositeEngine:
        """Return what makes posts and videos of their parts; loads the encoder."""
        with self._lock:
            if self._composite is None:
                self._composite = self._open_composite()
            return self._composite

    def store(self, batch: ComputedBatch) -> Future[None]:
        """Begin to commit a batch, and count it in the ledger."""
        encodes = len(batch.vectors)
        self.account.record_encodes(self.options, encodes=encodes, usage=batch.usage)
        self._on_encoded(encodes)
        if self.shared is not None:
            with suppress(CacheBackpressure):  # best effort: another machine computes it for itself
                self.shared.put_many(self.key, batch.hashes, batch.vectors, asked_at=batch.asked_at)
        try:
            return self.cache.put_many(self.key, batch.hashes, batch.vectors, asked_at=batch.asked_at)
        except CacheBackpressure:
            self.cache.flush()
            return self.cache.put_many(self.key, batch.hashes, batch.vectors, asked_at=batch.asked_at)

    def estimate(self, size: CallSize) -> float:
        """Return the device seconds of so much, had it all been encoded, estimated; 0 while nothing was measured here."""
        return 0.0 if self.cost_model is None else self.cost_model.call_seconds(size)

    def mean_encode_s(self) -> float:
        """Return the mean device seconds of an encode in this space, by the ledger; 0 where none was measured."""
        counts = self.ledger.totals(Slice(space=self.settings.space)).get(())
        return 1e-9 * counts.device_ns / counts.encodes if counts and counts.encodes else 0.0

    def _load_checked(self) -> Encoder:
        encoder = self._load(self.settings, self._stack)
        if self._pinned is not None:
            try:
                self._pinned.check(encoder.info)
            except ConfigurationError:
                encoder.close()
                raise
        self.cost_model = engine_settings(self.settings).make_cost_model(encoder.info)
        return encoder

    def _open_composite(self) -> CompositeEngine:
        from embedder.engine.warm_up import warm_up
        from embedder.server.compose import open_composites
        from embedder.server.metering import open_meter

        settings, stack = self.settings, self._stack
        engine = Engine(
            self.model,
            cache=self.cache,
            space=self.key,
            ledger=self.account,
            settings=engine_settings(settings),
            meter=open_meter(self.model.info.device),
            shared=self.shared,
        )
        stack.callback(engine.close)
        warm_up(self.model, engine.cost_model)
        try:
            fusions = FusionLibrary(settings.fusions_path)
        except (HeadError, OSError) as error:
            raise ConfigurationError(f"the fusions can't be opened: {error}") from error
        decoder = start_video_decoder(settings, stack)
        return open_composites(
            settings,
            stack,
            engine,
            encoder=self.model,
            cache=self.cache,
            shared=self.shared,
            decoder=decoder,
            fusions=fusions,
        )


def max_batch_units(settings: ServeSettings) -> dict[Modality, float]:
    """Return the budget of one batch by medium."""
    return {modality: _BULK_FACTOR * units for modality, units in engine_settings(settings).max_batch_units.items()}


def _open_cache(settings: ServeSettings, stack: ExitStack) -> VectorCache:
    try:
        return open_cache(settings, stack)
    except ConfigurationError as error:
        if isinstance(error.__cause__, CacheLocked):
            raise ConfigurationError(
                f"another process writes to the cache in {settings.cache_path}, and a cache has one writer: if it is a running "
                "embedder-serve, let it do the work with --target ADDRESS"
            ) from error
        raise


def _load(settings: ServeSettings, stack: ExitStack) -> Encoder:
    from embedder.server.encoder_opening import open_encoder  # imports torch, which takes seconds

    return open_encoder(settings, start_decoder(settings, stack))
