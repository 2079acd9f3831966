"""Every RPC has a method, both clients have the same, and wrong arguments are refused."""

from __future__ import annotations

import inspect
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

import embedder_client
from embedder_client import AsyncClient, Client, ClientSettings, Image, Post, Video, errors, hash_text
from embedder_client.plans import Rpc
from embedder_client.v1 import admin_service_pb2, embedding_service_pb2, head_service_pb2, savings_service_pb2


def test_every_rpc_has_a_client_method(server: Any, client: Any) -> None:
    client.embed(["a"])
    list(client.embed_stream([["a"]]))
    client.lookup([hash_text("a")])
    client.predict(["a"], ["topic"])
    client.retrieve("photos", ["a"])
    client.recommend("films", history_ids=["1"])
    client.score("a", hashes=[hash_text("b")])
    list(client.answer("docs", "what is it"))
    for ask in (client.list_heads, client.savings, client.spaces, client.cache_stats, client.limits):
        ask()
    client.set_alias("default", "default@2")
    client.delete([hash_text("a")])
    client.embed([Video(bytes(ClientSettings().upload_over_bytes + 1))])
    asked = {call.rpc for call in server.calls} - {"EmbedStreamRequest", "Uploaded"}
    files = (embedding_service_pb2, head_service_pb2, savings_service_pb2, admin_service_pb2)
    services = [service for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    assert asked == {method.name for service in services for method in service.methods} == set(Rpc)


def test_both_clients_have_the_same_methods_and_arguments() -> None:
    blocking, asynchronous = (
        {name: list(inspect.signature(member).parameters) for name, member in vars(kind).items() if name[0] != "_"}
        for kind in (Client, AsyncClient)
    )
    assert blocking == asynchronous


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda client: client.embed(), "at least one is needed"),
        (lambda client: client.embed([]), "at least one is needed"),
        (lambda client: client.embed("one text"), "contents is a batch"),
        (lambda client: client.embed(texts="one text"), "texts is a batch"),
        (lambda client: client.embed([1]), "not int"),
        (lambda client: client.embed(["a", "\ud800"]), "content 1 can't be sent"),
        (lambda client: client.embed(["\ud800"], by_hash=True), "content 0 can't be sent"),
        (lambda client: client.embed([Post({"title": cast(Any, 1)})]), "not int"),
        (lambda client: client.embed([Image(cast(Any, "path.png"))]), "content 0 can't be sent"),
        (lambda client: client.embed(["a"], dtype="float64"), "none of 'float16', 'float32', 'int8', 'binary'"),
        (lambda client: client.embed(["a"], lane="urgent"), "none of 'interactive', 'bulk'"),
        (lambda client: client.embed(["a"], dim=-1), "dim=-1"),
        (lambda client: client.embed(["a"], timeout_s=0), "timeout_s=0"),
        (lambda client: client.lookup([]), "at least one is needed"),
        (lambda client: client.lookup(b"x" * 33), "no multiple"),
        (lambda client: client.lookup([b"x"]), "hash 0 has 1 bytes"),
        (lambda client: client.predict(["a"], []), "no head was given"),
        (lambda client: client.predict(["a"], "topic"), "heads is a batch"),
        (lambda client: client.predict(["a"], ["topic"], hashes=b"x" * 32), "not both"),
        (lambda client: client.recommend("films"), "no history was given"),
        (lambda client: client.savings(start=datetime(2026, 1, 1)), "no time zone"),
        (lambda client: client.savings(group_by="colour"), "group_by='colour'"),
    ],
)
def test_wrong_argument_is_refused_before_anything_is_sent(server: Any, client: Any, ask: Any, message: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=message):
        ask(client)
    assert not server.calls


def test_unknown_keyword_is_refused_with_those_that_are_known(client: Any) -> None:
    with pytest.raises(TypeError, match=r"'dimension'; the call takes additional_spaces, by_hash, dim, dtype"):
        client.embed(["a"], dimension=8)


@pytest.mark.parametrize("example", range(2))
def test_examples_of_the_readme_run_as_written(server: Any, example: int) -> None:
    readme = Path(embedder_client.__file__).parent.parent / "README.md"
    program = readme.read_text().split("```python\n")[1 + example].partition("```")[0]
    assert "127.0.0.1:50051" in program
    exec(program.replace("127.0.0.1:50051", server.target), {})
    assert server.calls
