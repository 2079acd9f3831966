"""Headers of plain JPEGs: those of which a few bytes tell all that decoding needs to know, and what it will cost."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_START = b"\xff\xd8\xff"
_BASELINE = 0xC0
_SCAN = 0xDA
_APP1 = 0xE1  # EXIF and XMP
# Quantization, Huffman and restart tables, applications' segments, comments.
_SKIPPED = frozenset((0xDB, 0xC4, 0xDD, *range(0xE0, 0xF0), 0xFE))


@dataclass(frozen=True, slots=True)
class PlainJpeg:
    """A baseline JPEG of 8-bit grey, YCbCr or RGB that is read in one pass.

    Attributes:
        width: as stored.
        height: as stored.
        may_be_turned: it has a segment that may say which way is up.
    """

    width: int
    height: int
    may_be_turned: bool


def read_plain_jpeg(data: bytes) -> PlainJpeg | None:
    """Read the header of a plain JPEG; None for any other file.

    Source: ITU-T T.81, annex B.
    """
    if not data.startswith(_START):
        return None
    position, size, components, may_be_turned = 2, (0, 0), 0, False
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _BASELINE:
            if components or data[position + 4] != 8 or data[position + 9] not in (1, 3):
                return None
            size, components = struct.unpack_from(">HH", data, position + 5), data[position + 9]
        elif marker == _SCAN:
            # A baseline scan of every component is the whole picture: a decoder that meets a further one refuses the file.
            is_whole = components > 0 and components == data[position + 4]
            return PlainJpeg(size[1], size[0], may_be_turned) if is_whole else None
        elif marker not in _SKIPPED or length < 2:
            return None
        may_be_turned = may_be_turned or marker == _APP1
        position += 2 + length
    return None
