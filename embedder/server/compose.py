"""Posts and videos above an engine, as the settings ask; needs no model, and stands above an engine in whichever process."""

from __future__ import annotations

from contextlib import ExitStack

from embedder.config import ServeSettings
from embedder.encoders.base import Preparing
from embedder.engine.composite_engine import CompositeEngine, Parts, PostSettings, whole_digest
from embedder.engine.fusion import MEAN, Fusion, MeanFusion
from embedder.engine.lookup_engine import LookupEngine
from embedder.engine.transport.remote_cache import RemoteCache
from embedder.engine.video_flight import VideoSettings
from embedder.errors import ConfigurationError
from embedder.media.decoding.job import Decoder
from embedder.media.frame_sampling import FrameSampling
from embedder.server.parts import media_limits
from embedder.server.secrets import load_domain_secret
from embedder.server.uploads import Uploads
from embedder_cache import CacheTier, SpaceKey, VectorCache, space_key
from embedder_cache.tiered import TieredCache
from embedder_heads import HeadError
from embedder_heads.fusion.library import FusionLibrary


def open_composites(
    settings: ServeSettings,
    stack: ExitStack,
    engine: LookupEngine,
    *,
    encoder: Preparing,
    cache: VectorCache | RemoteCache,
    shared: CacheTier | None,
    decoder: Decoder,
    fusions: FusionLibrary,
) -> CompositeEngine:
    """Stand posts and videos above an engine.

    Args:
        encoder: brings frames to the model's size.
        decoder: runs the decode jobs of videos.
    Raises:
        ConfigurationError: the fusion that the settings name can't be used.
    """
    secret, info = load_domain_secret(settings.data_dir, settings.domain_key_file), engine.info
    parts = Parts(
        encoder=encoder,
        cache=cache,
        every_tier=cache if shared is None else TieredCache(cache, shared),
        decoder=decoder,
        fusions=fusions,
        key_of=lambda digest: space_key(secret, digest, info.dim),
    )
    composite = CompositeEngine(engine, parts, videos=_video_settings(settings), posts=_post_settings(settings))
    stack.callback(composite.close)
    _check_fusion(settings, fusions, info.space_digest)
    return composite


def every_key(settings: ServeSettings, space_digest: bytes, dim: int, fusions: FusionLibrary) -> list[SpaceKey]:
    """Return the key ranges of a space: of contents of one medium, and of clips and posts as these settings and any fusion make them."""
    secret = load_domain_secret(settings.data_dir, settings.domain_key_file)
    video_identity = _video_settings(settings).sampling.identity
    made: list[Fusion] = [MeanFusion(settings.post_field_weights), *fusions.of_space(space_digest)]
    digests = [
        space_digest,
        whole_digest("video", space_digest, video_identity),
        *(whole_digest("post", space_digest, video_identity, fusion.identity) for fusion in made),
    ]
    return [space_key(secret, digest, dim) for digest in digests]


def open_uploads(settings: ServeSettings) -> Uploads:
    """Return where contents over the message limit are gathered."""
    return Uploads(
        limits=media_limits(settings),
        folder=settings.data_dir,
        max_uploads=settings.max_uploads,
        memory_bytes=settings.upload_memory_bytes,
    )


def _video_settings(settings: ServeSettings) -> VideoSettings:
    return VideoSettings(
        sampling=FrameSampling(
            settings.video_sampling, settings.video_frames_per_second, settings.video_scene_threshold
        ),
        limits=media_limits(settings),
        workers=settings.video_workers,
        max_waiting=settings.max_waiting_videos,
        segment_s=settings.video_segment_seconds,
    )


def _post_settings(settings: ServeSettings) -> PostSettings:
    return PostSettings(settings.post_fusion, settings.post_field_weights, settings.max_post_fields)


def _check_fusion(settings: ServeSettings, fusions: FusionLibrary, space_digest: bytes) -> None:
    """Say at the start that posts could not be fused, not at the first post."""
    try:
        if settings.post_fusion != MEAN:
            fusions.resolve(settings.post_fusion, space_digest)
    except HeadError as error:
        raise ConfigurationError(f"post_fusion={settings.post_fusion!r} can't be used: {error}") from error
