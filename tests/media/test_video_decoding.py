"""Videos to frames: counts and times as ffprobe tells them, the same frames from every container, and hostile files refused."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from embedder.errors import InvalidContent, LimitExceeded
from embedder.media.decoding.job import Decoded, DecodeJob, InlineDecoder
from embedder.media.decoding.pool import DecodePool
from embedder.media.frame_sampling import FramePicker, FrameSampling
from embedder.media.limits import MediaLimits
from tests.clips import BIKES, BUNNY, CARPHONE, clip, clip_path, made, plain, remuxed

LIMITS = MediaLimits()
EVERY_FRAME = FrameSampling(frames_per_second=60.0)


def decode(data: bytes, sampling: FrameSampling | None = None, limits: MediaLimits = LIMITS) -> list[Decoded]:
    """Return the frames that are taken, each with pixels of its own."""
    job = DecodeJob("video", data, limits, (sampling or FrameSampling()).to_options())
    return [Decoded(frame.pixels.copy(), frame.facts, frame.is_last) for frame in InlineDecoder().run(job)]


def times_ms(frames: list[Decoded]) -> list[int]:
    return [frame.facts["time_ms"] for frame in frames]


@pytest.mark.parametrize(
    ("name", "size", "frames", "end_ms"),
    [(BUNNY, (720, 1280), 132, 5_280), (BIKES, (272, 640), 250, 10_000), (CARPHONE, (144, 176), 120, 4_004)],
)
def test_real_clips_have_their_frames_size_and_length(
    name: str, size: tuple[int, int], frames: int, end_ms: int
) -> None:
    taken = decode(clip(name))
    assert taken[-1].is_last
    assert (taken[-1].facts["frames"], taken[-1].facts["end_ms"]) == (frames, end_ms)
    assert {frame.pixels.shape for frame in taken} == {(*size, 3)}


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed (Debian package ffmpeg)")
@pytest.mark.parametrize("name", [BUNNY, BIKES, CARPHONE])
def test_every_frame_has_the_time_that_ffprobe_tells(name: str) -> None:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_frames", "-show_entries"]
    told = subprocess.run(
        [*command, "frame=best_effort_timestamp_time", "-of", "json", str(clip_path(name))],
        capture_output=True,
        check=True,
    )
    expected = [float(frame["best_effort_timestamp_time"]) for frame in json.loads(told.stdout)["frames"]]
    ours = times_ms(decode(clip(name), EVERY_FRAME))
    assert (
        np.abs(np.array(ours) / 1_000 - np.array(expected)).max() < 0.00051
    )  # whole milliseconds, and microseconds there


def test_a_rate_takes_the_first_frame_of_each_step() -> None:
    assert times_ms(decode(clip(BUNNY))) == [0, 1_000, 2_000, 3_000, 4_000, 5_000]
    assert times_ms(decode(clip(CARPHONE), FrameSampling(frames_per_second=0.5))) == [0, 2_002]


def test_a_gap_between_frames_gives_one_frame_and_not_copies() -> None:
    picker = FramePicker(FrameSampling(frames_per_second=1.0))
    assert [picker.takes(time_ms) for time_ms in (0, 500, 7_300, 7_900, 8_000)] == [True, False, True, False, True]


def test_scenes_take_the_first_frame_of_each(tmp_path: Path) -> None:
    colours = [(200, 30, 30)] * 5 + [(20, 20, 90)] * 5 + [(240, 240, 240)] * 5
    video = made(plain(*colours), tmp_path)
    assert times_ms(decode(video, FrameSampling("scenes"))) == [0, 500, 1_000]


@pytest.mark.parametrize("container", ["matroska", "mov", "mp4"])
def test_the_same_stream_gives_the_same_frames_from_every_container(container: str, tmp_path: Path) -> None:
    first = decode(clip(CARPHONE))
    other = decode(remuxed(clip(CARPHONE), container, tmp_path))
    assert times_ms(first) == times_ms(other)
    assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "mpeg4"),
        ("mov", "mpeg4"),
        ("matroska", "ffv1"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
        ("gif", "gif"),
    ],
)
def test_every_accepted_container_shows_its_colours(container: str, codec: str, tmp_path: Path) -> None:
    video = made(plain((220, 30, 30), (30, 30, 220)), tmp_path, container=container, codec=codec)
    frames = decode(video, EVERY_FRAME)
    assert times_ms(frames) == [0, 100]
    red, blue = (frame.pixels.reshape(-1, 3).mean(axis=0) for frame in frames)
    assert np.argmax(red) == 0
    assert np.argmax(blue) == 2


def test_the_pool_decodes_as_the_calling_thread_does() -> None:
    pool = DecodePool(workers=1, file_bytes=LIMITS.max_video_bytes, pixel_bytes=3 * LIMITS.max_video_pixels)
    try:
        job = DecodeJob("video", clip(CARPHONE), LIMITS, FrameSampling().to_options(), cpu_limit="max_video_cpu_ms")
        there = [(frame.facts, frame.pixels.copy()) for frame in pool.run(job)]
    finally:
        pool.close()
    here = decode(clip(CARPHONE))
    assert [facts for facts, _ in there] == [frame.facts for frame in here]
    assert all(np.array_equal(pixels, frame.pixels) for (_, pixels), frame in zip(there, here, strict=True))


PLAYLISTS = {
    "HLS": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nhttp://127.0.0.1:9/segment.ts\n",
    "concat": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "DASH": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "a text": b"file:///etc/passwd",
    "nothing": b"",
}


@pytest.mark.parametrize("name", PLAYLISTS)
def test_what_points_elsewhere_is_refused_unopened(name: str) -> None:
    with pytest.raises(InvalidContent, match="never opened"):
        decode(PLAYLISTS[name])


@pytest.mark.parametrize("container", ["mp4", "matroska", "mov"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_truncated_video_is_refused(container: str, share: float, tmp_path: Path) -> None:
    options = {"movflags": "faststart"} if container == "mp4" else {}
    whole = remuxed(clip(BIKES), container, tmp_path, **options)
    with pytest.raises(InvalidContent):
        decode(whole[: int(len(whole) * share)])


def test_huge_frames_are_refused_before_one_is_decoded(tmp_path: Path) -> None:
    video = made([np.zeros((4320, 7680, 3), np.uint8)], tmp_path, container="matroska", codec="ffv1")
    assert len(video) < 1 << 20
    with pytest.raises(LimitExceeded, match="max_video_pixels") as refused:
        decode(video)
    assert (refused.value.field, refused.value.given) == ("max_video_pixels", 4320 * 7680)


def test_a_header_that_lies_about_the_size_meets_the_limit_too(tmp_path: Path) -> None:
    video = made(plain((9, 9, 9), size=(720, 1280)), tmp_path)
    track = video.index(b"tkhd")
    assert struct.pack(">II", 1280 << 16, 720 << 16) in video[track : track + 100]
    small = video.replace(struct.pack(">II", 1280 << 16, 720 << 16), struct.pack(">II", 64 << 16, 48 << 16))
    small = small.replace(struct.pack(">HH", 1280, 720), struct.pack(">HH", 64, 48))
    with pytest.raises(InvalidContent):
        decode(small, limits=MediaLimits(max_video_pixels=10_000))


def test_endless_animation_is_cut_off_by_its_limits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    animation = made(
        (rng.integers(0, 255, (8, 8, 3), np.uint8) for _ in range(500)), tmp_path, container="gif", codec="gif"
    )
    endless = animation.replace(b"NETSCAPE2.0\x03\x01\xff\xff", b"NETSCAPE2.0\x03\x01\x00\x00")
    assert decode(endless)[-1].facts["frames"] == 500  # once round
    for field, limits in {
        "max_video_frames": MediaLimits(max_video_frames=100),
        "max_video_seconds": MediaLimits(max_video_seconds=20),
        "max_video_sampled_frames": MediaLimits(max_video_sampled_frames=10),
        "max_video_bytes": MediaLimits(max_video_bytes=1_000),
    }.items():
        with pytest.raises(LimitExceeded, match=field):
            decode(endless, limits=limits)


def test_a_file_without_frames_is_refused(tmp_path: Path) -> None:
    whole = made(plain((1, 2, 3)), tmp_path, container="gif", codec="gif")
    with pytest.raises(InvalidContent):
        decode(whole[:13] + b";")  # a header, a palette perhaps, and the end
    with pytest.raises(InvalidContent):
        decode(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0))


def test_transparent_frames_are_composited_on_white() -> None:
    import io

    from PIL import Image

    first = Image.new("RGBA", (32, 32), (255, 0, 0, 255))
    first.paste((0, 0, 0, 0), (0, 0, 32, 16))
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=[first.copy()], duration=100, disposal=2)
    pixels = decode(file.getvalue(), EVERY_FRAME)[0].pixels
    assert pixels[2, 2].tolist() == [255, 255, 255]
    assert pixels[30, 2].tolist() == [255, 0, 0]
