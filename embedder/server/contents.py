"""Contents off the wire: named by their hash, not yet looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from embedder.engine.contents import ContentItem
from embedder.errors import InvalidContent, InvalidRequest, NotImplementedYet
from embedder_client.content_hash import HASH_BYTES, Modality, hash_content, hash_text
from embedder_client.v1 import content_pb2


def items_of(contents: Sequence[content_pb2.Content], *, max_items: int, field: str = "contents") -> list[ContentItem]:
    """Name a call's contents; an item that can't be named carries its error and fails alone.

    Raises:
        InvalidRequest: there is no content, or there are more than `max_items`.
    """
    check_count(len(contents), max_items=max_items, field=field)
    return [_item(content) for content in contents]


def items_of_hashes(packed: bytes, *, max_items: int, field: str = "content_hashes") -> list[ContentItem]:
    """Unpack content hashes into items that only the cache or a computation under way can answer.

    Raises:
        InvalidRequest: the bytes are no whole number of hashes, none, or more than `max_items`.
    """
    check_hashes(packed, max_items=max_items, field=field)
    return [ContentItem(packed[start : start + HASH_BYTES]) for start in range(0, len(packed), HASH_BYTES)]


def hashes_of(items: Iterable[ContentItem]) -> bytes:
    """Pack the hashes of the items that have one, 32 bytes each."""
    return b"".join([item.content_hash for item in items])


def check_hashes(packed: bytes, *, max_items: int, field: str = "content_hashes") -> None:
    """Refuse bytes that are no packed hashes, or too many of them."""
    if len(packed) % HASH_BYTES:
        raise InvalidRequest(f"{field} has {len(packed)} bytes; it holds whole hashes of {HASH_BYTES} bytes each")
    check_count(len(packed) // HASH_BYTES, max_items=max_items, field=field)


def check_count(count: int, *, max_items: int, field: str) -> None:
    """Refuse a call with nothing in it, or with too much."""
    if count == 0:
        raise InvalidRequest(f"{field} is empty; send at least one")
    if count > max_items:
        raise InvalidRequest(
            f"{field} has {count} entries; the limit is {max_items} (max_items_per_call): split the call"
        )


def _item(content: content_pb2.Content) -> ContentItem:
    if text := content.text:  # the common case, without asking which kind is set
        return ContentItem(hash_text(text), Modality.TEXT, text)
    kind = content.WhichOneof("kind")
    if kind == "text":
        return ContentItem(hash_text(""), Modality.TEXT, "")
    if kind == "image":
        image = content.image
        return ContentItem(hash_content(Modality.IMAGE, image), Modality.IMAGE, image)
    if kind == "content_hash":
        if len(content.content_hash) == HASH_BYTES:
            return ContentItem(content.content_hash)
        length = len(content.content_hash)
        return ContentItem(
            b"", error=InvalidContent(f"content_hash has {length} bytes; a content hash has {HASH_BYTES}")
        )
    if kind is None:
        return ContentItem(b"", error=InvalidContent("the content is unset; set one of text, image or content_hash"))
    return ContentItem(
        b"", error=NotImplementedYet(f"contents of kind {kind} are not served by this version; text and image are")
    )
