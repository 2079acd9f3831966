"""The parts of one call with posts or videos: what is held whole, and what is started for the rest."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from embedder.engine.contents import (
    COMPOSITES,
    ContentItem,
    EmbedOptions,
    EmbedOutcome,
    HalfVectors,
    PostField,
)
from embedder.engine.lookup_engine import LookupEngine
from embedder.engine.ticket import Ticket
from embedder.engine.video_encoder import VideoEncoder
from embedder.engine.video_flight import EncodedVideo, VideoFlight
from embedder.engine.wholes import Wholes
from embedder.errors import EmbedderError
from embedder_cache import SpaceKey
from embedder_client.content_hash import Modality


class CompositeParts:
    """The contents of one call, taken apart: wholes are looked up first, then all that is missing is started together.

    Attributes:
        ticket: what the contents of one medium, and such fields, wait for; None where there are none.
        row_of: which of the ticket's rows each of those has, by content hash.
        held: the vectors of wholes that are held, by content hash.
        flights: the videos that are being encoded, by content hash.
        own: those of them that this call opened; the others it joined, and another call bears their cost.
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
        self._items = items
        self._engine = engine
        self._videos = videos
        self._wholes = wholes
        start = time.perf_counter()
        self.held = self.look_up(list(self._top(Modality.VIDEO)), wholes.video_space)
        if wholes.post_space is not None:
            self.held |= self.look_up(list(self._top(Modality.POST)), wholes.post_space)
        open_posts = [item for item in self._top(Modality.POST) if item.content_hash not in self.held]
        fields = [post_field.item for item in open_posts for post_field in fields_of(item)]
        in_posts = [item for item in fields if item.modality in (Modality.VIDEO, None) and item.error is None]
        self.held |= self.look_up(in_posts, wholes.video_space)
        self.lookup_s = time.perf_counter() - start
        self._parts = self._unique((*items, *fields))
        self.row_of = {item.content_hash: row for row, item in enumerate(self._parts)}
        self.ticket: Ticket | None = engine.start(self._parts, options) if self._parts else None
        self.flights: dict[bytes, VideoFlight] = {}
        self.own: set[bytes] = set()
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
        futures = [self.flights[content_hash].future for content_hash in self.own]
        return [future.result() for future in futures if future.done() and future.exception() is None]

    def look_up(self, items: Sequence[ContentItem], space: SpaceKey) -> dict[bytes, HalfVectors]:
        """Read wholes; returns the vectors of those that are held, by content hash."""
        if not items:
            return {}
        found = self._wholes.cache.get_many(space, b"".join([item.content_hash for item in items]))
        return {item.content_hash: found.vectors[row] for row, item in enumerate(items) if found.found[row]}

    def _top(self, modality: Modality) -> Iterator[ContentItem]:
        return (item for item in self._items if item.modality is modality and item.error is None)

    def _unique(self, items: Sequence[ContentItem]) -> list[ContentItem]:
        """Return the parts to ask the engine for: each content once, and none that is held whole or carries an error."""
        unique: dict[bytes, ContentItem] = {}
        for item in items:
            if item.modality in COMPOSITES or item.error is not None or item.content_hash in self.held:
                continue
            if item.payload is not None or item.content_hash not in unique:  # a hash may stand beside what it names
                unique[item.content_hash] = item
        return list(unique.values())

    def _start_videos(self, in_posts: Sequence[ContentItem]) -> dict[bytes, VideoFlight]:
        """Start the videos that are not held whole, and those whose segments are wanted and not known."""
        wanted: dict[bytes, ContentItem] = {}
        for item in self._top(Modality.VIDEO):
            if item.content_hash not in self.held or (self._wants_segments and not self._knows_frames(item)):
                wanted[item.content_hash] = item
        for item in in_posts:
            if item.modality is Modality.VIDEO and item.content_hash not in self.held:
                wanted[item.content_hash] = item
        if not wanted:
            return {}
        flights = self._videos.start(list(wanted.values()), self.options)
        # A flight that another call opened is that call's cost.
        self.own = {
            item.content_hash for item, flight in zip(wanted.values(), flights, strict=True) if flight.item is item
        }
        return dict(zip(wanted, flights, strict=True))

    @property
    def _wants_segments(self) -> bool:
        return self.options.composite.segment_s is not None

    def _knows_frames(self, item: ContentItem) -> bool:
        return self._videos.frames_of(item.content_hash) is not None


def fields_of(item: ContentItem) -> tuple[PostField, ...]:
    """Return a post's fields."""
    assert isinstance(item.payload, tuple)
    return item.payload
