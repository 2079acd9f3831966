"""Posts and videos by an engine whose every encode is counted: keys that hold their recipe, and calls that share one decode."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from embedder.engine.composite_engine import CompositeEngine, Parts, PostSettings
from embedder.engine.contents import CompositeOptions, ContentItem, PostField, Source
from embedder.engine.fusion import Fusion
from embedder.engine.video_flight import VideoSettings
from embedder.errors import DeadlineExpired, InvalidContent, Overloaded
from embedder.media.decoding.job import Decoded, DecodeJob
from embedder.media.frame_sampling import FrameSampling
from embedder_cache import space_key
from embedder_client.content_hash import Modality, hash_post, hash_video
from embedder_heads.errors import ArtifactNotFound

from .conftest import DIM, Bench, options, running_bench, text_items


@dataclass
class ScriptedDecoder:
    """Gives a frame of one grey for each byte of a 'video', when it may."""

    runs: int = 0
    may_run: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_run.set()

    def run(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        self.runs += 1
        assert self.may_run.wait(10)
        if not job.data:
            raise InvalidContent("the video holds no frame")
        for number, level in enumerate(bytes(job.data)):
            facts = {"time_ms": 1_000 * number, "frames": len(job.data), "end_ms": 1_000 * (number + 1)}
            yield Decoded(np.full((4, 4, 3), level, np.uint8), facts, number == len(job.data) - 1)


class NoFusions:
    def resolve(self, ref: str, space_digest: bytes) -> Fusion:
        raise ArtifactNotFound(ref)

    def of_space(self, space_digest: bytes) -> Sequence[Fusion]:
        return []


@dataclass
class CompositeBench:
    bench: Bench
    decoder: ScriptedDecoder

    def engine(self, *, posts: PostSettings | None = None, videos: VideoSettings | None = None) -> CompositeEngine:
        """Return an engine on the same cache, as after a restart with other settings."""
        parts = Parts(
            encoder=self.bench.encoder,
            cache=self.bench.cache,
            every_tier=self.bench.cache,
            decoder=self.decoder,
            fusions=NoFusions(),
            key_of=lambda digest: space_key(bytes(32), digest, DIM),
        )
        return CompositeEngine(
            self.bench.engine, parts, videos=videos or VideoSettings(), posts=posts or PostSettings()
        )


@pytest.fixture
def composite(tmp_path: Path) -> Iterator[CompositeBench]:
    with running_bench(tmp_path / "cache") as bench:
        yield CompositeBench(bench, ScriptedDecoder())


def video_item(data: bytes) -> ContentItem:
    return ContentItem(hash_video(data), Modality.VIDEO, data)


def post_item(**texts: str) -> ContentItem:
    fields = tuple(PostField(name, text_items(text)[0]) for name, text in sorted(texts.items()))
    return ContentItem(hash_post({field.name: field.item.content_hash for field in fields}), Modality.POST, fields)


def test_another_frame_rate_decodes_anew_and_encodes_nothing_twice(composite: CompositeBench) -> None:
    clip = video_item(b"\x10\x20\x30")
    first = composite.engine().embed([clip], options(durable=True))
    assert (composite.decoder.runs, composite.bench.encoder.encodes) == (1, 3)
    other = VideoSettings(sampling=FrameSampling(frames_per_second=2.0))
    again = composite.engine(videos=other).embed([clip], options(durable=True))
    assert (composite.decoder.runs, composite.bench.encoder.encodes) == (2, 3)
    assert np.array_equal(first.vectors, again.vectors)  # the scripted frames are the same
    held = composite.engine().embed([ContentItem(clip.content_hash)], options())
    assert held.sources.tolist() == [Source.CACHE]


def test_other_weights_of_the_service_never_serve_the_old_vector(composite: CompositeBench) -> None:
    post = post_item(title="one", body="two")
    plain = composite.engine().embed([post], options(durable=True)).vectors[0]
    weighted = composite.engine(posts=PostSettings(field_weights={"title": 3.0})).embed([post], options(durable=True))
    assert composite.bench.encoder.encodes == 2
    assert not np.array_equal(weighted.vectors[0], plain)
    assert np.array_equal(composite.engine().embed([post], options()).vectors[0], plain)


def test_posts_that_differ_by_a_field_share_the_others(composite: CompositeBench) -> None:
    engine = composite.engine()
    outcome = engine.embed([post_item(a="x", b="y"), post_item(a="x", b="z"), *text_items("x")], options())
    assert composite.bench.encoder.encodes == 3
    assert not outcome.failures
    assert outcome.sources.tolist() == [Source.COMPUTED, Source.COMPUTED, Source.COMPUTED]


def test_calls_that_ask_for_one_video_share_its_decoding(composite: CompositeBench) -> None:
    engine = composite.engine()
    composite.decoder.may_run.clear()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(engine.start, [video_item(b"\x01\x02")], options()) for _ in range(4)]
        tickets = [call.result() for call in calls]
        composite.decoder.may_run.set()
        for ticket in tickets:
            ticket.wait()
    outcomes = [engine.outcome(ticket, [video_item(b"\x01\x02")]) for ticket in tickets]
    assert (composite.decoder.runs, composite.bench.encoder.encodes) == (1, 2)
    assert all(np.array_equal(outcome.vectors, outcomes[0].vectors) for outcome in outcomes)
    # It is one call's cost, whichever came first; the others joined it.
    assert sorted(int(outcome.sources[0]) for outcome in outcomes) == [Source.IN_FLIGHT] * 3 + [Source.COMPUTED]
    assert sum(outcome.device_seconds > 0 for outcome in outcomes) == 1
    engine.close()


def test_a_ticket_tells_when_it_is_done_and_an_abandoned_one_is_at_once(composite: CompositeBench) -> None:
    engine = composite.engine()
    composite.decoder.may_run.clear()
    left, kept = (engine.start([video_item(b"\x05")], options()) for _ in range(2))
    told: list[str] = []
    done = threading.Event()
    left.when_done(lambda: told.append("left"))
    kept.when_done(done.set)
    assert not kept.is_done
    left.abandon()
    assert told == ["left"]
    error = engine.outcome(left, [video_item(b"\x05")]).failures[0]
    assert isinstance(error, DeadlineExpired)
    composite.decoder.may_run.set()
    assert done.wait(10)
    assert kept.is_done
    assert not engine.outcome(kept, [video_item(b"\x05")]).failures
    engine.close()


def test_too_many_waiting_videos_are_refused_and_nothing_is_queued(composite: CompositeBench) -> None:
    engine = composite.engine(videos=VideoSettings(workers=1, max_waiting=1))
    composite.decoder.may_run.clear()
    tickets = [engine.start([video_item(bytes([level]))], options()) for level in (1, 2)]
    with pytest.raises(Overloaded, match="videos wait"):
        engine.start([video_item(b"\x03")], options())
    composite.decoder.may_run.set()
    for ticket in tickets:
        ticket.wait()
    engine.close()
    assert composite.decoder.runs == 2


def test_broken_video_fails_alone_and_segments_are_of_videos_only(composite: CompositeBench) -> None:
    engine = composite.engine()
    wanted = replace(options(), composite=CompositeOptions(segment_s=1.0))
    outcome = engine.embed([*text_items("good"), video_item(b""), video_item(b"\x07\x08"), post_item(a="b")], wanted)
    assert list(outcome.failures) == [1]
    assert list(outcome.segments) == [2]
    assert outcome.segments[2].end_s.tolist() == [1.0, 2.0]
    # A text, the clip that failed, two frames and one field.
    assert outcome.counted is not None
    assert sorted(outcome.counted.sources.tolist()) == [3, 3, 3, 3, 5]
    engine.close()


def test_erasing_a_video_takes_its_frames_and_every_recipe_of_a_post(composite: CompositeBench) -> None:
    engine = composite.engine()
    clip, post = video_item(b"\x44"), post_item(a="b")
    engine.embed([clip, post], options(durable=True))
    assert engine.erase(clip.content_hash + post.content_hash) == 2
    found, _ = engine.lookup(clip.content_hash + post.content_hash + text_items("b")[0].content_hash, options())
    assert found.found.tolist() == [False, False, True]
    engine.embed([clip], options(durable=True))
    assert composite.bench.encoder.encodes == 3  # the frame again
    engine.close()
