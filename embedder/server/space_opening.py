"""Opens one space: its encoder, warm and checked, its engine, and posts and videos above it; and takes it down again."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event

import structlog

from embedder.config import ServeSettings
from embedder.encoders.device_clock import device_name
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.engine.engine import Engine
from embedder.engine.warm_up import warm_up
from embedder.media.decoding.job import Decoder
from embedder.savings.ledger import Ledger
from embedder.savings.meter import Meter
from embedder.server.accounting import SpaceAccount
from embedder.server.compose import open_composites
from embedder.server.encoder_opening import open_encoder
from embedder.server.metering import helper_threads, open_meter
from embedder.server.parts import engine_settings
from embedder.server.secrets import load_domain_secret
from embedder.server.spaces import ServedSpace
from embedder.spaces.document import SpaceRow
from embedder.telemetry.observer import ServiceObserver
from embedder_cache import VectorCache, space_key
from embedder_cache.valkey_tier import ValkeyTier
from embedder_heads import HeadRuntime
from embedder_heads.fusion.library import FusionLibrary

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What every space of a service stands on.

    Attributes:
        settings: the service's.
        cache: holds the vectors of every space, each in its own key range.
        shared: the tier that several machines share, if there is one.
        ledger: counts what is computed.
        decoder: decodes images.
        video_decoder: decodes videos.
        heads: the heads, which bridges are served to.
        fusions: the trained fusions.
        observer: is told what engines do.
    """

    settings: ServeSettings
    cache: VectorCache
    shared: ValkeyTier | None
    ledger: Ledger
    decoder: Decoder
    video_decoder: Decoder
    heads: HeadRuntime
    fusions: FusionLibrary
    observer: ServiceObserver


@dataclass(slots=True, eq=False)
class OpenSpace:
    """A space that is open in this process.

    Attributes:
        served: what calls hold while they are answered from it; None once it is being closed.
        meter: measures its batches.
        processor: what its device calls itself.
    """

    served: ServedSpace | None
    meter: Meter
    processor: str
    _stack: ExitStack
    _is_free: Event = field(default_factory=Event)

    def __post_init__(self) -> None:
        weakref.finalize(self.served, self._is_free.set)

    def close(self, *, patience_s: float) -> None:
        """Let go of the space, wait until no call holds it any more, and close what it is made of.

        Args:
            patience_s: how long calls are waited for; those that have not ended then are answered UNAVAILABLE.
        """
        assert self.served is not None
        name, self.served = self.served.name, None
        if not self._is_free.wait(patience_s):
            _log.warning("a space is closed while a call still holds it", space=name, waited_s=patience_s)
        self._stack.close()


def open_space(row: SpaceRow, parts: SharedParts) -> OpenSpace:
    """Load a space's encoder, check and warm it, and start its engine.

    Raises:
        ConfigurationError: it can't be loaded, or it fails its golden items; nothing of it is left open.
    """
    settings = parts.settings.model_copy(
        update={"space": row.name, "model": row.model, "precision": row.precision}  # the rest is the service's
    )
    with ExitStack() as stack:
        others = helper_threads()
        encoder = open_encoder(settings, parts.decoder)
        stack.callback(encoder.close)
        meter = open_meter(encoder.info.device, helper_threads() - others)
        engine = _open_engine(settings, parts, encoder, meter)
        stack.callback(engine.close)
        warm_up(encoder, engine.cost_model)
        composite = open_composites(
            settings,
            stack,
            engine,
            encoder=encoder,
            cache=parts.cache,
            shared=parts.shared,
            decoder=parts.video_decoder,
            fusions=parts.fusions,
        )
        processor = device_name(encoder.info.device)
        return OpenSpace(ServedSpace(row.name, composite), meter, processor, stack.pop_all())


def _open_engine(settings: ServeSettings, parts: SharedParts, encoder: TowerEncoder, meter: Meter) -> Engine:
    return Engine(
        encoder,
        cache=parts.cache,
        space=space_key(
            load_domain_secret(settings.data_dir, settings.domain_key_file), encoder.info.space_digest, encoder.info.dim
        ),
        ledger=SpaceAccount(parts.ledger, space=settings.space),
        settings=engine_settings(settings),
        meter=meter,
        shared=parts.shared,
        observer=parts.observer.of_space(settings.space),
    )
