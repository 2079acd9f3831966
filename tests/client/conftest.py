"""A scripted service on loopback, and both clients behind one blocking face."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from embedder_client import AsyncClient, Client, ClientSettings, Image, Text, Video
from embedder_client.content_hash import hash_post
from embedder_client.contents import content_digest
from embedder_client.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    content_pb2,
    embedding_service_pb2,
    embedding_service_pb2_grpc,
    head_service_pb2,
    head_service_pb2_grpc,
    savings_service_pb2,
    savings_service_pb2_grpc,
)

Matrix = npt.NDArray[np.float32]

DIM = 16
# Made for these tests by `openssl req -x509`, valid for a hundred years; it guards nothing.
TLS = Path(__file__).parent / "localhost_tls"
DIGEST = hashlib.sha256(b"space").digest()
PROVENANCE = content_pb2.Provenance(space="default@1", space_digest=DIGEST, model="scripted", numerics="fp32")
LABELS = ("politics", "sport", "business")


@dataclass(frozen=True)
class SeenCall:
    """One call as the service saw it."""

    rpc: str
    request: Any
    metadata: dict[str, Any]
    time_remaining_s: float | None


@dataclass
class ScriptedServer:
    """Answers each RPC as a small honest service, unless a script stands in `scripts` under the RPC's name."""

    port: int = 0
    held: set[bytes] = field(default_factory=set)
    calls: list[SeenCall] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    scripts: dict[str, Callable[[Any, grpc.ServicerContext], Any]] = field(default_factory=dict)

    labels = LABELS

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    @staticmethod
    def rows(*digests: bytes) -> Matrix:
        """The vectors of contents by hash: (n, DIM) float32."""
        return np.stack([vector_of(digest) for digest in digests])

    def hang_from_now(self, rpc: str) -> threading.Event:
        """Answer nothing until the caller gives up, and then set `gone`; returns what is set when a call has come."""
        asked = threading.Event()

        def hang(request: Any, context: grpc.ServicerContext) -> None:
            asked.set()
            if context.add_callback(self.gone.set):
                self.gone.wait(30)
            context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")

        self.scripts[rpc] = hang
        return asked

    def honest(self, rpc: str, request: Any, context: grpc.ServicerContext) -> Any:
        """Answer as if no script stood in the way."""
        return DEFAULTS[rpc](self, request, context)

    def requests(self, rpc: str) -> list[Any]:
        return [call.request for call in self.calls if call.rpc == rpc]

    def __getattr__(self, rpc: str) -> Callable[[Any, grpc.ServicerContext], Any]:
        if not rpc[0].isupper():
            raise AttributeError(rpc)

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            metadata = dict(context.invocation_metadata())
            self.calls.append(SeenCall(rpc, request, metadata, context.time_remaining()))
            script = self.scripts.get(rpc)
            return script(request, context) if script else self.honest(rpc, request, context)

        return handle


def digest_of(content: content_pb2.Content) -> bytes:
    match content.WhichOneof("kind"):
        case "text":
            return content_digest(Text(content.text))
        case "image":
            return content_digest(Image(content.image))
        case "video":
            return content_digest(Video(content.video))
        case "post":
            return hash_post({field.name: digest_of(field.content) for field in content.post.fields})
        case "content_hash":
            return content.content_hash
    raise AssertionError("a content without a kind was sent")


def vector_of(digest: bytes) -> Matrix:
    """The scripted service's vector of a content: (DIM,) float32, L2 norm 1, made from the hash."""
    vector = np.random.default_rng(int.from_bytes(digest[:8], "little")).normal(size=DIM).astype(np.float32)
    return vector / np.linalg.norm(vector)


def pack(matrix: Matrix, dtype: content_pb2.Dtype) -> content_pb2.Vectors:
    """Pack (n, dim) float32 as the wire's comments say, by other means than the client's."""
    rows, dim = matrix.shape
    vectors = content_pb2.Vectors(dtype=dtype or content_pb2.DTYPE_FLOAT16, rows=rows, dim=dim)
    match vectors.dtype:
        case content_pb2.DTYPE_FLOAT32:
            vectors.data = matrix.astype("<f4").tobytes()
        case content_pb2.DTYPE_INT8:
            scales = np.abs(matrix).max(axis=1) / 127
            vectors.data = np.rint(matrix / np.where(scales, scales, 1)[:, None]).astype("i1").tobytes()
            vectors.scales = scales.astype("<f4").tobytes()
        case content_pb2.DTYPE_BINARY:
            bits = ["".join("1" if value > 0 else "0" for value in row).ljust(-(-dim // 8) * 8, "0") for row in matrix]
            vectors.data = b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in bits)
        case _:
            vectors.data = matrix.astype("<f2").tobytes()
    return vectors


def cost(seconds: float) -> content_pb2.Cost:
    figure = content_pb2.Figure(value=seconds, basis=content_pb2.BASIS_MEASURED, unit="s", source="test clock")
    saved = content_pb2.Figure(value=2 * seconds, basis=content_pb2.BASIS_ESTIMATED, unit="s", source="test mean")
    return content_pb2.Cost(
        device_time=figure, device_time_saved=saved, timings=content_pb2.Timings(total_s=seconds, encode_s=seconds / 2)
    )


def item_error(index: int, code: int, reason: str, message: str, **metadata: str) -> content_pb2.ItemError:
    status = status_pb2.Status(code=code, message=message)
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="embedder.v1", metadata=metadata))
    status.details.append(detail)
    return content_pb2.ItemError(index=index, status=status)


def judge(
    server: ScriptedServer, contents: Any
) -> tuple[Matrix, list[content_pb2.ItemSource], list[content_pb2.ItemError]]:
    """Make the vectors, sources and errors of a batch: an empty text fails alone, a hash must be held."""
    matrix = np.zeros((len(contents), DIM), np.float32)
    sources, errors = [], []
    for index, content in enumerate(contents):
        digest = digest_of(content)
        if content.WhichOneof("kind") == "text" and not content.text:
            errors.append(item_error(index, 3, "EMPTY_CONTENT", "the text is empty", given="0"))
            sources.append(content_pb2.ITEM_SOURCE_FAILED)
        elif content.WhichOneof("kind") == "content_hash" and digest not in server.held:
            errors.append(item_error(index, 5, "CONTENT_NOT_CACHED", "no tier holds this hash"))
            sources.append(content_pb2.ITEM_SOURCE_FAILED)
        else:
            matrix[index] = vector_of(digest)
            held = digest in server.held
            sources.append(content_pb2.ITEM_SOURCE_CACHE if held else content_pb2.ITEM_SOURCE_COMPUTED)
    return matrix, sources, errors


def embed(server: ScriptedServer, request: Any, context: Any) -> Any:
    matrix, sources, errors = judge(server, request.contents)
    return embedding_service_pb2.EmbedResponse(
        vectors=pack(matrix, request.options.dtype),
        sources=sources,
        errors=errors,
        provenance=PROVENANCE,
        cost=cost(0.25),
    )


def embed_upload(server: ScriptedServer, requests: Any, context: Any) -> Any:
    """Take an upload as the wire's comments say, and answer about its one content."""
    header = next(requests).header
    data = b"".join([request.data for request in requests])
    server.calls.append(SeenCall("Uploaded", header, {}, None))
    assert len(data) == header.size_bytes
    is_image = header.medium == embedding_service_pb2.UPLOAD_MEDIUM_IMAGE
    content = content_pb2.Content(image=data) if is_image else content_pb2.Content(video=data)
    assert digest_of(content) == header.content_hash
    request = embedding_service_pb2.EmbedRequest(contents=[content], options=header.request.options)
    response = embed(server, request, context)
    server.held.add(header.content_hash)
    return embedding_service_pb2.EmbedUploadResponse(response=response)


def embed_stream(server: ScriptedServer, requests: Any, context: Any) -> Iterator[Any]:
    for request in requests:
        server.calls.append(SeenCall("EmbedStreamRequest", request, {}, None))
        response = embed(server, request.request, context)
        yield embedding_service_pb2.EmbedStreamResponse(sequence=request.sequence, response=response)


def lookup(server: ScriptedServer, request: Any, context: Any) -> Any:
    packed = request.content_hashes
    hashes = [packed[start : start + 32] for start in range(0, len(packed), 32)]
    matrix = np.stack([vector_of(digest) if digest in server.held else np.zeros(DIM, np.float32) for digest in hashes])
    return embedding_service_pb2.LookupResponse(
        vectors=pack(matrix, request.options.dtype),
        wanted=[index for index, digest in enumerate(hashes) if digest not in server.held],
        provenance=PROVENANCE,
        cost=cost(0.125),
    )


def predict(server: ScriptedServer, request: Any, context: Any) -> Any:
    packed = request.content_hashes
    by_hash = [content_pb2.Content(content_hash=packed[start : start + 32]) for start in range(0, len(packed), 32)]
    matrix, sources, errors = judge(server, by_hash or request.contents)
    scores = np.abs(matrix[:, : len(LABELS)])  # (n, labels)
    if request.head_refs:
        return predict_packed(request, scores, sources, errors)
    results = []
    for selector in request.heads:
        result = head_service_pb2.HeadResult(
            head=selector.head.partition("@")[0], version=3, kind=head_service_pb2.HEAD_KIND_SINGLE_LABEL, labels=LABELS
        )
        if selector.top_k:
            order = np.argsort(-scores, axis=1)[:, : selector.top_k]
            result.scores = np.take_along_axis(scores, order, axis=1).astype("<f4").tobytes()
            result.label_indices = order.astype("<u4").tobytes()
            result.columns = order.shape[1]
        else:
            result.scores = scores.astype("<f4").tobytes()
            result.columns = len(LABELS)
        results.append(result)
    vectors = pack(matrix, request.options.dtype) if request.include_vectors else None
    return head_service_pb2.PredictResponse(
        results=results, sources=sources, errors=errors, vectors=vectors, provenance=PROVENANCE, cost=cost(0.25)
    )


def predict_packed(request: Any, scores: Matrix, sources: Any, errors: Any) -> Any:
    digest = content_digest(Text("\n".join(request.head_refs)))
    layout = [
        head_service_pb2.HeadLayout(
            head=head,
            version=3,
            kind=head_service_pb2.HEAD_KIND_MULTI_LABEL,
            labels=LABELS,
            thresholds=[0.25, 0.5, 0.75],
        )
        for head in request.head_refs
    ]
    packed = head_service_pb2.PackedResults(
        scores=np.concatenate([scores.T] * len(layout)).astype("<f4").tobytes(),
        layout_digest=digest,
        layout=[] if request.known_layout == digest else layout,
        compute_seconds=np.arange(len(layout), dtype="<f4").tobytes(),
    )
    return head_service_pb2.PredictResponse(
        packed=packed, sources=sources, errors=errors, provenance=PROVENANCE, cost=cost(0.25)
    )


def score(server: ScriptedServer, request: Any, context: Any) -> Any:
    packed = request.candidate_hashes
    count = len(packed) // 32 or len(request.candidate_ids)
    return head_service_pb2.ScoreResponse(
        scores=np.arange(count, dtype="<f4").tobytes(),
        scale="cosine",
        errors=[item_error(0, 5, "CONTENT_NOT_CACHED", "no tier holds this hash")],
        provenance=PROVENANCE,
        cost=cost(0.25),
    )


def found(prefix: str, count: int) -> head_service_pb2.Hits:
    hits = head_service_pb2.Hits()
    for rank in range(count):
        hit = hits.hits.add(id=f"{prefix}-{rank}", score=1 - rank / 10)
        hit.metadata.update({"rank": rank})
    return hits


def retrieve(server: ScriptedServer, request: Any, context: Any) -> Any:
    _, sources, errors = judge(server, request.queries)
    failed = {error.index for error in errors}
    results = [
        found(query.text, 0 if index in failed else request.top_k or 10) for index, query in enumerate(request.queries)
    ]
    return head_service_pb2.RetrieveResponse(
        results=results, sources=sources, errors=errors, provenance=PROVENANCE, cost=cost(0.25)
    )


def recommend(server: ScriptedServer, request: Any, context: Any) -> Any:
    _, sources, errors = judge(server, request.history)
    return head_service_pb2.RecommendResponse(
        result=found(request.index, request.top_k or 10),
        sources=sources,
        errors=errors,
        provenance=PROVENANCE,
        cost=cost(0.25),
    )


def answer(server: ScriptedServer, request: Any, context: Any) -> Iterator[Any]:
    for word in request.question.split():
        yield head_service_pb2.AnswerResponse(text=word)
    yield head_service_pb2.AnswerResponse(citations=found("passage", request.top_k or 4).hits)


def list_heads(server: ScriptedServer, request: Any, context: Any) -> Any:
    head = head_service_pb2.HeadDescription(
        head="topic",
        version=3,
        kind=head_service_pb2.HEAD_KIND_SINGLE_LABEL,
        labels=LABELS,
        space_digest=DIGEST,
        aliases=["prod"],
        metrics={"accuracy": 0.97},
    )
    head.created_at.FromSeconds(1_700_000_000)
    index = head_service_pb2.IndexDescription(index="articles", items=2127, space_digest=DIGEST, kind="flat")
    return head_service_pb2.ListHeadsResponse(heads=[head], indexes=[index])


def savings(server: ScriptedServer, request: Any, context: Any) -> Any:
    row = savings_service_pb2.SavingsRow(
        contents_asked=10,
        contents_unique=content_pb2.Figure(value=4, basis=content_pb2.BASIS_ESTIMATED, unit="1", source="sketch"),
        cache_hits=6,
        encodes=4,
        device_time=content_pb2.Figure(value=1.5, basis=content_pb2.BASIS_MEASURED, unit="s", source="test clock"),
    )
    grouped = savings_service_pb2.SavingsRow(group="ranking")
    response = savings_service_pb2.GetSavingsResponse(total=row, rows=[grouped], assumptions=["none"])
    response.start_time.FromSeconds(1_700_000_000)
    return response


def list_spaces(server: ScriptedServer, request: Any, context: Any) -> Any:
    space = admin_service_pb2.Space(
        name="default@1", provenance=PROVENANCE, dim=DIM, modalities=["text", "image"], max_tokens=256, device="cpu"
    )
    return admin_service_pb2.ListSpacesResponse(spaces=[space], aliases={"default": "default@1"})


def set_alias(server: ScriptedServer, request: Any, context: Any) -> Any:
    return admin_service_pb2.SetAliasResponse(previous_space=f"{request.alias}@0")


def cache_stats(server: ScriptedServer, request: Any, context: Any) -> Any:
    response = admin_service_pb2.GetCacheStatsResponse(entries=len(server.held), size_bytes=4096, path="cache")
    response.started_at.FromSeconds(1_700_000_000)
    return response


def delete(server: ScriptedServer, request: Any, context: Any) -> Any:
    return admin_service_pb2.DeleteContentsResponse(deleted=len(request.content_hashes) // 32)


def limits(server: ScriptedServer, request: Any, context: Any) -> Any:
    return admin_service_pb2.GetLimitsResponse(limits={"max_text_bytes": 1_000_000})


ADDERS: tuple[Callable[[Any, grpc.Server], None], ...] = (
    embedding_service_pb2_grpc.add_EmbeddingServiceServicer_to_server,
    head_service_pb2_grpc.add_HeadServiceServicer_to_server,
    savings_service_pb2_grpc.add_SavingsServiceServicer_to_server,
    admin_service_pb2_grpc.add_AdminServiceServicer_to_server,
)
DEFAULTS: dict[str, Callable[[ScriptedServer, Any, Any], Any]] = {
    "Embed": embed,
    "EmbedStream": embed_stream,
    "EmbedUpload": embed_upload,
    "Lookup": lookup,
    "Predict": predict,
    "Score": score,
    "Retrieve": retrieve,
    "Recommend": recommend,
    "Answer": answer,
    "ListHeads": list_heads,
    "GetSavings": savings,
    "ListSpaces": list_spaces,
    "SetAlias": set_alias,
    "GetCacheStats": cache_stats,
    "DeleteContents": delete,
    "GetLimits": limits,
}


class BlockingAsyncClient:
    """An AsyncClient with the blocking client's face, so that one suite tests both."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self.client = client
        self.runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)

        def call(*args: Any, **options: Any) -> Any:
            answer = method(*args, **options)
            return self.iterate(answer) if inspect.isasyncgen(answer) else self.runner.run(answer)

        return call

    def iterate(self, answers: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(answers, None)

        try:
            while (answer := self.runner.run(following())) is not None:
                yield answer
        finally:
            self.runner.run(answers.aclose())


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    yield from serve()


@pytest.fixture
def secure_server() -> Iterator[ScriptedServer]:
    """The scripted service behind TLS, with a certificate of its own for localhost."""
    key, certificate = ((TLS / name).read_bytes() for name in ("key.pem", "cert.pem"))
    yield from serve(grpc.ssl_server_credentials([(key, certificate)]))


def serve(credentials: grpc.ServerCredentials | None = None) -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    with ThreadPoolExecutor(8) as executor:
        listening = grpc.server(executor, options=[("grpc.max_receive_message_length", 32 * 1024 * 1024)])
        for add_to_server in ADDERS:
            add_to_server(scripted, listening)
        if credentials is None:
            scripted.port = listening.add_insecure_port("127.0.0.1:0")
        else:
            scripted.port = listening.add_secure_port("localhost:0", credentials)
        listening.start()
        yield scripted
        listening.stop(None).wait()
    if any("_poll_wrapper" in thread.name for thread in threading.enumerate()):
        gc.collect()  # gRPC's asyncio thread ends when its last channel is freed, and asyncio keeps errors in cycles.


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Callable[..., Any]]:
    """Opens clients of either kind; keywords are settings."""
    opened: list[Any] = []
    with asyncio.Runner() as runner:

        def open_client(target: str = "", **options: Any) -> Any:
            settings = ClientSettings(**options)
            if request.param == "blocking":
                client: Any = Client(target or server.target, settings=settings)
            else:
                client = BlockingAsyncClient(AsyncClient(target or server.target, settings=settings), runner)
            opened.append(client)
            return client

        yield open_client
        for client in opened:
            client.close()


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    return connect()
