"""What the contents of one call with posts or videos came to, once their parts are answered."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from embedder.engine.composite_parts import CompositeParts, fields_of
from embedder.engine.contents import ContentItem, EmbedOutcome, HalfVectors, Segments, Source
from embedder.engine.timeline import cut
from embedder.engine.video_encoder import VideoEncoder
from embedder.engine.video_flight import EncodedVideo, VideoFlight
from embedder.engine.wholes import Wholes, store_whole
from embedder.errors import ContentNotCached, DeadlineExpired, EmbedderError
from embedder_client.content_hash import Modality

_FRAME = ContentItem(b"", Modality.IMAGE, b"")


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


class CompositeAnswers:
    """Fuses the posts of one call and hands them to the cache, once its parts are answered.

    Attributes:
        stored: what was handed to the cache for a durable call, by content hash.
    """

    def __init__(self, parts: CompositeParts, *, videos: VideoEncoder, wholes: Wholes) -> None:
        """Answer the contents of `parts` later; `videos` knows the clips that are held, `wholes` how posts are fused and kept."""
        self.stored: dict[bytes, Future[None]] = {}
        self._parts = parts
        self._options = parts.options
        self._held = parts.held
        self._videos = videos
        self._wholes = wholes
        self._asked_at = time.time()

    def answer(self, items: Sequence[ContentItem], parts: EmbedOutcome | None) -> list[Answer]:
        """Return what each content of the call came to.

        Args:
            items: the call's contents.
            parts: what the parts of one medium came to; None where there are none.
        """
        return [self._answer(item, parts, segments=self._options.composite.segment_s is not None) for item in items]

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
        row = self._parts.row_of[item.content_hash]
        if (error := parts.failures.get(row)) is not None:
            return Answer(None, Source.FAILED, error)
        source = Source(int(parts.sources[row]))
        return Answer(parts.vectors[row], source, None, [source], item.content_hash, [item])

    def _by_hash(self, item: ContentItem, answer: Answer, segments: bool) -> Answer:
        """Answer a hash that names no content of one medium: a video or a post perhaps."""
        held = self._parts.look_up([item], self._wholes.video_space)
        if held:
            self._held |= held
            return self._video(item, segments)
        held = self._parts.look_up([item], self._wholes.post_space) if self._wholes.post_space is not None else {}
        return self._whole(item, held[item.content_hash], [item]) if held else answer

    def _video(self, item: ContentItem, segments: bool) -> Answer:
        flight = self._parts.flights.get(item.content_hash)
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
        if item.content_hash not in self._parts.own:
            sources = [int(Source.IN_FLIGHT) if source == Source.COMPUTED else source for source in sources]
        answer = Answer(
            encoded.vector,
            Source(_dearest(sources)),
            counted=sources,
            hashes=encoded.timeline.hashes,
            costs=[_FRAME] * len(sources),
        )
        if self._options.durable:
            self.stored[item.content_hash] = encoded.stored
        if segments:
            answer.segments = cut(encoded.timeline, encoded.frames, segment_s=self._segment_s)
        return answer

    @property
    def _segment_s(self) -> float:
        return self._options.composite.segment_s or self._videos.settings.segment_s

    def _whole(self, item: ContentItem, vector: HalfVectors, costs: list[ContentItem]) -> Answer:
        return Answer(vector, Source.CACHE, None, [Source.CACHE], item.content_hash, costs)

    def _post(self, item: ContentItem, parts: EmbedOutcome | None) -> Answer:
        fields = fields_of(item)
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
            stored = store_whole(
                self._wholes.cache, self._wholes.post_space, item.content_hash, whole.vector, asked_at=self._asked_at
            )
            if self._options.durable:
                self.stored[item.content_hash] = stored
        return whole


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
