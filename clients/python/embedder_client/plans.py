"""What each call says to the service, without saying it: both clients carry these plans out.

A plan's steps are a generator: it yields requests that may be in flight together, receives their answers in the same
order, and returns the result. So asking in two steps (look up, then embed what is wanted) is written once, for threads
and for asyncio.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from embedder_client import decoding, encoding, merging
from embedder_client import options as declared
from embedder_client.content_hash import hash_text
from embedder_client.contents import ContentLike, as_content, content_digest, gather_contents, pack_hashes
from embedder_client.cutting import Cut, cut_contents, cut_hashes
from embedder_client.errors import Internal, InvalidRequest
from embedder_client.heads import HeadList, PredictResult, RecommendResult, RetrieveResult, ScoreResult
from embedder_client.homes import Home, Homes
from embedder_client.layouts import LayoutCache
from embedder_client.reports import CacheStats, SpaceList
from embedder_client.results import EmbedResult, LookupResult
from embedder_client.savings import SavingsReport
from embedder_client.savings_decoding import savings_report
from embedder_client.settings import ClientSettings
from embedder_client.v1 import admin_service_pb2, head_service_pb2

Result = TypeVar("Result")
Batch = TypeVar("Batch", EmbedResult, LookupResult, PredictResult, RetrieveResult)


class Rpc(StrEnum):
    """Every method of the wire, by its name; a test compares this with the descriptors."""

    EMBED = "Embed"
    EMBED_STREAM = "EmbedStream"
    EMBED_UPLOAD = "EmbedUpload"
    LOOKUP = "Lookup"
    PREDICT = "Predict"
    SCORE = "Score"
    RECOMMEND = "Recommend"
    RETRIEVE = "Retrieve"
    ANSWER = "Answer"
    LIST_HEADS = "ListHeads"
    GET_SAVINGS = "GetSavings"
    LIST_SPACES = "ListSpaces"
    SET_ALIAS = "SetAlias"
    GET_CACHE_STATS = "GetCacheStats"
    DELETE_CONTENTS = "DeleteContents"
    GET_LIMITS = "GetLimits"


@dataclass(frozen=True)
class Calls:
    """Requests to one method; they may be in flight together, and their answers are wanted in this order."""

    rpc: Rpc
    requests: Sequence[Message | encoding.UploadPieces]
    homes: Sequence[Home] | None = None
    """Where each request goes; None means to the one service, or to any replica, or where the RPC changes something to each."""


EVERYWHERE = frozenset({Rpc.SET_ALIAS, Rpc.DELETE_CONTENTS})
"""What changes every replica: such requests go to each of them, and each must confirm."""
ONE_REPLICAS_OWN = frozenset({Rpc.GET_SAVINGS, Rpc.GET_CACHE_STATS})
"""What one replica says of itself alone: several have no common answer."""


@dataclass(frozen=True)
class Known:
    """What a client has learned of the service: layouts of packed answers, and where several replicas are contents' homes."""

    layouts: LayoutCache
    homes: Homes | None = None


Steps = Generator[Calls, list[Any], Result]


@dataclass(frozen=True)
class Plan(Generic[Result]):
    """The steps of one call, and the time that they have together."""

    steps: Steps[Result]
    timeout_s: float


def lookup(
    settings: ClientSettings,
    hashes: bytes | Iterable[bytes],
    options: declared.LookupOptions,
    homes: Homes | None = None,
) -> Plan[LookupResult]:
    """Plan Lookups of every hash."""
    declared.check_options(declared.LookupOptions, options)
    cut = cut_hashes(pack_hashes(hashes), settings, homes)
    requests = [encoding.lookup_request(run, options) for run in cut.runs]
    steps = batches(Asked(Rpc.LOOKUP, requests, cut), decoding.lookup_result, merging.merge_lookups)
    return Plan(steps, call_timeout_s(settings, options, parts=cut.longest_line))


def predict(
    settings: ClientSettings,
    contents: Iterable[ContentLike] | None,
    heads: Sequence[str] | Mapping[str, int],
    options: declared.PredictOptions,
    *,
    known: Known,
) -> Plan[PredictResult]:
    """Plan Predicts of every content or hash with every head."""
    declared.check_options(declared.PredictOptions, options)
    if not heads:
        raise InvalidRequest("no head was given: at least one is needed")
    cut: Cut[encoding.Messages] | Cut[bytes]
    hashes, texts, images = options.get("hashes"), options.get("texts"), options.get("images")
    if hashes is None:
        cut = cut_contents(gather_contents(contents, texts, images), settings, known.homes)
    elif contents is None and texts is None and images is None:
        cut = cut_hashes(pack_hashes(hashes), settings, known.homes)
    else:
        raise InvalidRequest("give contents or hashes, not both; a ContentHash may stand among contents")
    refs = tuple(heads)
    layout = known.layouts.digest(refs) if options.get("packed_scores", False) else None
    requests = [encoding.predict_request(run, heads, options, known_layout=layout) for run in cut.runs]

    def decode(message: head_service_pb2.PredictResponse) -> PredictResult:
        return decoding.predict_result(message, refs, known.layouts)

    steps = batches(Asked(Rpc.PREDICT, requests, cut), decode, merging.merge_predicts)
    return Plan(steps, call_timeout_s(settings, options, parts=cut.longest_line))


def retrieve(
    settings: ClientSettings,
    index: str,
    queries: Iterable[ContentLike],
    options: declared.RetrieveOptions,
    homes: Homes | None = None,
) -> Plan[RetrieveResult]:
    """Plan Retrieves of every query."""
    declared.check_options(declared.RetrieveOptions, options)
    cut = cut_contents(gather_contents(queries), settings, homes)
    requests = [encoding.retrieve_request(index, run, options) for run in cut.runs]
    steps = batches(Asked(Rpc.RETRIEVE, requests, cut), decoding.retrieve_result, merging.merge_retrieves)
    return Plan(steps, call_timeout_s(settings, options, parts=cut.longest_line))


def recommend(
    settings: ClientSettings, index: str, options: declared.RecommendOptions, homes: Homes | None = None
) -> Plan[RecommendResult]:
    """Plan one Recommend; a history is one thing, so it is never split, and its home is that of the whole."""
    declared.check_options(declared.RecommendOptions, options)
    request = encoding.recommend_request(index, options)
    home = _home_of(homes, request)
    return Plan(_single(Rpc.RECOMMEND, request, decoding.recommend_result, home), call_timeout_s(settings, options))


def score(
    settings: ClientSettings, query: ContentLike | None, options: declared.ScoreOptions, homes: Homes | None = None
) -> Plan[ScoreResult]:
    """Plan one Score; its home is the query's."""
    declared.check_options(declared.ScoreOptions, options)
    content = None if query is None else as_content(query)
    request = encoding.score_request(content, options)
    if content is None or homes is None:
        home = _home_of(homes, request)
    else:
        home = homes.of(content_digest(content))
    return Plan(_single(Rpc.SCORE, request, decoding.score_result, home), call_timeout_s(settings, options))


def answer(
    settings: ClientSettings, index: str, question: str, options: declared.AnswerOptions
) -> tuple[head_service_pb2.AnswerRequest, float]:
    """Return the request of a streamed Answer, and the time that the whole answer has."""
    declared.check_options(declared.AnswerOptions, options)
    return encoding.answer_request(index, question, options), call_timeout_s(settings, options)


def list_heads(settings: ClientSettings, options: declared.TimeOption) -> Plan[HeadList]:
    """Plan one ListHeads."""
    declared.check_options(declared.TimeOption, options)
    request = head_service_pb2.ListHeadsRequest()
    return Plan(_single(Rpc.LIST_HEADS, request, decoding.head_list), call_timeout_s(settings, options))


def savings(settings: ClientSettings, options: declared.SavingsOptions) -> Plan[SavingsReport]:
    """Plan one GetSavings."""
    declared.check_options(declared.SavingsOptions, options)
    request = encoding.savings_request(options)
    return Plan(_single(Rpc.GET_SAVINGS, request, savings_report), call_timeout_s(settings, options))


def spaces(settings: ClientSettings, options: declared.TimeOption) -> Plan[SpaceList]:
    """Plan one ListSpaces."""
    declared.check_options(declared.TimeOption, options)
    request = admin_service_pb2.ListSpacesRequest()
    return Plan(_single(Rpc.LIST_SPACES, request, decoding.space_list), call_timeout_s(settings, options))


def set_alias(settings: ClientSettings, alias: str, space: str, options: declared.AliasOptions) -> Plan[str]:
    """Plan one SetAlias."""
    declared.check_options(declared.AliasOptions, options)
    expected = options.get("expected_space")
    request = admin_service_pb2.SetAliasRequest(alias=alias, space=space, expected_space=expected)
    steps = _single(Rpc.SET_ALIAS, request, decoding.previous_space)
    return Plan(steps, call_timeout_s(settings, options))


def cache_stats(settings: ClientSettings, options: declared.TimeOption) -> Plan[CacheStats]:
    """Plan one GetCacheStats."""
    declared.check_options(declared.TimeOption, options)
    request = admin_service_pb2.GetCacheStatsRequest()
    return Plan(_single(Rpc.GET_CACHE_STATS, request, decoding.cache_stats), call_timeout_s(settings, options))


def limits(settings: ClientSettings, options: declared.TimeOption) -> Plan[dict[str, int]]:
    """Plan one GetLimits."""
    declared.check_options(declared.TimeOption, options)
    request = admin_service_pb2.GetLimitsRequest()
    return Plan(_single(Rpc.GET_LIMITS, request, decoding.limits), call_timeout_s(settings, options))


def delete(settings: ClientSettings, hashes: bytes | Iterable[bytes], options: declared.DeleteOptions) -> Plan[int]:
    """Plan DeleteContents of every hash."""
    declared.check_options(declared.DeleteOptions, options)
    space = options.get("space", "")
    requests = [encoding.delete_request(run, space) for run in encoding.split_hashes(pack_hashes(hashes), settings)]
    return Plan(_delete(requests), call_timeout_s(settings, options, parts=len(requests)))


def _delete(requests: Sequence[Message]) -> Steps[int]:
    answers = yield Calls(Rpc.DELETE_CONTENTS, requests)
    return sum(answer.deleted for answer in answers)


def call_timeout_s(settings: ClientSettings, options: Mapping[str, Any], *, parts: int = 1) -> float:
    """Return the time that a whole call has: what was asked, or the settings' time for each part.

    Raises:
        InvalidRequest: the time is not over 0.
    """
    timeout_s: float | None = options.get("timeout_s")
    if timeout_s is None:
        return parts * (settings.bulk_timeout_s if options.get("lane") == "bulk" else settings.timeout_s)
    if not timeout_s > 0:
        raise InvalidRequest(f"timeout_s={timeout_s} must be over 0")
    return timeout_s


def _single(rpc: Rpc, request: Message, decode: Callable[[Any], Result], home: Home | None = None) -> Steps[Result]:
    answer, *_ = yield Calls(rpc, [request], None if home is None else [home])
    return decode(answer)


def _home_of(homes: Homes | None, request: Message) -> Home | None:
    """Return the home of a request as a whole: the same one each time, and all of them share such requests out."""
    return None if homes is None else homes.of(hash_text(request.SerializeToString(deterministic=True).hex()))


@dataclass(frozen=True)
class Asked:
    """A batch on its way: the requests of one method, and the cut that they come from."""

    rpc: Rpc
    requests: Sequence[Message]
    cut: Cut[Any]


def batches(asked: Asked, decode: Callable[[Any], Batch], merge: Callable[[Sequence[Batch]], Batch]) -> Steps[Batch]:
    """Ask about the items of a cut; the answer must hold as many, or rows would be taken for others.

    Where an alias moved to another space between the requests, those that were answered in another space than the last are
    asked again, in the last one's: a call is answered in one space.
    """
    cut = asked.cut
    answers = yield Calls(asked.rpc, asked.requests, cut.homes)
    if stale := _rows_of_another_space(answers):
        space = answers[-1].provenance.space
        requests = [_in_space(asked.requests[row], space) for row in stale]
        homes = None if cut.homes is None else [cut.homes[row] for row in stale]
        for row, answer in zip(stale, (yield Calls(asked.rpc, requests, homes)), strict=True):
            answers[row] = answer
    result = merge([decode(answer) for answer in answers])
    if len(result) != cut.items:
        raise Internal(f"{cut.items} items were asked about, and the service answered for {len(result)}")
    return result if cut.rows is None else merging.take_items(result, cut.rows)


def _rows_of_another_space(answers: Sequence[Any]) -> list[int]:
    if len(answers) < 2:
        return []
    last = answers[-1].provenance.space_digest
    return [row for row, answer in enumerate(answers) if answer.provenance.space_digest != last]


def _in_space(request: Any, space: str) -> Any:
    """Return a request that names its space; one of an index keeps the index's."""
    pinned = type(request)()
    pinned.CopyFrom(request)
    if "options" in request.DESCRIPTOR.fields_by_name:
        pinned.options.space = space
    return pinned
