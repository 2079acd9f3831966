"""How contents are embedded: what is large is looked up by its hash first, and travels piece by piece only if it is not known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, cast

from embedder_client import decoding, encoding, merging, plans
from embedder_client import options as declared
from embedder_client.contents import (
    Content,
    ContentHash,
    ContentLike,
    Image,
    Post,
    Video,
    VideoFile,
    as_content,
    content_digest,
    gather_contents,
)
from embedder_client.cutting import Cut, cut_contents
from embedder_client.errors import Internal
from embedder_client.homes import Home, Homes
from embedder_client.plans import Calls, Plan, Rpc, Steps
from embedder_client.results import EmbedResult, ItemFailure, LookupResult
from embedder_client.settings import ClientSettings

_LOOKUP_KEYS = frozenset(declared.LookupOptions.__annotations__)
_NOT_CACHED = "CONTENT_NOT_CACHED"

Large = Image | Video | VideoFile
Piece = tuple[Sequence[int], EmbedResult]


def embed(
    settings: ClientSettings,
    contents: Iterable[ContentLike] | None,
    options: declared.EmbedOptions,
    homes: Homes | None = None,
) -> Plan[EmbedResult]:
    """Plan Embeds of every content; with `by_hash`, and for what is large, Lookups first."""
    declared.check_options(declared.EmbedOptions, options)
    gathered = gather_contents(contents, options.get("texts"), options.get("images"))
    run = _EmbedRun(settings, gathered, options, homes)
    large = run.large_count
    if not large and not options.get("by_hash", False):
        asked = _asked(settings, gathered, options, homes)
        steps = plans.batches(asked, decoding.embed_result, merging.merge_embeds)
        return Plan(steps, plans.call_timeout_s(settings, options, parts=asked.cut.longest_line))
    # What can't travel is refused before anything is sent, or named.
    encoding.content_messages([content for content in gathered if not _is_large(content, settings)])
    # Each large content may have to travel, and a video takes its time to be decoded.
    timeout_s = plans.call_timeout_s(settings, options, parts=1 + len(gathered) // settings.max_request_items)
    if options.get("timeout_s") is None:
        timeout_s += settings.bulk_timeout_s * large
    return Plan(run.steps(), timeout_s)


class _EmbedRun:
    """One call with large contents, or by hash."""

    def __init__(
        self,
        settings: ClientSettings,
        contents: Sequence[Content],
        options: declared.EmbedOptions,
        homes: Homes | None,
    ) -> None:
        self._settings = settings
        self._homes = homes
        self._contents = list(contents)
        self._options = options
        self._by_hash: bool = options.get("by_hash", False)
        self._pieces: list[Piece] = []
        self._digests: dict[int, bytes] = {}
        self._failed_fields: dict[int, tuple[str, ItemFailure]] = {}

    @property
    def large_count(self) -> int:
        """How many contents, or fields, may have to travel piece by piece."""
        return sum(
            _is_large(part, self._settings)
            for content in self._contents
            for part in ([field for _, field in _fields(content)] or [content])
        )

    def steps(self) -> Steps[EmbedResult]:
        """Send what has to be sent."""
        yield from self._send_fields()
        asked = [
            position
            for position, content in enumerate(self._contents)
            if self._by_hash or _is_large(content, self._settings)
        ]
        known: set[int] = set()
        if asked:
            held = yield from self._lookup([self._digest(position) for position in asked])
            self._pieces.append((asked, merging.as_embed(held)))
            # What follows is asked in the space that the look-up was answered in, wherever an alias goes meanwhile.
            self._options = {**self._options, "space": held.provenance.space}
            wanted = chain(held.wanted, *(further.wanted for further in held.additional))
            known = set(asked) - {asked[row] for row in wanted}
        left = [position for position in range(len(self._contents)) if position not in known]
        # Segments are no part of a look-up: a known video is asked for them by its hash.
        by_hash = sorted(known) if self._options.get("segment_seconds") is not None else []
        by_hash = [position for position in by_hash if isinstance(self._contents[position], Video | VideoFile)]
        if by_hash:
            answer = yield from self._embed([ContentHash(self._digest(position)) for position in by_hash])
            self._pieces.append((by_hash, answer))
            left += [by_hash[failure.index] for failure in answer.failures if failure.reason == _NOT_CACHED]
        whole = [position for position in left if not _is_large(self._contents[position], self._settings)]
        if whole:
            answer = yield from self._embed([self._contents[position] for position in whole])
            self._pieces.append((whole, answer))
        for position in left:
            content = self._contents[position]
            if _is_large(content, self._settings):
                answer = yield from self._upload(cast(Large, content), self._digest(position), self._options)
                self._pieces.append(([position], answer))
        return self._with_field_failures(merging.place_embeds(self._pieces, len(self._contents)))

    def _send_fields(self) -> Steps[None]:
        """Have the large fields of posts known to the service, and put their hashes in their places."""
        # A post finds its fields where it is itself at home; so a field that stands in several posts may go to several replicas.
        large: dict[tuple[str, bytes], tuple[Large, Home | None]] = {}
        for position, content in enumerate(self._contents):
            home = self._home_of_post(position)
            for _, field in _fields(content):
                if _is_large(field, self._settings):
                    place = "" if home is None else home.name
                    large.setdefault((place, content_digest(field)), (cast(Large, field), home))
        if not large:
            return
        # Kept before the post asks for it by its hash.
        options: declared.EmbedOptions = {**self._options, "durable": True, "segment_seconds": None}
        failed: dict[bytes, ItemFailure] = {}
        for place in {place for place, _ in large}:
            digests = [digest for where, digest in large if where == place]
            _, home = large[place, digests[0]]
            held = yield from self._lookup_at(home, digests)
            for row in held.wanted:
                field, _ = large[place, digests[row]]
                answer = yield from self._upload(field, digests[row], options, home)
                if answer.failures:
                    failed[digests[row]] = answer.failures[0]
        for position, content in enumerate(self._contents):
            if isinstance(content, Post):
                self._contents[position] = self._with_hashes(position, content, failed)

    def _home_of_post(self, position: int) -> Home | None:
        """Return where a content with fields is at home; None where there is one service, or no field."""
        if self._homes is None or not isinstance(self._contents[position], Post):
            return None
        return self._homes.of(self._digest(position))

    def _with_hashes(self, position: int, post: Post, failed: Mapping[bytes, ItemFailure]) -> Post:
        fields: dict[str, Any] = dict(post.fields)
        for name, field in _fields(post):
            if _is_large(field, self._settings):
                digest = content_digest(field)
                fields[name] = ContentHash(digest)
                if digest in failed:
                    self._failed_fields.setdefault(position, (name, failed[digest]))
        return Post(fields)

    def _with_field_failures(self, result: EmbedResult) -> EmbedResult:
        """Say of a post whose large field could not be understood why, not that its hash is unknown."""
        for row, failure in enumerate(result.failures):
            if failure.index in self._failed_fields:
                name, cause = self._failed_fields[failure.index]
                result.failures[row] = ItemFailure(
                    failure.index,
                    cause.code,
                    cause.reason,
                    f"field {name!r}: {cause.message}",
                    {**cause.metadata, "post_field": name},
                )
        return result

    def _digest(self, position: int) -> bytes:
        if position not in self._digests:
            self._digests[position] = content_digest(self._contents[position])
        return self._digests[position]

    def _lookup(self, digests: Sequence[bytes]) -> Steps[LookupResult]:
        result = yield from plans.lookup(self._settings, digests, self._lookup_options(), self._homes).steps
        return result

    def _lookup_at(self, home: Home | None, digests: Sequence[bytes]) -> Steps[LookupResult]:
        """Ask one replica about contents that are not at home there."""
        if home is None:
            result = yield from self._lookup(digests)
            return result
        runs = encoding.split_hashes(b"".join(digests), self._settings)
        requests = [encoding.lookup_request(run, self._lookup_options()) for run in runs]
        asked = plans.Asked(Rpc.LOOKUP, requests, Cut(runs, len(digests), [home] * len(runs)))
        result = yield from plans.batches(asked, decoding.lookup_result, merging.merge_lookups)
        return result

    def _lookup_options(self) -> declared.LookupOptions:
        named = {name: value for name, value in self._options.items() if name in _LOOKUP_KEYS}
        return cast(declared.LookupOptions, named)

    def _embed(self, contents: Sequence[Content]) -> Steps[EmbedResult]:
        asked = _asked(self._settings, contents, self._options, self._homes)
        result = yield from plans.batches(asked, decoding.embed_result, merging.merge_embeds)
        return result

    def _upload(
        self, content: Large, digest: bytes, options: declared.EmbedOptions, home: Home | None = None
    ) -> Steps[EmbedResult]:
        if home is None and self._homes is not None:
            home = self._homes.of(digest)
        pieces = encoding.UploadPieces(content, digest, options)
        (answer,) = yield Calls(Rpc.EMBED_UPLOAD, [pieces], None if home is None else [home])
        result = decoding.embed_result(answer.response)
        if len(result) != 1:
            raise Internal(f"one content was uploaded, and the service answered for {len(result)}")
        return result


def _asked(
    settings: ClientSettings, contents: Sequence[Content], options: declared.EmbedOptions, homes: Homes | None
) -> plans.Asked:
    cut = cut_contents(contents, settings, homes)
    return plans.Asked(Rpc.EMBED, [encoding.embed_request(run, options) for run in cut.runs], cut)


def _fields(content: Content) -> list[tuple[str, Content]]:
    """Return the fields of a post; any other content has none."""
    if not isinstance(content, Post):
        return []
    return [(name, as_content(value)) for name, value in content.fields.items()]


def _is_large(content: Content, settings: ClientSettings) -> bool:
    match content:
        case Image(data) | Video(data):
            return len(data) > settings.upload_over_bytes
        case VideoFile():
            return content.size_bytes > settings.upload_over_bytes
        case _:
            return False
