"""An encoder whose every call is counted and can be made to fail, and an engine around it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from embedder.encoders.base import EncoderInfo, Pixels, Tokens, Vectors
from embedder.engine.contents import ContentItem, DeviceUsage, EmbedOptions, Lane
from embedder.engine.engine import Engine, EngineSettings
from embedder_cache import CacheSettings, CacheTier, VectorCache, space_key
from embedder_client.content_hash import Modality, hash_content, hash_text

DIM = 8


@dataclass
class CountingEncoder:
    """Vectors from a hash of the tokens: right and repeatable without a model, so that what is tested is the engine."""

    info: EncoderInfo = field(
        default_factory=lambda: EncoderInfo(
            model_id="counting",
            dim=DIM,
            modalities=frozenset({Modality.TEXT, Modality.IMAGE}),
            max_tokens=64,
            image_size=4,
            numerics="fp32",
            device="cpu",
            identity={"model": "counting"},
        )
    )
    batches: list[int] = field(default_factory=list)
    may_run: threading.Event = field(default_factory=threading.Event)
    is_running: threading.Event = field(default_factory=threading.Event)
    on_encode: Callable[[Sequence[Tokens]], None] | None = None

    def __post_init__(self) -> None:
        self.may_run.set()

    @property
    def encodes(self) -> int:
        return sum(self.batches)

    def prepare_texts(self, texts: Sequence[str]) -> list[Tokens]:
        return [np.frombuffer(text.encode()[:64], np.uint8).astype(np.int32) for text in texts]

    def prepare_image(self, data: bytes) -> Pixels:
        return np.full((3, 4, 4), data[0], np.uint8)

    def prepare_frame(self, image: Pixels) -> Pixels:
        return np.ascontiguousarray(image[:4, :4].transpose(2, 0, 1))

    def encode_texts(self, tokens: Sequence[Tokens]) -> Vectors:
        self.is_running.set()
        self.may_run.wait(10)
        if self.on_encode:
            self.on_encode(tokens)
        self.batches.append(len(tokens))
        return np.stack([vector_of(row.astype(np.uint8).tobytes()) for row in tokens])

    def encode_images(self, pixels: Sequence[Pixels]) -> Vectors:
        return self.encode_texts([row.reshape(-1)[:1].astype(np.int32) for row in pixels])

    def encode_texts_exact(self, tokens: Sequence[Tokens]) -> Vectors:
        return self.encode_texts(tokens)

    def encode_images_exact(self, pixels: Sequence[Pixels]) -> Vectors:
        return self.encode_images(pixels)

    def close(self) -> None:
        pass


def vector_of(data: bytes) -> np.ndarray:
    """Return the unit vector, (DIM,) float32, that CountingEncoder gives bytes."""
    raw = np.frombuffer(hashlib.sha256(data).digest()[:DIM], np.uint8).astype(np.float32) + 1
    return raw / np.linalg.norm(raw)


@dataclass
class RecordingLedger:
    encodes: int = 0
    device_seconds: float = 0.0

    def record_encodes(self, options: EmbedOptions, *, encodes: int, usage: DeviceUsage) -> None:
        self.encodes += encodes
        self.device_seconds += usage.device_s


@dataclass
class Bench:
    """One engine with what it stands on."""

    engine: Engine
    encoder: CountingEncoder
    cache: VectorCache
    ledger: RecordingLedger


@contextmanager
def running_bench(path: Path, *, shared: CacheTier | None = None) -> Iterator[Bench]:
    """Run an engine on an empty cache."""
    encoder = CountingEncoder()
    ledger = RecordingLedger()
    with VectorCache.open(path, CacheSettings(max_bytes=64 << 20)) as cache:
        space = space_key(bytes(32), encoder.info.space_digest, DIM)
        settings = EngineSettings(max_batch_tokens=256)
        engine = Engine(encoder, cache=cache, space=space, ledger=ledger, settings=settings, shared=shared)
        yield Bench(engine, encoder, cache, ledger)
        encoder.may_run.set()
        engine.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running_bench(tmp_path / "cache") as bench:
        yield bench


def text_items(*texts: str) -> list[ContentItem]:
    return [ContentItem(hash_text(text), Modality.TEXT, text) for text in texts]


def image_item(data: bytes) -> ContentItem:
    return ContentItem(hash_content(Modality.IMAGE, data), Modality.IMAGE, data)


def options(*, seconds: float = 10.0, lane: Lane = Lane.INTERACTIVE, durable: bool = False) -> EmbedOptions:
    return EmbedOptions(deadline=time.monotonic() + seconds, lane=lane, durable=durable, task="test", client="test")


def wait_until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)
