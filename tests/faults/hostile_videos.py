"""Video files that are meant to hurt: made or mutated from a seed."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count

import av
import numpy as np

from tests.clips import CARPHONE, clip
from tests.faults.hostile_images import WRONG_TYPES, HostileFile, endless_animation, shuffle_blocks

_MAGICS = (
    b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
    b"\0\0\0\x14ftypqt  \0\0\0\0qt  ",
    b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm",
    b"RIFF\0\1\0\0AVI LIST",
    b"GIF89a\x10\0\x10\0\xf7\0\0",
)
_PLAYLISTS = (
    b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nfile:///etc/passwd\n",
    b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/segment.ts\n",
    b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>/etc/</BaseURL></Period></MPD>',
    b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    b"RTSPtextRTSP://127.0.0.1/\n",
)
_CONTAINERS = (("mp4", "mpeg4"), ("mov", "mpeg4"), ("matroska", "ffv1"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"))


def hostile_videos(seed: int) -> Iterator[HostileFile]:
    """Yield hostile files without end, one kind after another; equal seeds give equal files."""
    for number in count():
        chance = random.Random(seed * 1_000_003 + number)
        make = _KINDS[number % len(_KINDS)]
        yield HostileFile(make.__name__, make(chance), is_video=True)


def truncated_video(chance: random.Random) -> bytes:
    data = _sound(chance)
    return data[: chance.randrange(len(data))]


def flipped_video(chance: random.Random) -> bytes:
    data = bytearray(_sound(chance))
    for _ in range(chance.randint(1, 200)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def damaged_video_header(chance: random.Random) -> bytes:
    data = bytearray(_sound(chance))
    start = max(4, data.find(b"moov"))
    for _ in range(chance.randint(1, 40)):
        at = chance.randrange(start, min(start + 900, len(data)))
        data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(data)


def shuffled_video(chance: random.Random) -> bytes:
    return shuffle_blocks(_sound(chance), chance.randint(64, 4_000), chance)


def noise_behind_video_magic(chance: random.Random) -> bytes:
    return chance.choice(_MAGICS) + chance.randbytes(chance.randint(0, 40_000))


def playlist(chance: random.Random) -> bytes:
    return chance.choice(_PLAYLISTS) + b"# %d\n" % chance.randrange(1 << 30)


def no_video(chance: random.Random) -> bytes:
    return chance.choice(WRONG_TYPES) + chance.randbytes(chance.randint(0, 50))


def huge_frames(chance: random.Random) -> bytes:
    """8K frames of one colour, which are next to nothing in the file."""
    return _huge() + _free_box(chance)


def thin_video(chance: random.Random) -> bytes:
    """Frames of 2 x 60,000; or an AVI whose header says 1 x 100,000."""
    if chance.random() < 0.5:
        return _encoded(
            [np.zeros((*chance.choice(((60_000, 2), (2, 60_000))), 3), np.uint8)], "mov", "png"
        ) + _free_box(chance)
    avi = _small("avi", "rawvideo")
    sides = chance.choice(((1, 100_000), (100_000, 1)))
    return avi.replace(struct.pack("<II", 64, 48), struct.pack("<II", *sides)) + _free_box(chance)


def zero_size_video(chance: random.Random) -> bytes:
    return _with_size(_small("mov", "rawvideo"), *chance.choice(((0, 0), (0, 48), (64, 0)))) + _free_box(chance)


def huge_video_header(chance: random.Random) -> bytes:
    side = chance.choice((65_535, 32_000, 20_000))
    return _with_size(_small("mov", "rawvideo"), side, side) + _free_box(chance)


def endless_video(chance: random.Random) -> bytes:
    return endless_animation(chance)


def endless_header(chance: random.Random) -> bytes:
    """A header that says a year, or as long as a number can tell."""
    data = bytearray(_small("mp4", "mpeg4"))
    for box in (b"mvhd", b"mdhd"):
        at = data.index(box) + 20  # behind version, flags, two times and the time scale
        data[at : at + 4] = struct.pack(">I", chance.choice((2**32 - 1, 2**31, 3_000_000_000)))
    at = data.index(b"stts") + 16
    data[at : at + 4] = struct.pack(">I", chance.choice((2**31 - 1, 2**30)))
    return bytes(data) + _free_box(chance)


def reference_elsewhere(chance: random.Random) -> bytes:
    """A MOV whose frames are said to lie in another file."""
    data = _small("mov", "mpeg4")
    at = data.index(b"dref") + 12
    entry = b"file:///etc/passwd\0"
    own = data[at : at + int.from_bytes(data[at : at + 4], "big")]
    kind = chance.choice((b"url ", b"alis"))
    other = struct.pack(">I", 12 + len(entry)) + kind + bytes(4) + entry
    return data[:at] + other[: len(own)].ljust(len(own), b"\0") + data[at + len(own) :] + _free_box(chance)


def many_streams(chance: random.Random) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as target:
        streams = [target.add_stream("mpeg4", rate=10) for _ in range(chance.choice((40, 100)))]
        for stream in streams:
            stream.width = stream.height = 16
            stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for stream in streams:
            target.mux(stream.encode(frame))
            target.mux(stream.encode(None))
    return file.getvalue()


def nested_boxes(chance: random.Random) -> bytes:
    """Boxes in boxes in boxes, which a recursive reader follows down."""
    depth = chance.choice((100, 10_000, 60_000))
    boxes = b"".join(struct.pack(">I4s", 8 * (depth - level), b"moov") for level in range(depth))
    return _MAGICS[0] + boxes


def picture_bomb_inside(chance: random.Random) -> bytes:
    """A video of PNG frames, whose own header says more pixels than the container's."""
    sides = struct.pack(">II", chance.choice((30_000, 60_000)), chance.choice((30_000, 60_000)))
    return _small("mov", "png").replace(struct.pack(">4sII", b"IHDR", 64, 48), b"IHDR" + sides) + _free_box(chance)


_KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    truncated_video,
    flipped_video,
    damaged_video_header,
    shuffled_video,
    noise_behind_video_magic,
    playlist,
    no_video,
    huge_frames,
    thin_video,
    zero_size_video,
    huge_video_header,
    endless_video,
    endless_header,
    reference_elsewhere,
    many_streams,
    nested_boxes,
    picture_bomb_inside,
)


def _sound(chance: random.Random) -> bytes:
    """A sound video: a filmed clip, or a small one in some container."""
    return clip(CARPHONE) if chance.random() < 0.5 else _small(*chance.choice(_CONTAINERS))


@cache
def _small(container: str, codec: str) -> bytes:
    rows, columns = np.mgrid[0:48, 0:64]
    frames = [np.stack([rows + 9 * step, columns, rows ^ columns], axis=-1).astype(np.uint8) for step in range(12)]
    return _encoded(frames, container, codec)


@cache
def _huge() -> bytes:
    return _encoded([np.zeros((4320, 7680, 3), np.uint8)] * 2, "matroska", "ffv1")


def _encoded(frames: list[np.ndarray], container: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container) as target:
        stream = target.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = {"ffv1": "bgr0", "png": "rgb24", "rawvideo": "bgr24" if container == "avi" else "rgb24"}.get(
            codec, "yuv420p"
        )
        for pixels in frames:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        target.mux(stream.encode(None))
    return file.getvalue()


def _with_size(mov: bytes, width: int, height: int) -> bytes:
    """Say another size in the header, of the track and of its codec."""
    return mov.replace(struct.pack(">II", 64 << 16, 48 << 16), struct.pack(">HHHH", width, 0, height, 0)).replace(
        struct.pack(">HH", 64, 48), struct.pack(">HH", width, height)
    )


def _free_box(chance: random.Random) -> bytes:
    """Bytes behind a file's end that make it another one, and mean nothing."""
    return struct.pack(">I4sI", 12, b"free", chance.randrange(1 << 32))
