"""The parts of one call with posts or videos: what is held whole, what is started for the rest, and what each content came to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from embedder.engine.contents import (
    COMPOSITES,
    ContentItem,
    EmbedOptions,
    EmbedOutcome,
    HalfVectors,
    PostField,
    Segments,
    Source,
)
from embedder.engine.fusion import Fusion
from embedder.engine.lookup_engine import LookupEngine
from embedder.engine.ticket import Ticket
from embedder.engine.timeline import cut
from embedder.engine.video_encoder import EncodedVideo, VideoEncoder, VideoFlight, store
from embedder.errors import ContentNotCached, DeadlineExpired, EmbedderError
from embedder_cache import CacheTier, SpaceKey
from embedder_client.content_hash import Modality

_FRAME = ContentItem(b"", Modality.IMAGE, b"")


@dataclass(frozen=True, slots=True)
class Wholes:
    """How a call's posts are fused, and where posts and videos are kept whole.

    Attributes:
        cache: holds them.
        fusion: fuses posts.
        post_space: key range of posts by this fusion; None where they are not kept.
        video_space: key range of videos.
    """

    cache: CacheTier
    fusion: Fusion
    post_space: SpaceKey | None
    video_space: SpaceKey

    @property
    def spaces(self) -> list[SpaceKey]:
        """The key ranges in which a hash alone may name a whole."""
        return [self.video_space, *([self.post_space] if self.post_space is not None else [])]


@dataclass(slots=True)
class Answer:
    """What became of one content, or of one field of a post.

    Attributes:
        vector: (dim,) float16; None where it failed.
        source: where it came from; a whole that was made anew has the dearest source of its parts.
        error: why it failed.
        counted: sources of what the ledger counts for it.
        hashes: and their content hashes, packed.
        costs: the contents that would have been encoded without sharing.
        segments: of a video, where they were wanted.
    """

    vector: HalfVectors | None
    source: Source
    error: EmbedderError | None = None
    counted: list[int] = field(default_factory=list)
    hashes: bytes = b""
    costs: list[ContentItem] = field(default_factory=list)
    segments: Segments | None = None


class CompositeParts:
    """The contents of one call, taken apart: wholes are looked up first, then all that is missing is started together.

    Attributes:
        ticket: what the contents of one medium, and such fields, wait for; None where there are none.
        flights: the videos that are being encoded, by content hash.
        stored: what was handed to the cache for a durable call, by content hash.
        lookup_s: seconds of looking wholes up.
    """

    def __init__(
        self,
        items: Sequence[ContentItem],
        options: EmbedOptions,
        *,
        engine: LookupEngine,
        videos: VideoEncoder,
        wholes: Wholes,
    ) -> None:
        """Look wholes up, then start their parts; raises Overloaded before anything was queued."""
        self.options = options
        self.stored: dict[bytes, Future[None]] = {}
        self._items = items
        self._engine = engine
        self._videos = videos
        self._wholes = wholes
        self._asked_at = time.time()
        start = time.perf_counter()
        self._held = self._look_up(list(self._top(Modality.VIDEO)), wholes.video_space)
        if wholes.post_space is not None:
            self._held |= self._look_up(list(self._top(Modality.POST)), wholes.post_space)
        open_posts = [item for item in self._top(Modality.POST) if item.content_hash not in self._held]
        fields = [post_field.item for item in open_posts for post_field in _fields(item)]
        in_posts = [item for item in fields if item.modality in (Modality.VIDEO, None) and item.error is None]
        self._held |= self._look_up(in_posts, wholes.video_space)
        self.lookup_s = time.perf_counter() - start
        self._parts = self._unique((*items, *fields))
        self._rows = {item.content_hash: row for row, item in enumerate(self._parts)}
        self.ticket: Ticket | None = engine.start(self._parts, options) if self._parts else None
        self.flights: dict[bytes, VideoFlight] = {}
        self._own: set[bytes] = set()
        try:
            self.flights = self._start_videos(in_posts)
        except EmbedderError:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Stop waiting for what is no video; a video that is under way is finished for whoever asks next."""
        if self.ticket is not None:
            self.ticket.abandon()

    def outcome(self) -> EmbedOutcome | None:
        """Return what the parts of one medium came to; None where there are none."""
        return None if self.ticket is None else self._engine.outcome(self.ticket, self._parts)

    def encoded_videos(self) -> list[EncodedVideo]:
        """Return the videos that were encoded for this call; those that it joined are another's."""
        futures = [self.flights[content_hash].future for content_hash in self._own]
        return [future.result() for future in futures if future.done() and future.exception() is None]

    def answers(self, parts: EmbedOutcome | None) -> list[Answer]:
        """Fuse the posts and hand them to the cache; returns what each content of the call came to."""
        return [self._answer(item, parts, segments=self._wants_segments) for item in self._items]

    def _top(self, modality: Modality) -> Iterator[ContentItem]:
        return (item for item in self._items if item.modality is modality and item.error is None)

    def _look_up(self, items: Sequence[ContentItem], space: SpaceKey) -> dict[bytes, HalfVectors]:
        """Read wholes; returns the vectors of those that are held, by content hash."""
        if not items:
            return {}
        found = self._wholes.cache.get_many(space, b"".join([item.content_hash for item in items]))
        return {item.content_hash: found.vectors[row] for row, item in enumerate(items) if found.found[row]}

    def _unique(self, items: Sequence[ContentItem]) -> list[ContentItem]:
        """Return the parts to ask the engine for: each content once, and none that is held whole or carries an error."""
        unique: dict[bytes, ContentItem] = {}
        for item in items:
            if item.modality in COMPOSITES or item.error is not None or item.content_hash in self._held:
                continue
            if item.payload is not None or item.content_hash not in unique:  # a hash may stand beside what it names
                unique[item.content_hash] = item
        return list(unique.values())

    def _start_videos(self, in_posts: Sequence[ContentItem]) -> dict[bytes, VideoFlight]:
        """Start the videos that are not held whole, and those whose segments are wanted and not known."""
        wanted: dict[bytes, ContentItem] = {}
        for item in self._top(Modality.VIDEO):
            if item.content_hash not in self._held or (self._wants_segments and not self._knows_frames(item)):
                wanted[item.content_hash] = item
        for item in in_posts:
            if item.modality is Modality.VIDEO and item.content_hash not in self._held:
                wanted[item.content_hash] = item
        if not wanted:
            return {}
        flights = self._videos.start(list(wanted.values()), self.options)
        # A flight that another call opened is that call's cost.
        self._own = {
            item.content_hash for item, flight in zip(wanted.values(), flights, strict=True) if flight.item is item
        }
        return dict(zip(wanted, flights, strict=True))

    @property
    def _wants_segments(self) -> bool:
        return self.options.composite.segment_s is not None

    def _knows_frames(self, item: ContentItem) -> bool:
        return self._videos.frames_of(item.content_hash) is not None

    def _answer(self, item: ContentItem, parts: EmbedOutcome | None, *, segments: bool = False) -> Answer:
        answer = Answer(None, Source.FAILED, item.error) if item.error else self._made(item, parts, segments)
        if answer.error is not None and not answer.counted:
            answer.counted, answer.hashes = [Source.FAILED], item.content_hash
        return answer

    def _made(self, item: ContentItem, parts: EmbedOutcome | None, segments: bool) -> Answer:
        try:
            if item.modality is Modality.POST:
                return self._post(item, parts)
            if item.modality is Modality.VIDEO or (item.modality is None and item.content_hash in self._held):
                return self._video(item, segments)
            answer = self._part(item, parts)
            if item.modality is None and isinstance(answer.error, ContentNotCached):
                return self._by_hash(item, answer, segments)
            return answer
        except EmbedderError as error:
            return Answer(None, Source.FAILED, error)

    def _part(self, item: ContentItem, parts: EmbedOutcome | None) -> Answer:
        assert parts is not None
        row = self._rows[item.content_hash]
        if (error := parts.failures.get(row)) is not None:
            return Answer(None, Source.FAILED, error)
        source = Source(int(parts.sources[row]))
        return Answer(parts.vectors[row], source, None, [source], item.content_hash, [item])

    def _by_hash(self, item: ContentItem, answer: Answer, segments: bool) -> Answer:
        """Answer a hash that names no content of one medium: a video or a post perhaps."""
        held = self._look_up([item], self._wholes.video_space)
        if held:
            self._held |= held
            return self._video(item, segments)
        held = self._look_up([item], self._wholes.post_space) if self._wholes.post_space is not None else {}
        return self._whole(item, held[item.content_hash], [item]) if held else answer

    def _video(self, item: ContentItem, segments: bool) -> Answer:
        flight = self.flights.get(item.content_hash)
        if flight is None:
            answer = self._whole(item, self._held[item.content_hash], [_FRAME])
            if segments:
                known = self._videos.frames_of(item.content_hash)
                if known is None:
                    raise ContentNotCached("the video's segments are not known here any more; send the video itself")
                answer.segments = cut(*known, segment_s=self._segment_s)
                answer.costs = [_FRAME] * len(known[1])
            return answer
        encoded = _result(flight)
        sources = encoded.sources.tolist()
        if item.content_hash not in self._own:
            sources = [int(Source.IN_FLIGHT) if source == Source.COMPUTED else source for source in sources]
        answer = Answer(
            encoded.vector,
            Source(_dearest(sources)),
            counted=sources,
            hashes=encoded.timeline.hashes,
            costs=[_FRAME] * len(sources),
        )
        if self.options.durable:
            self.stored[item.content_hash] = encoded.stored
        if segments:
            answer.segments = cut(encoded.timeline, encoded.frames, segment_s=self._segment_s)
        return answer

    @property
    def _segment_s(self) -> float:
        return self.options.composite.segment_s or self._videos.settings.segment_s

    def _whole(self, item: ContentItem, vector: HalfVectors, costs: list[ContentItem]) -> Answer:
        return Answer(vector, Source.CACHE, None, [Source.CACHE], item.content_hash, costs)

    def _post(self, item: ContentItem, parts: EmbedOutcome | None) -> Answer:
        fields = _fields(item)
        held = self._held.get(item.content_hash)
        if held is not None:
            return self._whole(item, held, [post_field.item for post_field in fields])
        made = [self._answer(post_field.item, parts) for post_field in fields]
        whole = Answer(None, Source.FAILED)
        for answer in made:
            whole.counted += answer.counted
            whole.hashes += answer.hashes
            whole.costs += answer.costs
        bad = [
            (post_field.name, answer.error)
            for post_field, answer in zip(fields, made, strict=True)
            if answer.error is not None
        ]
        if bad:
            name, error = bad[0]
            whole.error = error.in_post_field(name)
            return whole
        vectors = np.stack([answer.vector for answer in made if answer.vector is not None]).astype(np.float32)
        fused = self._wholes.fusion.fuse([post_field.name for post_field in fields], vectors)
        whole.vector = fused.astype(np.float16)
        whole.source = Source(_dearest([answer.source for answer in made]))
        if self._wholes.post_space is not None:
            stored = store(
                self._wholes.cache, self._wholes.post_space, item.content_hash, whole.vector, asked_at=self._asked_at
            )
            if self.options.durable:
                self.stored[item.content_hash] = stored
        return whole


def _fields(item: ContentItem) -> tuple[PostField, ...]:
    assert isinstance(item.payload, tuple)
    return item.payload


def _result(flight: VideoFlight) -> EncodedVideo:
    if not flight.future.done():
        raise DeadlineExpired("the call ended before the video was decoded and encoded")
    return flight.future.result()


_COST_ORDER: Callable[[int], int] = {
    int(Source.CACHE): 0,
    int(Source.SHARED_CACHE): 1,
    int(Source.IN_FLIGHT): 2,
    int(Source.COMPUTED): 3,
}.__getitem__


def _dearest(sources: Sequence[int]) -> int:
    return max(sources, key=_COST_ORDER)
