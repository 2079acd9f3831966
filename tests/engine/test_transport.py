"""Front-ends, an engine and a keeper over their real sockets and shared memory, all in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import zmq

from embedder.engine.admission import Admission
from embedder.engine.contents import CompositeOptions, ContentItem, EmbedOutcome, Lane, Source
from embedder.engine.engine import Engine, EngineSettings
from embedder.engine.ticket import Ticket
from embedder.engine.transport.board import Board
from embedder.engine.transport.engine_link import EngineLink
from embedder.engine.transport.engine_server import AdmittedByFrontends, EngineServer
from embedder.engine.transport.keeper_client import KeeperClient
from embedder.engine.transport.keeper_messages import KeeperKind
from embedder.engine.transport.keeper_server import KeeperServer
from embedder.engine.transport.peers import frontend_name
from embedder.engine.transport.pixel_pool import PixelReader, PixelWriter
from embedder.engine.transport.remote_cache import RemoteCache
from embedder.engine.transport.remote_engine import RemoteEngine, RemoteShard
from embedder.engine.transport.remote_ledger import RemoteLedger
from embedder.engine.transport.shared_block import SharedBlock
from embedder.engine.transport.usage_codec import pack_usage, unpack_usage
from embedder.errors import ContentNotCached, DeadlineExpired, EncoderError, Overloaded, Unavailable
from embedder.savings.ledger import Ledger
from embedder.savings.report import SavingsQuery
from embedder.savings.report_maker import ReportMaker
from embedder.savings.usage import COUNTERS, Counts, Group, Slice, UsageRecord
from embedder.server.accounting import SpaceAccount
from embedder.telemetry.elsewhere import GatheredCounts
from embedder_cache import CacheSettings, VectorCache, space_key

from .conftest import DIM, CountingEncoder, image_item, options, text_items, vector_of, wait_until

_SETTINGS = EngineSettings(max_batch_tokens=256, max_queue_s={Lane.INTERACTIVE: 10.0, Lane.BULK: 20.0})
_NAMES = [frontend_name(number, incarnation=1) for number in range(2)]
_CACHE = CacheSettings(max_bytes=64 << 20)


@dataclass
class Frontend:
    """One front-end's engine with what it stands on."""

    engine: RemoteEngine
    link: EngineLink
    cache: RemoteCache
    ledger: RemoteLedger
    keeper: KeeperClient
    account: SpaceAccount

    def ask(self, *texts: str, durable: bool = False, seconds: float = 10.0) -> tuple[Ticket, list[ContentItem]]:
        items = text_items(*texts)
        return self.engine.start(items, options(durable=durable, seconds=seconds)), items

    def answer(self, ticket: Ticket, items: list[ContentItem]) -> EmbedOutcome:
        ticket.wait()
        return self.engine.outcome(ticket, items)


@dataclass
class House:
    """An engine and a keeper, and two front-ends before them."""

    encoder: CountingEncoder
    engine: Engine
    server: EngineServer
    keeper: KeeperServer
    ledger: Ledger
    board: Board
    socket: Path
    frontends: list[Frontend]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    encoder = CountingEncoder()
    space = space_key(bytes(32), encoder.info.space_digest, DIM)
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        store = stack.enter_context(VectorCache.open(tmp_path / "cache", _CACHE))
        ledger = Ledger(tmp_path / "ledger.sqlite")
        stack.callback(ledger.close)
        keeper = KeeperServer(store, ledger, counts=GatheredCounts(), context=context, path=tmp_path / "k")
        stack.callback(keeper.close)
        board = Board.create(frontends=2, engines=1)
        stack.callback(board.block.close)
        pools = [SharedBlock.create("pixels", size_bytes=1 << 12) for _ in range(2)]
        for pool in pools:
            stack.callback(pool.close)

        def connect(name: bytes) -> KeeperClient:
            client = KeeperClient(context, own_name=name)
            client.connect(tmp_path / "k")
            stack.callback(client.disconnect, "test ends")
            return client

        to_keeper = connect(b"engine-0-1")
        engine_ledger = RemoteLedger(tmp_path / "ledger.sqlite", to_keeper, cache_counts=dict)
        stack.callback(engine_ledger.close)
        engine = Engine(
            encoder,
            cache=RemoteCache(store, to_keeper),
            space=space,
            ledger=SpaceAccount(engine_ledger, space="test@1"),
            settings=_SETTINGS,
            admission=AdmittedByFrontends(),
        )
        readers = [PixelReader(pool, image_size=4) for pool in pools]
        server = EngineServer(engine, context=context, path=tmp_path / "e", pixels=readers)
        stack.callback(server.close)
        stack.callback(engine.close)
        frontends = []
        for number in range(2):
            name = _NAMES[number]
            client = connect(name)
            cache = RemoteCache(store, client)
            own_ledger = RemoteLedger(tmp_path / "ledger.sqlite", client, cache_counts=dict)
            stack.callback(own_ledger.close)
            remote = RemoteEngine(encoder, cache=cache, space=space, settings=_SETTINGS, board=board)
            stack.callback(remote.close)
            pixels = PixelWriter(pools[number], image_size=4)
            link = EngineLink(remote.table, context=context, own_name=name, pixels=pixels)
            admission = Admission(max_queue_s=_SETTINGS.max_queue_s, queued=board.queue(frontend=number, engine=0))
            remote.attach([RemoteShard(link, admission)])
            link.connect(tmp_path / "e")
            account = SpaceAccount(own_ledger, space="test@1")
            frontends.append(Frontend(remote, link, cache, own_ledger, client, account))
        stack.callback(encoder.may_run.set)
        yield House(encoder, engine, server, keeper, ledger, board, tmp_path / "e", frontends)


def test_vectors_are_those_of_the_engine_and_are_cached_for_every_front_end(house: House) -> None:
    first, second = house.frontends
    outcome = first.answer(*first.ask("one", "two", durable=True))
    assert outcome.sources.tolist() == [Source.COMPUTED] * 2
    expected = np.stack([vector_of(b"one"), vector_of(b"two")]).astype(np.float16)
    assert np.array_equal(outcome.vectors, expected)
    assert outcome.device_seconds > 0
    again = second.answer(*second.ask("two", "one"))
    assert again.sources.tolist() == [Source.CACHE] * 2
    assert np.array_equal(again.vectors, expected[::-1])
    assert house.encoder.encodes == 2


def test_content_that_two_front_ends_ask_for_at_once_is_encoded_once(house: House) -> None:
    first, second = house.frontends
    house.encoder.may_run.clear()
    one = first.ask("shared", "own")
    wait_until(lambda: house.engine.in_flight == 2)
    two = second.ask("shared")
    wait_until(lambda: house.server.awaited_by(_NAMES[1]) == 1)
    house.encoder.may_run.set()
    assert first.answer(*one).sources.tolist() == [Source.COMPUTED] * 2
    assert second.answer(*two).sources.tolist() == [Source.IN_FLIGHT]
    assert house.encoder.encodes == 2


def test_content_in_flight_elsewhere_is_found_by_its_hash_alone(house: House) -> None:
    first, second = house.frontends
    house.encoder.may_run.clear()
    one = first.ask("by hash")
    wait_until(lambda: house.engine.in_flight == 1)
    items = [ContentItem(one[1][0].content_hash), ContentItem(bytes(range(32)))]
    ticket = second.engine.start(items, options())
    wait_until(lambda: 1 in ticket.failures)
    house.encoder.may_run.set()
    outcome = second.answer(ticket, items)
    assert outcome.sources.tolist() == [Source.IN_FLIGHT, Source.FAILED]
    assert isinstance(outcome.failures[1], ContentNotCached)
    first.answer(*one)


def test_images_arrive_through_shared_memory_and_slots_are_used_again(house: House) -> None:
    frontend = house.frontends[0]
    images = [image_item(bytes([number])) for number in range(100)]  # the pool has 32 slots
    outcome = frontend.engine.embed(images, options())
    assert not outcome.failures
    expected = np.stack([vector_of(bytes([number])) for number in range(100)]).astype(np.float16)
    assert np.array_equal(outcome.vectors, expected)


def test_stale_pixels_are_never_read_for_another_image() -> None:
    block = SharedBlock.create("pixels", size_bytes=1 << 12)
    before, reader = PixelWriter(block, image_size=4), PixelReader(block, image_size=4)
    stale = before.write(np.full((3, 4, 4), 1, np.uint8), deadline=0.0)
    after = PixelWriter(block, image_size=4)  # the front-end was started again
    fresh = after.write(np.full((3, 4, 4), 2, np.uint8), deadline=0.0)
    assert stale.slot == fresh.slot
    assert reader.read(stale) is None
    assert np.array_equal(reader.read(fresh), np.full((3, 4, 4), 2, np.uint8))
    block.close()


def test_full_pool_makes_the_writer_wait_until_the_deadline() -> None:
    block = SharedBlock.create("pixels", size_bytes=1 << 7)  # one slot
    writer = PixelWriter(block, image_size=4)
    reference = writer.write(np.zeros((3, 4, 4), np.uint8), deadline=0.0)
    with pytest.raises(DeadlineExpired):
        writer.write(np.zeros((3, 4, 4), np.uint8), deadline=0.0)
    writer.free([reference.slot])
    assert writer.write(np.zeros((3, 4, 4), np.uint8), deadline=0.0).slot == reference.slot
    block.close()


def test_failing_content_fails_alone(house: House) -> None:
    def refuse(tokens: object) -> None:
        if any(bytes(row.astype(np.uint8)) == b"bad" for row in tokens):  # type: ignore[attr-defined]
            raise EncoderError("bad tokens")

    house.encoder.on_encode = refuse
    frontend = house.frontends[0]
    outcome = frontend.answer(*frontend.ask("good", "bad", "fine"))
    assert outcome.sources.tolist() == [Source.COMPUTED, Source.FAILED, Source.COMPUTED]
    assert isinstance(outcome.failures[1], EncoderError)
    assert "bad tokens" in str(outcome.failures[1])


def test_durable_call_that_joins_waits_for_the_commit(house: House) -> None:
    first, second = house.frontends
    house.encoder.may_run.clear()
    plain = first.ask("joined")
    wait_until(lambda: house.engine.in_flight == 1)
    joined = [first.ask("joined", durable=True), second.ask("joined", durable=True)]
    house.encoder.may_run.set()
    assert first.answer(*plain).sources.tolist() == [Source.COMPUTED]
    for frontend, asked in zip((first, second), joined, strict=True):
        assert not frontend.answer(*asked).failures
        assert frontend.answer(*frontend.ask("joined")).sources.tolist() == [Source.CACHE]
    assert house.encoder.encodes == 1
    wait_until(lambda: not len(first.engine.table) and not len(second.engine.table) and not house.engine.in_flight)


def test_abandoned_and_expired_work_never_reaches_the_device(house: House) -> None:
    first, second = house.frontends
    house.encoder.may_run.clear()
    blocker = first.ask("blocker")
    wait_until(lambda: house.engine.in_flight == 1)
    abandoned, kept = first.ask("left"), first.ask("left", "kept")
    wait_until(lambda: house.engine.in_flight == 3)
    expired = second.ask("late", seconds=0.05)
    abandoned[0].abandon()
    kept[0].abandon()
    wanted = second.ask("kept")
    outcome = second.answer(*expired)
    assert isinstance(outcome.failures[0], DeadlineExpired)
    wait_until(lambda: not second.engine.table.find(expired[1][0].content_hash))
    wait_until(lambda: [house.server.awaited_by(name) for name in _NAMES] == [1, 1])
    house.encoder.may_run.set()
    first.answer(*blocker)
    assert not second.answer(*wanted).failures
    wait_until(lambda: house.engine.in_flight == 0)
    assert house.encoder.encodes == 2  # the blocker, and what the second front-end kept alive


def test_engine_that_goes_answers_every_waiter_once_and_one_that_comes_serves_on(house: House) -> None:
    first = house.frontends[0]
    held = first.answer(*first.ask("held", durable=True))
    assert not held.failures
    house.encoder.may_run.clear()
    waiting = [first.ask(f"lost {number}") for number in range(5)]
    answered: list[int] = []
    for number, (ticket, _) in enumerate(waiting):
        ticket.when_done(lambda number=number: answered.append(number))
    wait_until(lambda: house.engine.in_flight == 5)
    first.link.disconnect("the engine is restarting")
    assert sorted(answered) == list(range(5))
    for ticket, items in waiting:
        with pytest.raises(Unavailable):
            first.answer(ticket, items)
    with pytest.raises(Unavailable):
        first.answer(*first.ask("new"))
    mixed = first.answer(*first.ask("held", "new"))
    assert mixed.sources.tolist() == [Source.CACHE, Source.FAILED]
    assert isinstance(mixed.failures[1], Unavailable)
    assert first.engine.queued_s(Lane.INTERACTIVE) == 0
    house.encoder.may_run.set()
    first.link.connect(house.socket)
    assert not first.answer(*first.ask("new")).failures
    assert len(answered) == 5


def test_front_end_that_goes_leaves_no_work_behind(house: House) -> None:
    first, second = house.frontends
    house.encoder.may_run.clear()
    second.ask("blocker")
    wait_until(lambda: house.engine.in_flight == 1)
    first.ask("dropped", "shared")
    wait_until(lambda: house.engine.in_flight == 3)
    shared = second.ask("shared")
    wait_until(lambda: len(second.engine.table) == 2)
    wait_until(lambda: house.server.awaited_by(_NAMES[1]) == 2)
    house.server.forget_frontend(_NAMES[0])
    wait_until(lambda: house.server.awaited_by(_NAMES[0]) == 0)
    house.encoder.may_run.set()
    assert not second.answer(*shared).failures
    wait_until(lambda: house.engine.in_flight == 0)
    assert house.encoder.encodes == 2


def test_front_end_refuses_by_what_the_others_have_queued(house: House) -> None:
    first, second = house.frontends
    house.encoder.may_run.clear()
    first.engine.cost_model.learn_batch(next(iter(first.engine.info.modalities)), seconds=1.0, units=1.0, items=1)
    house.board.queue(frontend=0, engine=0).add(Lane.INTERACTIVE, 30_000_000_000)
    with pytest.raises(Overloaded) as refused:
        second.ask("one too many")
    assert refused.value.retry_after_ms > 0
    house.board.forget_frontend(0)
    ticket, items = second.ask("room again")
    house.encoder.may_run.set()
    assert not second.answer(ticket, items).failures
    assert second.engine.queued_s(Lane.INTERACTIVE) == 0


def test_savings_and_erasures_are_exact_across_front_ends(house: House) -> None:
    for frontend in house.frontends:
        ticket, items = frontend.ask("one", "two", "three", durable=True)
        outcome = frontend.answer(ticket, items)
        hashes = b"".join(item.content_hash for item in items)
        frontend.account.record_answers(ticket.options, outcome, hashes)
    for frontend in house.frontends:
        total = ReportMaker(frontend.ledger).make(SavingsQuery()).total
        assert (total.counts.asked, total.counts.encodes, total.counts.cache_hits) == (6, 3, 3)
        assert total.contents_unique == 3
    first, second = house.frontends
    stats = first.cache.stats()
    assert (stats.entries, stats.written) == (3, 3)
    items = text_items("one", "two", "never asked")
    assert first.cache.delete_many(first.engine.space, b"".join(item.content_hash for item in items)) == 2
    assert second.answer(*second.ask("one", "three")).sources.tolist() == [Source.COMPUTED, Source.CACHE]


def test_tenant_and_head_go_along_to_the_engine_and_the_ledger(house: House) -> None:
    frontend = house.frontends[0]
    asked = replace(options(), tenant="shop", head="topic", composite=CompositeOptions(field_weights={"title": 2.0}))
    items = text_items("whose is it")
    ticket = frontend.engine.start(items, asked)
    outcome = frontend.answer(ticket, items)
    frontend.account.record_answers(asked, outcome, items[0].content_hash)
    frontend.ledger.flush()
    by_group = frontend.ledger.totals(Slice(), by=("tenant", "head"))
    assert set(by_group) == {("shop", "topic")}
    counts = by_group["shop", "topic"]
    assert (counts.asked, counts.encodes, counts.lookups) == (1, 1, 1)
    assert counts.wall_ns > 0


def test_usage_arrives_as_it_was_recorded() -> None:
    one = Group("a", "b", "c", "bulk", "shop", "topic")
    other = replace(one, tenant="press")
    amounts = Counts(*range(1, len(COUNTERS) + 1))
    records = [
        UsageRecord(120, one, amounts, b"h" * 32),
        UsageRecord(130, one, amounts),
        UsageRecord(130, other, amounts),
    ]
    assert list(unpack_usage(pack_usage(records))) == [
        UsageRecord(120, one, amounts + amounts, b"h" * 32),
        UsageRecord(120, other, amounts),
    ]


def test_one_ledger_run_and_the_device_at_rest_stand_for_all_processes(house: House) -> None:
    meter = {"energy": {"basis": "measured", "source": "a counter", "boundary": "the package"}}
    told = {"device": "cpu", "idle_watts": 5.0, "meter": meter}
    keeper = house.frontends[0].keeper
    for _ in range(2):  # engines that share a device
        keeper.request(KeeperKind.METER, json.dumps(told).encode()).result(10)
    runs = house.frontends[0].ledger.runs(Slice())
    assert [(run.meter, run.is_killed) for run in runs] == [(meter, False)]
    uptime = house.frontends[0].ledger.uptime(Slice())
    wait_until(lambda: house.frontends[0].ledger.uptime(Slice()).seconds > uptime.seconds)
    later = house.frontends[0].ledger.uptime(Slice())
    assert later.idle_joules - uptime.idle_joules == pytest.approx(5.0 * (later.seconds - uptime.seconds), rel=0.01)


def test_keeper_that_goes_fails_what_waits_for_it_and_costs_no_hit(house: House) -> None:
    frontend = house.frontends[0]
    assert not frontend.answer(*frontend.ask("held", durable=True)).failures
    frontend.cache._keeper.disconnect("gone")
    with pytest.raises(Unavailable):
        frontend.cache.delete_many(frontend.engine.space, bytes(32))
    with pytest.raises(Unavailable):
        frontend.cache.stats()
    assert frontend.answer(*frontend.ask("held")).sources.tolist() == [Source.CACHE]
