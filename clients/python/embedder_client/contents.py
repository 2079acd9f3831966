"""What is asked about: texts, images, videos, posts, or the hash of one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder_client.content_hash import (
    HASH_BYTES,
    Modality,
    content_hasher,
    hash_content,
    hash_image,
    hash_post,
    hash_text,
)
from embedder_client.errors import InvalidRequest

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Text:
    """A text; a plain `str` means the same."""

    text: str


@dataclass(frozen=True)
class Image:
    """An image file's bytes (JPEG, PNG, WebP, GIF, BMP, TIFF); plain `bytes` mean the same."""

    data: bytes


@dataclass(frozen=True)
class Video:
    """A video file's bytes."""

    data: bytes


@dataclass(frozen=True)
class VideoFile:
    """A video file on disk; a large one is hashed and sent from there, a piece at a time, and never held in memory.

    Raises:
        InvalidRequest: there is no such file.
    """

    path: str | Path

    def __post_init__(self) -> None:
        if not Path(self.path).is_file():
            raise InvalidRequest(f"{str(self.path)!r} is no file")

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return Path(self.path).stat().st_size

    def read(self) -> Video:
        """Read the file, which takes its length in memory."""
        return Video(Path(self.path).read_bytes())


@dataclass(frozen=True)
class Post:
    """Named fields that are understood as one thing; a field is a text, an image, a video or a hash."""

    fields: Mapping[str, Text | Image | Video | VideoFile | ContentHash | str | bytes]


@dataclass(frozen=True)
class ContentHash:
    """The 32-byte hash of a content that the service has seen, so that nothing else has to travel.

    Raises:
        InvalidRequest: the digest is not 32 bytes long.
    """

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != HASH_BYTES:
            raise InvalidRequest(f"a content hash has {HASH_BYTES} bytes; this one has {len(self.digest)}")


Content = Text | Image | Video | VideoFile | Post | ContentHash
ContentLike = Content | str | bytes


def as_content(value: ContentLike) -> Content:
    """Wrap a plain `str` as a text and plain `bytes` as an image; leave a content as it is.

    Raises:
        InvalidRequest: the value is something else.
    """
    if isinstance(value, str):
        return Text(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return Image(bytes(value))
    if isinstance(value, Content):
        return value
    raise InvalidRequest(
        f"a content is a str (text), bytes (image), Text, Image, Video, VideoFile, Post or ContentHash, not {type(value).__name__}"
    )


def gather_contents(
    contents: Iterable[ContentLike] | None, texts: Iterable[str] | None = None, images: Iterable[bytes] | None = None
) -> list[Content]:
    """Collect the contents of one call: `contents`, then `texts`, then `images`.

    Raises:
        InvalidRequest: there is none, or a single content was given where a batch is meant.
    """
    gathered: list[Content] = []
    for name, batch in (("contents", contents), ("texts", texts), ("images", images)):
        if batch is None:
            continue
        if isinstance(batch, str | bytes | Content):
            raise InvalidRequest(
                f"{name} is a batch: give a list, such as {name}=[...], not one {type(batch).__name__}"
            )
        gathered += [as_content(value) for value in batch]
    if not gathered:
        raise InvalidRequest("no content was given: at least one is needed")
    return gathered


def content_digest(content: Content) -> bytes:
    """Return the 32-byte content hash, as the service would name the content."""
    match content:
        case Text(text):
            return hash_text(text)
        case Image(data):
            return hash_image(data)
        case Video(data):
            return hash_content(Modality.VIDEO, data)
        case VideoFile(path):
            return _hash_file(Modality.VIDEO, Path(path))
        case Post(fields):
            return hash_post({name: content_digest(as_content(value)) for name, value in fields.items()})
        case ContentHash(digest):
            return digest


def pack_hashes(hashes: bytes | Iterable[bytes]) -> bytes:
    """Pack content hashes, 32 bytes each; already packed ones are checked and kept.

    Raises:
        InvalidRequest: there is none, or a hash is not 32 bytes long.
    """
    packed = bytes(hashes) if isinstance(hashes, bytes | bytearray | memoryview) else _joined(hashes)
    if not packed:
        raise InvalidRequest("no content hash was given: at least one is needed")
    if len(packed) % HASH_BYTES:
        raise InvalidRequest(f"packed hashes have {HASH_BYTES} bytes each; {len(packed)} is no multiple of it")
    return packed


def _hash_file(modality: Modality, path: Path) -> bytes:
    hasher = content_hasher(modality, path.stat().st_size)
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            hasher.update(piece)
    return hasher.digest()


def _joined(hashes: Iterable[bytes]) -> bytes:
    parts = list(hashes)
    for position, part in enumerate(parts):
        if len(part) != HASH_BYTES:
            raise InvalidRequest(f"hash {position} has {len(part)} bytes; a content hash has {HASH_BYTES}")
    return b"".join(parts)
