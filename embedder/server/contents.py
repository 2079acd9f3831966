"""Contents off the wire: named by their hash, not yet looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embedder.engine.contents import COMPOSITES, CallSize, ContentItem, PostField
from embedder.errors import InvalidContent, InvalidRequest
from embedder_client.content_hash import HASH_BYTES, Modality, hash_content, hash_post, hash_text
from embedder_client.v1 import content_pb2

_NO_HASH = bytes(HASH_BYTES)


class WireContents:
    """A call's contents as they came: named, and made into items only where the cache does not hold them."""

    def __init__(
        self, contents: Sequence[content_pb2.Content], hashes: list[bytes], others: Mapping[int, ContentItem]
    ) -> None:
        """Keep what was named.

        Args:
            hashes: each content's, zeros for what can't be named.
            others: everything but texts, by row, as items.
        """
        self._contents = contents
        self._hashes = hashes
        self._others = others

    @property
    def hashes(self) -> bytes:
        """Content hashes, packed, 32 bytes each; zeros for what can't be named."""
        return b"".join(self._hashes)

    @property
    def named_hashes(self) -> bytes:
        """The hashes of what can be named, packed."""
        if not self._others:
            return self.hashes
        unnamed = {row for row, item in self._others.items() if not item.content_hash}
        return b"".join([name for row, name in enumerate(self._hashes) if row not in unnamed])

    @property
    def size(self) -> CallSize:
        """How much the call asks for."""
        if not self._others:
            return CallSize([len(content.text) for content in self._contents])
        others = self._others.values()
        texts = [len(content.text) for row, content in enumerate(self._contents) if row not in self._others]
        unknown = sum(item.payload is None for item in others)
        return CallSize(texts, len(others) - unknown, unknown)

    @property
    def has_composites(self) -> bool:
        """Whether any is made of parts: a post, or a video."""
        return any(item.modality in COMPOSITES for item in self._others.values())

    def __len__(self) -> int:
        """Return how many contents there are."""
        return len(self._hashes)

    def __getitem__(self, index: int) -> ContentItem:
        """Return one content."""
        return self._others.get(index) or ContentItem(self._hashes[index], Modality.TEXT, self._contents[index].text)


class HashContents:
    """Contents that are known by their hash alone."""

    def __init__(self, packed: bytes) -> None:
        self.hashes = packed

    @property
    def named_hashes(self) -> bytes:
        """All the hashes, packed."""
        return self.hashes

    @property
    def size(self) -> CallSize:
        """How much the call asks for."""
        return CallSize(unknown=len(self))

    @property
    def has_composites(self) -> bool:
        """Whether any is known to be made of parts: a hash does not say so."""
        return False

    def __len__(self) -> int:
        """Return how many contents there are."""
        return len(self.hashes) // HASH_BYTES

    def __getitem__(self, index: int) -> ContentItem:
        """Return one content."""
        return ContentItem(self.hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES])


NamedContents = WireContents | HashContents


def items_of(contents: Sequence[content_pb2.Content], *, max_items: int, field: str = "contents") -> WireContents:
    """Name a call's contents; an item that can't be named carries its error and fails alone.

    Raises:
        InvalidRequest: there is no content, or there are more than `max_items`.
    """
    check_count(len(contents), max_items=max_items, field=field)
    hashes: list[bytes] = []
    others: dict[int, ContentItem] = {}
    for row, content in enumerate(contents):
        if text := content.text:  # the common case, without asking which kind is set
            hashes.append(hash_text(text))
        else:
            item = others[row] = _item(content)
            hashes.append(item.content_hash or _NO_HASH)
    return WireContents(contents, hashes, others)


def items_of_hashes(packed: bytes, *, max_items: int, field: str = "content_hashes") -> HashContents:
    """Unpack content hashes into items that only the cache or a computation under way can answer.

    Raises:
        InvalidRequest: the bytes are no whole number of hashes, none, or more than `max_items`.
    """
    check_hashes(packed, max_items=max_items, field=field)
    return HashContents(packed)


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
    kind = content.WhichOneof("kind")
    if kind == "text":
        return ContentItem(hash_text(content.text), Modality.TEXT, content.text)
    if kind == "image":
        image = content.image
        return ContentItem(hash_content(Modality.IMAGE, image), Modality.IMAGE, image)
    if kind == "video":
        video = content.video
        return ContentItem(hash_content(Modality.VIDEO, video), Modality.VIDEO, video)
    if kind == "post":
        return _post(content.post)
    if kind == "content_hash":
        if len(content.content_hash) == HASH_BYTES:
            return ContentItem(content.content_hash)
        length = len(content.content_hash)
        return ContentItem(
            b"", error=InvalidContent(f"content_hash has {length} bytes; a content hash has {HASH_BYTES}")
        )
    return ContentItem(
        b"", error=InvalidContent("the content is unset; set one of text, image, video, post or content_hash")
    )


def _post(post: content_pb2.Post) -> ContentItem:
    """Name a post by its fields; one that can't be named fails with its first bad field."""
    fields: dict[str, ContentItem] = {}
    for field in post.fields:
        if field.name in fields:
            return ContentItem(b"", error=InvalidContent(f"the post has two fields of the name {field.name!r}"))
        if field.content.HasField("post"):
            return ContentItem(b"", error=InvalidContent("a post can't hold a post").in_post_field(field.name))
        item = fields[field.name] = _item(field.content)
        if item.error is not None:
            return ContentItem(b"", error=item.error.in_post_field(field.name))
    if not fields:
        return ContentItem(b"", error=InvalidContent("the post has no fields; give at least one"))
    digest = hash_post({name: item.content_hash for name, item in fields.items()})
    # In the order of their names, as in the hash: two posts of one hash are fused alike to the last bit.
    parts = tuple(PostField(name, fields[name]) for name in sorted(fields))
    return ContentItem(digest, Modality.POST, parts)
