"""HeadService: tasks that live on shared vectors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np

from embedder.engine.contents import EmbedOptions, EmbedOutcome
from embedder.errors import InvalidRequest
from embedder.server import answers, predictions, retrieval
from embedder.server.accounting import head_label
from embedder.server.answer_desk import Asker
from embedder.server.call import Call
from embedder.server.contents import HashContents, NamedContents, items_of, items_of_hashes
from embedder.server.replies import (
    check_options,
    cost_message,
    error_messages,
    packed_float32,
    provenance_message,
    sources_of,
    vectors_message,
)
from embedder.server.reranking import Reranker
from embedder.server.runtime import Runtime, RuntimeGate
from embedder.server.scoring import Scoring
from embedder.server.spaces import ServedSpace
from embedder_client.v1 import content_pb2
from embedder_client.v1 import head_service_pb2 as pb
from embedder_client.v1 import head_service_pb2_grpc as pb_grpc


class HeadService(pb_grpc.HeadServiceServicer):
    """Serves `embedder.v1.HeadService`."""

    def __init__(self, gate: RuntimeGate, *, default_deadline_s: float) -> None:
        self._gate = gate
        self._default_deadline_s = default_deadline_s

    def Predict(self, request: pb.PredictRequest, context: grpc.ServicerContext) -> pb.PredictResponse:
        """Score contents with several heads, on one look-up or one forward pass for each content."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        runtime = self._gate.get()
        space = runtime.spaces.resolve(request.options.space)
        check_options(request.options, space)
        # An unknown head is told before anything is computed; one plan answers, whatever is published meanwhile.
        plan = runtime.heads.snapshot.plan(predictions.references(request), space.digest)
        head = head_label(plan.names) if request.task else plan.names[0]
        options = call.options(lane=request.lane, task=request.task or plan.names[0], head=head)
        items = _items(request, runtime)
        outcome = embed_abandonable(runtime, space, items, options, context)
        start = time.perf_counter()
        results, packed, head_seconds = predictions.run(plan, request, outcome)
        heads_s = time.perf_counter() - start
        runtime.observer.heads_ran(options, method="Predict", heads=plan.names, heads_s=heads_s)
        runtime.account(space).record_heads(
            options,
            outcome,
            items.named_hashes,
            heads=plan.names,
            head_seconds=head_seconds,
            by_head=not request.task,
        )
        return pb.PredictResponse(
            results=results,
            packed=packed,
            sources=sources_of(outcome),
            errors=error_messages(outcome.failures),
            vectors=vectors_message(outcome.vectors, request.options) if request.include_vectors else None,
            provenance=provenance_message(space),
            cost=cost_message(runtime, call, space, outcome, heads_s=heads_s),
            bridges=predictions.bridge_messages(plan) if plan.bridges else None,
        )

    def Score(self, request: pb.ScoreRequest, context: grpc.ServicerContext) -> pb.ScoreResponse:
        """Score hundreds of candidates for one query or user."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        runtime = self._gate.get()
        index = None
        space = runtime.spaces.resolve(request.space)
        if request.index:
            index, space = retrieval.open_index(runtime, request.index)
        scoring = Scoring(runtime, request, index)
        options = call.options(lane=request.lane, task=request.task or request.index, head=request.index)
        items: NamedContents = scoring.contents() or HashContents(b"")
        outcome = embed_abandonable(runtime, space, items, options, context)
        start = time.perf_counter()
        scores, scale, failures = scoring.run(outcome)
        heads_s = time.perf_counter() - start
        runtime.observer.heads_ran(options, method="Score", heads=[request.index], heads_s=heads_s)
        retrieval.count(runtime, space, options, outcome, items, heads_s)
        return pb.ScoreResponse(
            scores=packed_float32(scores),
            scale=scale,
            errors=error_messages(failures),
            provenance=provenance_message(space),
            cost=cost_message(runtime, call, space, outcome, heads_s=heads_s),
        )

    def Retrieve(self, request: pb.RetrieveRequest, context: grpc.ServicerContext) -> pb.RetrieveResponse:
        """Find the nearest items of an index to each query."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        runtime = self._gate.get()
        index, space = retrieval.open_index(runtime, request.index)
        search = retrieval.search_options(request)
        reranker = Reranker(runtime, space, request.rerank) if request.HasField("rerank") else None
        if reranker is not None:
            reranker.check()
        items = items_of(request.queries, max_items=runtime.settings.max_items_per_call, field="queries")
        options = call.options(lane=request.lane, task=request.task or request.index, head=request.index)
        outcome = embed_abandonable(runtime, space, items, options, context)
        start = time.perf_counter()
        found = retrieval.search(index, outcome, request.queries, search)
        if reranker is not None:
            top_k = retrieval.check_top_k(request.top_k)
            queries = outcome.vectors.astype(np.float32)
            found = [reranker.rank(index, hits, queries[row], top_k) for row, hits in enumerate(found)]
        texts_of = index if request.include_text else None
        results = [retrieval.hits_message(hits, texts_of) for hits in found]
        heads_s = time.perf_counter() - start
        runtime.observer.heads_ran(options, method="Retrieve", heads=[request.index], heads_s=heads_s)
        retrieval.count(runtime, space, options, outcome, items, heads_s)
        return pb.RetrieveResponse(
            results=results,
            sources=sources_of(outcome),
            errors=error_messages(outcome.failures),
            provenance=provenance_message(space),
            cost=cost_message(runtime, call, space, outcome, heads_s=heads_s),
        )

    def Recommend(self, request: pb.RecommendRequest, context: grpc.ServicerContext) -> pb.RecommendResponse:
        """Find items like those of a history, leaving out what the history holds."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        runtime = self._gate.get()
        index, space = retrieval.open_index(runtime, request.index)
        top_k = retrieval.check_top_k(request.top_k)
        if not request.history_ids and not request.history and not request.user_id:
            raise InvalidRequest(
                "user_id, history_ids and history are empty; give a user, or an item that they have seen"
            )
        options = call.options(lane=request.lane, task=request.task or request.index, head=request.index)
        items: NamedContents = HashContents(b"")
        if request.history:
            items = items_of(request.history, max_items=runtime.settings.max_items_per_call, field="history")
        outcome = embed_abandonable(runtime, space, items, options, context)
        start = time.perf_counter()
        hits = retrieval.recommend(runtime, index, request, outcome, top_k)
        heads_s = time.perf_counter() - start
        runtime.observer.heads_ran(options, method="Recommend", heads=[request.index], heads_s=heads_s)
        retrieval.count(runtime, space, options, outcome, items, heads_s)
        return pb.RecommendResponse(
            result=hits,
            sources=sources_of(outcome),
            errors=error_messages(outcome.failures),
            provenance=provenance_message(space),
            cost=cost_message(runtime, call, space, outcome, heads_s=heads_s),
        )

    def Answer(self, request: pb.AnswerRequest, context: grpc.ServicerContext) -> Iterator[pb.AnswerResponse]:
        """Answer a question from an index's passages, word by word, with the passages at the end."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        runtime = self._gate.get()
        index, space = retrieval.open_index(runtime, request.index)
        search = answers.search_options(index, request)
        max_tokens = runtime.answers.check_max_tokens(request.max_tokens)
        items = answers.question_item(request.question)
        options = call.options(
            lane=content_pb2.LANE_INTERACTIVE, task=request.task or request.index, head=request.index
        )
        outcome = embed_abandonable(runtime, space, items, options, context)
        if 0 in outcome.failures:
            raise outcome.failures[0]
        asker = Asker(call.deadline, threading.Event())
        if not context.add_callback(lambda: runtime.answers.asker_left(asker)):
            return
        start = time.perf_counter()
        passages = answers.find_passages(index, outcome.vectors[0].astype(np.float32), request.question, search)
        yield from answers.replies(runtime.answers, request.question, passages, max_tokens=max_tokens, asker=asker)
        heads_s = time.perf_counter() - start
        runtime.observer.heads_ran(options, method="Answer", heads=[request.index], heads_s=heads_s)
        retrieval.count(runtime, space, options, outcome, items, heads_s)

    def ListHeads(self, request: pb.ListHeadsRequest, context: grpc.ServicerContext) -> pb.ListHeadsResponse:
        """List the heads and indexes that can be asked."""
        runtime = self._gate.get()
        heads = []
        for served in runtime.heads.snapshot.served():
            manifest = served.manifest
            description = pb.HeadDescription(
                head=manifest.name,
                version=manifest.version,
                kind=predictions.KINDS[manifest.task],
                labels=manifest.labels,
                space_digest=bytes.fromhex(manifest.space_digest),
                aliases=served.aliases,
                metrics={name: metric.value for name, metric in manifest.metrics.items()},
            )
            description.created_at.FromJsonString(manifest.created)
            heads.append(description)
        return pb.ListHeadsResponse(heads=heads, indexes=retrieval.descriptions(runtime))


def embed_abandonable(
    runtime: Runtime, space: ServedSpace, items: NamedContents, options: EmbedOptions, context: grpc.ServicerContext
) -> EmbedOutcome:
    """Embed a call's contents, and stop waiting when the caller goes away."""
    ticket = space.engine.start(items, options)
    if not ticket.is_done:
        context.add_callback(ticket.abandon)
    ticket.wait()
    outcome = space.engine.outcome(ticket, items)
    runtime.directory.shadow(space, items)
    return outcome


def _items(request: pb.PredictRequest, runtime: Runtime) -> NamedContents:
    if request.contents and request.content_hashes:
        raise InvalidRequest("contents and content_hashes are both set; give one of them")
    limit = runtime.settings.max_items_per_call
    if request.content_hashes:
        return items_of_hashes(request.content_hashes, max_items=limit)
    return items_of(request.contents, max_items=limit)
