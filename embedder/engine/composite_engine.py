"""The engine as the services see it: contents of one medium as they are, and posts and videos made from their parts.

Posts and videos are looked up whole first, then their parts, so that a known whole costs one read, and a changed title one encode.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from embedder.encoders.base import EncoderInfo, Preparing
from embedder.engine.composite_parts import Wholes
from embedder.engine.composite_ticket import CompositeTicket
from embedder.engine.contents import (
    CallSize,
    CompositeOptions,
    ContentItem,
    Contents,
    EmbedOptions,
    EmbedOutcome,
    Lane,
    Source,
)
from embedder.engine.cost_model import CostModel
from embedder.engine.fusion import MEAN, Fusion, Fusions, MeanFusion
from embedder.engine.lookup_engine import Asked, LookupEngine, contents_of
from embedder.engine.ticket import Ticket
from embedder.engine.video_encoder import VideoEncoder, VideoSettings
from embedder.errors import ContentNotCached, LimitExceeded
from embedder.media.decoding.job import Decoder
from embedder_cache import CacheTier, Lookup, SpaceKey
from embedder_client.content_hash import HASH_BYTES, Modality

AnyTicket = Ticket | CompositeTicket

POOLING_VERSION = 1
"""Raised whenever the same frames or fields give another vector than before."""


@dataclass(frozen=True, slots=True)
class PostSettings:
    """How posts are fused unless a call says otherwise.

    Attributes:
        fusion: `mean`, or the reference of a trained fusion.
        field_weights: weights of the mean, by field name.
        max_fields: most fields of one post.
    """

    fusion: str = MEAN
    field_weights: Mapping[str, float] = field(default_factory=dict)
    max_fields: int = 32


@dataclass(frozen=True, slots=True)
class Parts:
    """What a composite engine stands on.

    Attributes:
        encoder: brings frames to the model's size.
        cache: holds the vectors of wholes beside those of parts. This machine's alone: a call is never held up by another's, and a
            whole that only another machine knows is made again from its parts, which the engine does ask for there.
        every_tier: what is erased is erased from.
        decoder: runs the decode jobs.
        fusions: the trained fusions.
        key_of: key range of a space digest, for the engine's domain.
    """

    encoder: Preparing
    cache: CacheTier
    every_tier: CacheTier
    decoder: Decoder
    fusions: Fusions
    key_of: Callable[[bytes], SpaceKey]


class CompositeEngine:
    """An engine that also understands posts and videos. Thread-safe; what holds neither passes through untouched."""

    def __init__(self, engine: LookupEngine, parts: Parts, *, videos: VideoSettings, posts: PostSettings) -> None:
        self.info: EncoderInfo = engine.info
        self.cost_model: CostModel = engine.cost_model
        self._engine = engine
        self._parts = parts
        self._posts = posts
        self._mean = MeanFusion(posts.field_weights)
        self._video_identity = videos.sampling.identity
        self._videos = VideoEncoder(
            engine,
            parts.encoder,
            cache=parts.cache,
            space=parts.key_of(self._digest("video")),
            decoder=parts.decoder,
            settings=videos,
        )

    @property
    def space(self) -> SpaceKey:
        """The key range of contents of one medium."""
        return self._engine.space

    @property
    def in_flight(self) -> int:
        """Number of contents that are being computed or committed."""
        return self._engine.in_flight

    @property
    def has_shared_tier(self) -> bool:
        """Whether a look-up may wait for another machine."""
        return self._engine.has_shared_tier

    def queued_s(self, lane: Lane) -> float:
        """Estimated device seconds of admitted, unanswered work in a lane."""
        return self._engine.queued_s(lane)

    def lookup(self, hashes: bytes, options: EmbedOptions) -> tuple[Lookup, EmbedOutcome]:
        """Read vectors by content hash, those of posts and videos too, without computing any; see `Engine.lookup`."""
        found, outcome = self._engine.lookup(hashes, options)
        if found.found.all():
            return found, outcome
        start = time.perf_counter()
        packed = np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)  # (n, 32)
        vectors, is_found = found.vectors.copy(), found.found.copy()
        sources = is_found.astype(np.uint8)
        sources[is_found] = outcome.sources
        for space in self._wholes(options.composite).spaces:
            left = np.flatnonzero(~is_found)
            again = self._parts.cache.get_many(space, packed[left].tobytes())
            vectors[left[again.found]] = again.vectors[again.found]
            is_found[left[again.found]] = True
            sources[left[again.found]] = Source.CACHE
        outcome.timings.lookup_s += time.perf_counter() - start
        return Lookup(vectors, is_found, found.asked_at), replace(
            outcome,
            vectors=vectors[is_found],
            sources=sources[is_found],
            unshared_seconds=self.cost_model.call_seconds(CallSize(unknown=int(is_found.sum()))),
        )

    def embed(self, items: Sequence[ContentItem] | Contents, options: EmbedOptions) -> EmbedOutcome:
        """Return the vectors of a call's contents; see `Engine.embed`."""
        ticket = self.start(items, options)
        ticket.wait()
        return self.outcome(ticket, items)

    def start(self, items: Sequence[ContentItem] | Contents, options: EmbedOptions) -> AnyTicket:
        """Look a call's contents up, and start computing what is missing.

        Raises:
            Overloaded: what is missing could not be computed in time; nothing was queued.
            Unavailable: the engine is closed.
            InvalidRequest, HeadNotFound, HeadSpaceMismatch: the call's fusion is none.
        """
        contents = contents_of(items)
        if _is_composite(contents, options):
            return CompositeTicket(
                [self._checked(contents[row]) for row in range(len(contents))],
                options,
                engine=self._engine,
                videos=self._videos,
                wholes=self._wholes(options.composite),
            )
        return self._engine.start(contents, options)

    def ask(self, items: Sequence[ContentItem] | Contents, options: EmbedOptions) -> Asked | None:
        """Look up a call's contents of one medium and begin nothing else; None where some are posts or videos. See `Engine.ask`."""
        contents = contents_of(items)
        return None if _is_composite(contents, options) else self._engine.ask(contents, options)

    def proceed(self, asked: Asked) -> Ticket:
        """Start computing what a look-up did not find; see `start`."""
        return self._engine.proceed(asked)

    def is_full(self, options: EmbedOptions) -> bool:
        """Whether a call's lane has so much work queued that the least more would be refused."""
        return self._engine.is_full(options)

    def outcome(self, ticket: AnyTicket, items: Sequence[ContentItem] | Contents) -> EmbedOutcome:
        """Read a ticket whose rows are all answered."""
        if isinstance(ticket, CompositeTicket):
            return ticket.outcome()
        contents = contents_of(items)
        # Asked by hash alone, and of no single medium: perhaps a post or a video.
        unknown = [index for index, error in ticket.failures.items() if isinstance(error, ContentNotCached)]
        if unknown:
            self._answer_wholes(ticket, contents, unknown)
        return self._engine.outcome(ticket, contents)

    def erase(self, hashes: bytes) -> int:
        """Erase contents by hash: of one medium, and posts and videos as any served fusion makes them; returns how many were held.

        A video's frames go with it where its timeline is held; the fields of a post are contents of their own, and stay.
        """
        tiers = self._parts.every_tier
        frames = b"".join(
            timeline.hashes
            for start in range(0, len(hashes), HASH_BYTES)
            if (timeline := self._videos.timelines.pop(hashes[start : start + HASH_BYTES])) is not None
        )
        if frames:
            tiers.delete_many(self.space, frames)
        fusions = [self._mean, *self._parts.fusions.of_space(self.info.space_digest)]
        spaces = [self.space, self._videos.space, *map(self._post_space, fusions)]
        return sum(tiers.delete_many(space, hashes) for space in spaces)

    def close(self) -> None:
        """Let running videos end, and start no other; the engine is closed apart, after it."""
        self._videos.close()

    def _checked(self, item: ContentItem) -> ContentItem:
        """Hold a post against its limit."""
        limit = self._posts.max_fields
        if item.modality is not Modality.POST or not isinstance(item.payload, tuple) or len(item.payload) <= limit:
            return item
        given = len(item.payload)
        message = f"max_post_fields={limit}, and {given} were given"
        return replace(item, error=LimitExceeded(message, field="max_post_fields", limit=limit, given=given))

    def _answer_wholes(self, ticket: Ticket, items: Contents, indices: Sequence[int]) -> None:
        for space in self._wholes(ticket.options.composite).spaces:
            if not indices:
                return
            held = self._parts.cache.get_many(space, b"".join([items[index].content_hash for index in indices]))
            for row, index in enumerate(indices):
                if held.found[row]:
                    ticket.vectors[index] = held.vectors[row]
                    ticket.sources[index] = Source.CACHE
                    del ticket.failures[index]
            indices = [index for row, index in enumerate(indices) if not held.found[row]]

    def _wholes(self, options: CompositeOptions) -> Wholes:
        """Return how a call's wholes are fused and where they are kept."""
        fusion = self._fusion(options)
        # Weights of one call alone would fill the cache with what nobody asks for again, and no deletion could find.
        post_space = None if options.field_weights is not None else self._post_space(fusion)
        return Wholes(self._parts.cache, fusion, post_space, self._videos.space)

    def _fusion(self, options: CompositeOptions) -> Fusion:
        if options.field_weights is not None:
            return MeanFusion(options.field_weights)
        name = options.fusion or self._posts.fusion
        return self._mean if name == MEAN else self._parts.fusions.resolve(name, self.info.space_digest)

    def _post_space(self, fusion: Fusion) -> SpaceKey:
        return self._parts.key_of(self._digest("post", fusion.identity))

    def _digest(self, kind: str, *identity: str) -> bytes:
        """Name the space of one kind of whole: 32 bytes over what its parts' vectors are, and how it is made of them."""
        parts: Iterable[object] = (
            "embedder.v1",
            kind,
            POOLING_VERSION,
            self.info.space_digest.hex(),
            self._video_identity,
            *identity,
        )
        return hashlib.sha256(json.dumps(list(parts), separators=(",", ":")).encode()).digest()


def _is_composite(contents: Contents, options: EmbedOptions) -> bool:
    return contents.has_composites or options.composite.segment_s is not None
