"""The content hash: 256 bits that name a content, the same on client and server.

The hash covers the exact bytes (NFC and NFD differ on purpose), length-prefixed so that no two contents share a canonical form.
Only the standard library is used, so that a client can name content without sending it, on any machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from enum import StrEnum

HASH_BYTES = 32

_FORMAT = b"embedder.v1\0"


class Modality(StrEnum):
    """What kind of content a hash names; part of the hash, so a text and an image of the same bytes never meet."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    POST = "post"


_TAGS = {modality: _FORMAT + modality.value.encode() + b"\0" for modality in Modality}
_TEXT_TAG = _TAGS[Modality.TEXT]


def hash_content(modality: Modality, payload: bytes) -> bytes:
    """Name one content of a single medium.

    Args:
        modality: text, image or video; a post is named by `hash_post`.
        payload: the exact bytes (a text's UTF-8 bytes, a file's bytes).
    Returns:
        32 bytes: SHA-256 over format tag, modality, length (8 bytes, little-endian) and payload.
    Raises:
        ValueError: the modality is a post, whose hash is made from its fields' hashes.
    Source: FIPS 180-4; measured against BLAKE3 in docs/decisions.
    """
    if modality is Modality.POST:
        raise ValueError("a post is hashed by hash_post from its fields' hashes, not from bytes")
    return hashlib.sha256(_TAGS[modality] + len(payload).to_bytes(8, "little") + payload).digest()


def content_hasher(modality: Modality, length: int) -> hashlib._Hash:
    """Begin the hash of a content that comes piece by piece; after `length` bytes its `digest()` names the content.

    Raises:
        ValueError: the modality is a post.
    """
    if modality is Modality.POST:
        raise ValueError("a post is hashed by hash_post from its fields' hashes, not from bytes")
    return hashlib.sha256(_TAGS[modality] + length.to_bytes(8, "little"))


def hash_video(data: bytes) -> bytes:
    """Name a video by its file's bytes; returns 32 bytes."""
    return hash_content(Modality.VIDEO, data)


def hash_text(text: str) -> bytes:
    """Name a text by its UTF-8 bytes; returns 32 bytes."""
    payload = text.encode()
    return hashlib.sha256(_TEXT_TAG + len(payload).to_bytes(8, "little") + payload).digest()


def hash_texts(texts: Iterable[str]) -> bytes:
    """Name many texts; returns their hashes packed, 32 bytes each, in input order."""
    return b"".join([hash_text(text) for text in texts])


def hash_image(data: bytes) -> bytes:
    """Name an image by its file's bytes; returns 32 bytes."""
    return hash_content(Modality.IMAGE, data)


def hash_post(fields: Mapping[str, bytes]) -> bytes:
    """Name a post by its fields, in whatever order they are given.

    Args:
        fields: field name to the content hash (32 bytes) of the field.
    Returns:
        32 bytes: SHA-256 over format tag, number of fields, and for each field in the order of its name
        the name's length, the name and the field's hash.
    Raises:
        ValueError: there is no field, or a hash is not 32 bytes long.
    """
    if not fields:
        raise ValueError("a post needs at least one field")
    parts = [_TAGS[Modality.POST], len(fields).to_bytes(8, "little")]
    for name in sorted(fields):
        digest = fields[name]
        if len(digest) != HASH_BYTES:
            raise ValueError(f"field {name!r} has a hash of {len(digest)} bytes; a content hash has {HASH_BYTES}")
        encoded = name.encode()
        parts += [len(encoded).to_bytes(8, "little"), encoded, digest]
    return hashlib.sha256(b"".join(parts)).digest()
