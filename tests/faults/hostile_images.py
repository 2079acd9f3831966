"""Image files that are meant to hurt: made or mutated from a seed."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")
_MAGICS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"RIFF\0\1\0\0WEBPVP8 ",
    b"II+\0",
)
WRONG_TYPES = (
    b"",
    b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj",
    b"PK\3\4" + bytes(60),
    b"\x7fELF\2\1\1" + bytes(200),
    b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    b"<html><img src=x></html>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file",
    b"\0\0\0\x20ftypisom" + bytes(300),
    b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    b"[playlist]\nFile1=http://127.0.0.1/\n",
    b"push graphic-context\nimage over 0,0 0,0 'https://example.invalid'\npop graphic-context",
)


@dataclass(frozen=True)
class HostileFile:
    """One file, what is wrong with it, and whether it is sent as a video."""

    kind: str
    data: bytes
    is_video: bool = False


def hostile_images(seed: int) -> Iterator[HostileFile]:
    """Yield hostile files without end, one kind after another; equal seeds give equal files."""
    for number in count():
        chance = random.Random(seed * 1_000_003 + number)
        make = _KINDS[number % len(_KINDS)]
        yield HostileFile(make.__name__, make(chance))


def truncated(chance: random.Random) -> bytes:
    data = _picture(chance)
    return data[: chance.randrange(len(data))]


def bit_flips(chance: random.Random) -> bytes:
    data = bytearray(_picture(chance))
    for _ in range(chance.randint(1, 30)):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def damaged_header(chance: random.Random) -> bytes:
    data = bytearray(_picture(chance))
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(2, min(64, len(data)))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
    return bytes(data)


def shuffled_blocks(chance: random.Random) -> bytes:
    return shuffle_blocks(_picture(chance), chance.randint(8, 400), chance)


def shuffle_blocks(data: bytes, size: int, chance: random.Random) -> bytes:
    """Return a file whose blocks behind the first are in another order."""
    blocks = [data[start : start + size] for start in range(size, len(data), size)]
    chance.shuffle(blocks)
    return data[:size] + b"".join(blocks)


def noise_behind_magic(chance: random.Random) -> bytes:
    return chance.choice(_MAGICS) + chance.randbytes(chance.randint(0, 4_000))


def wrong_type(chance: random.Random) -> bytes:
    return chance.choice(WRONG_TYPES) + chance.randbytes(chance.randint(0, 50))


def bomb(chance: random.Random) -> bytes:
    side = chance.randint(7_200, 16_000)
    return _png(side, side, rows=min(side, 2_000))


def largest_allowed(chance: random.Random) -> bytes:
    return _png(chance.randint(6_000, 7_000), 7_000)


def thin(chance: random.Random) -> bytes:
    length = chance.choice((100_000, 16_000))
    return _png(*chance.choice(((1, length), (length, 1))))


def zero_size(chance: random.Random) -> bytes:
    gif = bytearray(_picture(chance, "GIF"))
    gif[6:10] = bytes(4)
    jpeg = bytearray(_picture(chance, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 7] = b"\0\0"
    return chance.choice((_png(0, 10), _png(10, 0), bytes(gif), bytes(jpeg)))


def huge_header(chance: random.Random) -> bytes:
    sides = struct.pack(">HH", chance.randint(8_000, 65_500), chance.randint(8_000, 65_500))
    jpeg = bytearray(_picture(chance, "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = sides
    gif = bytearray(_picture(chance, "GIF"))
    gif[6:10] = b"\xff" * 4
    bmp = bytearray(_picture(chance, "BMP"))
    bmp[18:26] = struct.pack("<ii", chance.choice((2**31 - 1, 60_000)), chance.choice((-(2**31), 60_000)))
    tiff = _tiff([(256, 4, 2**32 - 1), (257, 4, 2**32 - 1), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8)])
    webp = b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\xff" * 6 + bytes(20)
    return chance.choice((bytes(jpeg), bytes(gif), bytes(bmp), tiff, webp))


def endless_animation(chance: random.Random) -> bytes:
    frame = b"\x21\xf9\x04\0\1\0\0\0" + b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    return b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame * chance.randint(1_000, 50_000)


def many_scans(chance: random.Random) -> bytes:
    """A progressive JPEG whose last pass comes again and again; some stay below the limit on scans."""
    picture = Image.fromarray(np.full((2_000, 2_000, 3), chance.randrange(256), np.uint8))
    file = io.BytesIO()
    picture.save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * chance.choice((60, 1_000, 5_000)) + b"\xff\xd9"


def text_bomb(chance: random.Random) -> bytes:
    text = b"Comment\0\0" + zlib.compress(bytes(chance.randint(1, 60) << 20), 9)
    png = _png(20, 20)
    return png[:33] + _chunk(b"zTXt", text) + png[33:]


def overfull_stream(chance: random.Random) -> bytes:
    return _png(20, 20, rows=chance.randint(100_000, 10_000_000))


def tiff_tricks(chance: random.Random) -> bytes:
    size = [(256, 3, 8), (257, 3, 8), (258, 3, 8), (259, 3, chance.choice((1, 5, 7, 8, 32946))), (262, 3, 1)]
    huge_tile = [*size, (322, 4, 60_000), (323, 4, 60_000), (324, 4, 8), (325, 4, 8)]
    far_strip = [*size, (273, 4, 2**32 - 9), (278, 4, 8), (279, 4, 2**31)]
    many_samples = [*size, (273, 4, 8), (277, 3, 60_000), (278, 4, 8), (279, 4, 64)]
    return _tiff(chance.choice((huge_tile, far_strip, many_samples)), following=8)


_KINDS: tuple[Callable[[random.Random], bytes], ...] = (
    truncated,
    bit_flips,
    damaged_header,
    shuffled_blocks,
    noise_behind_magic,
    wrong_type,
    bomb,
    largest_allowed,
    thin,
    zero_size,
    huge_header,
    endless_animation,
    many_scans,
    text_bomb,
    overfull_stream,
    tiff_tricks,
)


def _picture(chance: random.Random, file_format: str | None = None) -> bytes:
    """A small picture with some detail, as a sound file."""
    side = chance.randint(20, 300)
    pixels = np.frombuffer(chance.randbytes(side * side * 3), np.uint8).reshape(side, side, 3)
    file = io.BytesIO()
    chosen = file_format or chance.choice(FORMATS)
    Image.fromarray(pixels).convert(chance.choice(("RGB", "L", "RGB"))).save(file, chosen)
    return file.getvalue()


def _png(width: int, height: int, *, rows: int | None = None) -> bytes:
    """A grey PNG of one colour; `rows` says how many its stream holds, if not `height`."""
    stream = zlib.compress(bytes((width + 7) // 8 + 1) * (height if rows is None else rows), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff(entries: list[tuple[int, int, int]], *, following: int = 0) -> bytes:
    """A little-endian TIFF of one directory; `following` is where the next one is said to be: 8 is itself."""
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + struct.pack("<I", following) + bytes(64)
