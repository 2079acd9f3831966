"""Arguments to messages: where protobuf begins. Large inputs become several messages here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from embedder_client.content_hash import HASH_BYTES
from embedder_client.contents import (
    Content,
    ContentHash,
    Image,
    Post,
    Text,
    Video,
    VideoFile,
    as_content,
    gather_contents,
    pack_hashes,
)
from embedder_client.errors import InvalidRequest
from embedder_client.filters import FilterLike, NumberRange, Rerank
from embedder_client.options import (
    AnswerOptions,
    EmbedStreamOptions,
    LookupOptions,
    PredictOptions,
    RecommendOptions,
    RetrieveOptions,
    SavingsOptions,
    ScoreOptions,
    VectorOptions,
)
from embedder_client.settings import ClientSettings
from embedder_client.splitting import split_runs
from embedder_client.v1 import (
    admin_service_pb2,
    content_pb2,
    embedding_service_pb2,
    head_service_pb2,
    savings_service_pb2,
)
from embedder_client.vectors import Dtype

Messages = list[content_pb2.Content]

_DTYPES = {dtype.value: content_pb2.Dtype.Value(f"DTYPE_{dtype.name}") for dtype in Dtype}
_LANES = {"interactive": content_pb2.LANE_INTERACTIVE, "bulk": content_pb2.LANE_BULK}
_MODES = {
    "dense": head_service_pb2.RETRIEVAL_MODE_DENSE,
    "lexical": head_service_pb2.RETRIEVAL_MODE_LEXICAL,
    "hybrid": head_service_pb2.RETRIEVAL_MODE_HYBRID,
}
_GROUPS = {
    "": savings_service_pb2.SAVINGS_GROUP_UNSPECIFIED,
    "task": savings_service_pb2.SAVINGS_GROUP_TASK,
    "client": savings_service_pb2.SAVINGS_GROUP_CLIENT,
    "space": savings_service_pb2.SAVINGS_GROUP_SPACE,
    "lane": savings_service_pb2.SAVINGS_GROUP_LANE,
    "tenant": savings_service_pb2.SAVINGS_GROUP_TENANT,
    "head": savings_service_pb2.SAVINGS_GROUP_HEAD,
}

# A field's tag and length, at most, around one content in its message.
_FRAME_BYTES = 8
_PIECE_BYTES = 1 << 20


def content_messages(contents: Iterable[Content]) -> Messages:
    """Encode contents.

    Raises:
        InvalidRequest: a content can't travel: no UTF-8, or not bytes.
    """
    return [_content(content, position) for position, content in enumerate(contents)]


def split_messages(messages: Messages, settings: ClientSettings) -> list[Messages]:
    """Cut encoded contents into runs that each fit one message.

    Raises:
        InvalidRequest: a content is larger than any message may be.
    """
    sizes = [message.ByteSize() + _FRAME_BYTES for message in messages]
    for position, size in enumerate(sizes):
        if size > settings.max_send_bytes:
            raise InvalidRequest(f"content {position} has {size} bytes, over max_send_bytes={settings.max_send_bytes}")
    runs = split_runs(sizes, max_bytes=settings.max_request_bytes, max_items=settings.max_request_items)
    return [messages[run.start : run.stop] for run in runs]


def split_hashes(packed: bytes, settings: ClientSettings) -> list[bytes]:
    """Cut packed hashes into runs of `max_request_items` that keep the byte budget."""
    items = max(1, min(settings.max_request_items, settings.max_request_bytes // HASH_BYTES))
    step = items * HASH_BYTES
    return [packed[start : start + step] for start in range(0, len(packed), step)]


def embed_request(contents: Messages, options: EmbedStreamOptions) -> embedding_service_pb2.EmbedRequest:
    """Build one Embed."""
    return embedding_service_pb2.EmbedRequest(
        contents=contents,
        options=_vector_options(options),
        lane=lane_value(options.get("lane")),
        durable=options.get("durable", False),
        task=options.get("task", ""),
        segments=_segment_options(options),
        post=_post_options(options),
        additional_spaces=_strings("additional_spaces", options.get("additional_spaces", ())),
    )


@dataclass(frozen=True)
class UploadPieces:
    """One EmbedUpload: iterating gives its messages, from the header on, as often as it has to be sent.

    Attributes:
        content: what travels.
        digest: its content hash.
        options: as of an Embed.
    """

    content: Image | Video | VideoFile
    digest: bytes
    options: EmbedStreamOptions

    def __iter__(self) -> Iterator[embedding_service_pb2.EmbedUploadRequest]:
        content = self.content
        is_image = isinstance(content, Image)
        header = embedding_service_pb2.UploadHeader(
            medium=embedding_service_pb2.UPLOAD_MEDIUM_IMAGE if is_image else embedding_service_pb2.UPLOAD_MEDIUM_VIDEO,
            size_bytes=content.size_bytes if isinstance(content, VideoFile) else len(content.data),
            content_hash=self.digest,
            request=embed_request([], self.options),
        )
        yield embedding_service_pb2.EmbedUploadRequest(header=header)
        if isinstance(content, VideoFile):
            with Path(content.path).open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield embedding_service_pb2.EmbedUploadRequest(data=piece)
            return
        for start in range(0, len(content.data), _PIECE_BYTES):
            yield embedding_service_pb2.EmbedUploadRequest(data=content.data[start : start + _PIECE_BYTES])


def on_wire(request: Message | UploadPieces) -> Message | Iterator[Message]:
    """Return a request as gRPC takes it; an upload's pieces begin anew each time."""
    return iter(request) if isinstance(request, UploadPieces) else request


def lookup_request(hashes: bytes, options: LookupOptions) -> embedding_service_pb2.LookupRequest:
    """Build one Lookup of packed hashes."""
    return embedding_service_pb2.LookupRequest(
        content_hashes=hashes,
        options=_vector_options(options),
        task=options.get("task", ""),
        post=_post_options(options),
        additional_spaces=_strings("additional_spaces", options.get("additional_spaces", ())),
    )


def predict_request(
    contents: Messages | bytes,
    heads: Sequence[str] | Mapping[str, int],
    options: PredictOptions,
    *,
    known_layout: bytes | None = None,
) -> head_service_pb2.PredictRequest:
    """Build one Predict of contents, or of packed hashes when `contents` is bytes.

    Args:
        known_layout: asks for a packed answer; the digest of the layout that is held, empty if none is.
    """
    messages, hashes = ([], contents) if isinstance(contents, bytes) else (contents, b"")
    top_k = _count("top_k", options.get("top_k", 0))
    if known_layout is not None:
        if top_k or isinstance(heads, Mapping):
            raise InvalidRequest("packed_scores brings every label's score: leave out top_k, and give heads as a list")
        return head_service_pb2.PredictRequest(
            contents=messages,
            content_hashes=hashes,
            head_refs=_strings("heads", heads),
            known_layout=known_layout,
            options=_vector_options(options),
            include_vectors=options.get("include_vectors", False),
            lane=lane_value(options.get("lane")),
            task=options.get("task", ""),
        )
    selected = heads.items() if isinstance(heads, Mapping) else [(head, top_k) for head in _strings("heads", heads)]
    return head_service_pb2.PredictRequest(
        contents=messages,
        content_hashes=hashes,
        heads=[head_service_pb2.HeadSelector(head=head, top_k=_count("top_k", count)) for head, count in selected],
        options=_vector_options(options),
        include_vectors=options.get("include_vectors", False),
        lane=lane_value(options.get("lane")),
        task=options.get("task", ""),
    )


def retrieve_request(index: str, queries: Messages, options: RetrieveOptions) -> head_service_pb2.RetrieveRequest:
    """Build one Retrieve."""
    return head_service_pb2.RetrieveRequest(
        index=index,
        queries=queries,
        top_k=_count("top_k", options.get("top_k", 0)),
        lane=lane_value(options.get("lane")),
        task=options.get("task", ""),
        mode=_mode(options.get("mode")),
        filters=filter_messages(options.get("filters", {})),
        rerank=_rerank(options.get("rerank")),
        include_text=options.get("include_text", False),
    )


def recommend_request(index: str, options: RecommendOptions) -> head_service_pb2.RecommendRequest:
    """Build one Recommend.

    Raises:
        InvalidRequest: the history is empty.
    """
    history_ids = _strings("history_ids", options.get("history_ids", ()))
    history = gather_contents(options["history"]) if options.get("history") else ()
    user_id = options.get("user_id", "")
    if not history_ids and not history and not user_id:
        raise InvalidRequest("no history was given: user_id, history_ids or history is needed")
    return head_service_pb2.RecommendRequest(
        index=index,
        history_ids=history_ids,
        history=content_messages(history),
        top_k=_count("top_k", options.get("top_k", 0)),
        exclude_ids=_strings("exclude_ids", options.get("exclude_ids", ())),
        lane=lane_value(options.get("lane")),
        task=options.get("task", ""),
        user_id=user_id,
        filters=filter_messages(options.get("filters", {})),
    )


def filter_messages(filters: Mapping[str, FilterLike]) -> list[head_service_pb2.MetadataFilter]:
    """Build the filters of a call.

    Raises:
        InvalidRequest: a filter is no value, list of texts, list of numbers or `NumberRange`.
    """
    return [_filter(field, wanted) for field, wanted in filters.items()]


def score_request(query: Content | None, options: ScoreOptions) -> head_service_pb2.ScoreRequest:
    """Build one Score.

    Raises:
        InvalidRequest: the candidates are given twice or not at all.
    """
    given, history, ids = options.get("hashes"), options.get("history_hashes"), _strings("ids", options.get("ids", ()))
    hashes = pack_hashes(given) if given else b""
    if bool(hashes) == bool(ids):
        raise InvalidRequest("give the candidates once, as hashes or as ids, and one at least")
    return head_service_pb2.ScoreRequest(
        query=None if query is None else _content(query, "query"),
        index=options.get("index", ""),
        user_id=options.get("user_id", ""),
        history_ids=_strings("history_ids", options.get("history_ids", ())),
        history_hashes=pack_hashes(history) if history else b"",
        candidate_hashes=hashes,
        candidate_ids=ids,
        space=options.get("space", ""),
        lane=lane_value(options.get("lane")),
        task=options.get("task", ""),
    )


def answer_request(index: str, question: str, options: AnswerOptions) -> head_service_pb2.AnswerRequest:
    """Build one Answer."""
    return head_service_pb2.AnswerRequest(
        index=index,
        question=question,
        top_k=_count("top_k", options.get("top_k", 0)),
        max_tokens=_count("max_tokens", options.get("max_tokens", 0)),
        task=options.get("task", ""),
        mode=_mode(options.get("mode")),
        filters=filter_messages(options.get("filters", {})),
    )


def savings_request(options: SavingsOptions) -> savings_service_pb2.GetSavingsRequest:
    """Build one GetSavings."""
    return savings_service_pb2.GetSavingsRequest(
        start_time=_timestamp("start", options.get("start")),
        end_time=_timestamp("end", options.get("end")),
        group_by=_choice("group_by", options.get("group_by", "task"), _GROUPS),
        task=options.get("task", ""),
        client=options.get("client", ""),
        tenant=options.get("tenant", ""),
        head=options.get("head", ""),
    )


def delete_request(hashes: bytes, space: str) -> admin_service_pb2.DeleteContentsRequest:
    """Build one DeleteContents of packed hashes."""
    return admin_service_pb2.DeleteContentsRequest(content_hashes=hashes, space=space)


def lane_value(lane: str | None) -> content_pb2.Lane:
    """Return the wire's number of a lane; None means the service's default.

    Raises:
        InvalidRequest: no lane has this name.
    """
    return content_pb2.LANE_UNSPECIFIED if lane is None else _choice("lane", lane, _LANES)


def _filter(field: str, wanted: FilterLike) -> head_service_pb2.MetadataFilter:
    message = head_service_pb2.MetadataFilter(field=field)
    if isinstance(wanted, NumberRange):
        message.range.CopyFrom(head_service_pb2.NumberRange(low=wanted.low, high=wanted.high))
        return message
    values: list[str | float] = [wanted] if isinstance(wanted, str | int | float) else list(wanted)
    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int | float)]
    message.texts.extend(texts)
    message.numbers.extend(numbers)
    if not values or len(values) not in (len(texts), len(numbers)):
        raise InvalidRequest(f"filter {field}={wanted!r} is no text, number, list of one of them, or NumberRange")
    return message


def _content(content: Content, position: int | str) -> content_pb2.Content:
    try:
        match content:
            case Text(text):
                return content_pb2.Content(text=text)
            case Image(data):
                return content_pb2.Content(image=data)
            case Video(data):
                return content_pb2.Content(video=data)
            case VideoFile():
                return content_pb2.Content(video=content.read().data)
            case ContentHash(digest):
                return content_pb2.Content(content_hash=digest)
            case Post(fields):
                return _post(fields, position)
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"content {position} can't be sent: {error}") from error


def _post(fields: Mapping[str, Any], position: int | str) -> content_pb2.Content:
    encoded = [
        content_pb2.PostField(name=name, content=_content(as_content(value), f"{position}, field {name!r}"))
        for name, value in fields.items()
    ]
    return content_pb2.Content(post=content_pb2.Post(fields=encoded))


def _segment_options(options: EmbedStreamOptions) -> embedding_service_pb2.SegmentOptions | None:
    seconds = options.get("segment_seconds")
    if seconds is None:
        return None
    if not 0 <= seconds < math.inf:
        raise InvalidRequest(f"segment_seconds={seconds} must be 0 (the service's length) or more, and finite")
    return embedding_service_pb2.SegmentOptions(seconds=seconds)


def _post_options(options: LookupOptions) -> embedding_service_pb2.PostOptions | None:
    fusion, weights = options.get("fusion", ""), options.get("field_weights")
    if fusion and weights:
        raise InvalidRequest(f"fusion={fusion!r} and field_weights are both given: weights are for the mean alone")
    if not fusion and not weights:
        return None
    return embedding_service_pb2.PostOptions(fusion=fusion, field_weights=weights)


def _vector_options(options: VectorOptions) -> embedding_service_pb2.VectorOptions:
    dtype = options.get("dtype")
    return embedding_service_pb2.VectorOptions(
        space=options.get("space", ""),
        dim=_count("dim", options.get("dim", 0)),
        dtype=content_pb2.DTYPE_UNSPECIFIED if dtype is None else _choice("dtype", dtype, _DTYPES),
    )


def _mode(mode: str | None) -> head_service_pb2.RetrievalMode:
    return head_service_pb2.RETRIEVAL_MODE_UNSPECIFIED if mode is None else _choice("mode", mode, _MODES)


def _rerank(rerank: Rerank | None) -> head_service_pb2.Rerank | None:
    if rerank is None:
        return None
    candidates = _count("rerank.candidates", rerank.candidates)
    return head_service_pb2.Rerank(candidates=candidates, head=rerank.head, label=rerank.label)


def _choice(name: str, value: str, allowed: Mapping[str, Any]) -> Any:
    if value not in allowed:
        raise InvalidRequest(f"{name}={value!r} is none of {', '.join(repr(choice) for choice in allowed)}")
    return allowed[value]


def _count(name: str, value: int) -> int:
    if not 0 <= value < 2**32:
        raise InvalidRequest(f"{name}={value} must be 0 or more, and below 2**32")
    return value


def _strings(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise InvalidRequest(f"{name} is a batch: give a list, such as {name}=[...], not one str")
    return list(values)


def _timestamp(name: str, moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise InvalidRequest(f"{name}={moment.isoformat()} has no time zone: give one, such as datetime.UTC")
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
