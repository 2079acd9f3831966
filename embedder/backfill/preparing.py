"""Prepares a shard's missing parts for the device: texts in one go, images on several threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import structlog

from embedder.backfill.shard_contents import AskedShard, PreparedPart, PreparedShard
from embedder.encoders.base import Preparing
from embedder.engine.contents import ContentItem, Source
from embedder.errors import EmbedderError, InvalidContent
from embedder.media.limits import MediaLimits
from embedder.media.text import validate_text
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)


class ShardPreparer:
    """Tokenizes and decodes; needs no weights. Used by one thread at a time."""

    def __init__(self, encoder: Preparing, limits: MediaLimits, *, decode_threads: int) -> None:
        """Start the threads that decode, or wait for a process that does."""
        self._encoder = encoder
        self._limits = limits
        self._threads = ThreadPoolExecutor(decode_threads, thread_name_prefix="backfill-decode")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def prepare(self, asked: AskedShard) -> PreparedShard:
        """Prepare what is missing; a part that can't be fails alone, in the shard's records."""
        return PreparedShard(asked, self.prepare_parts(asked, asked.missing))

    def prepare_parts(self, asked: AskedShard, missing: Mapping[int, ContentItem]) -> list[PreparedPart]:
        """Prepare some parts of a shard."""
        known = self._encoder.info.modalities
        texts: dict[int, str] = {}
        images: dict[int, bytes] = {}
        for part, item in missing.items():
            if item.modality not in known:
                understood = ", ".join(sorted(known))
                fail(asked, part, f"the space's encoder understands {understood}; given was {item.modality}")
            elif isinstance(item.payload, str):
                texts[part] = item.payload
            else:
                assert isinstance(item.payload, bytes)
                images[part] = item.payload
        return [*self._texts(asked, texts), *self._images(asked, images.items())]

    def _texts(self, asked: AskedShard, texts: Mapping[int, str]) -> Iterator[PreparedPart]:
        valid: dict[int, str] = {}
        for part, text in texts.items():
            try:
                validate_text(text, self._limits)
                valid[part] = text
            except InvalidContent as error:
                fail(asked, part, str(error))
        for part, text, tokens in self._tokenized(asked, valid):
            yield PreparedPart(part, Modality.TEXT, tokens, float(len(tokens)), len(text))

    def _tokenized(self, asked: AskedShard, texts: Mapping[int, str]) -> Iterator[tuple[int, str, np.ndarray]]:
        if not texts:
            return
        try:
            yield from zip(texts, texts.values(), self._encoder.prepare_texts(list(texts.values())), strict=True)
        except Exception as error:  # noqa: BLE001 - whatever the tokenizer raises, its texts are answered
            if len(texts) == 1:
                fail(asked, next(iter(texts)), f"the text could not be tokenized: {error}")
                return
            for part, text in texts.items():  # one of them is to blame, and its neighbours are not
                yield from self._tokenized(asked, {part: text})

    def _images(self, asked: AskedShard, images: Iterable[tuple[int, bytes]]) -> Iterator[PreparedPart]:
        def decode(image: tuple[int, bytes]) -> tuple[int, np.ndarray | str]:
            part, data = image
            try:
                return part, self._encoder.prepare_image(data)
            except EmbedderError as error:
                return part, str(error)
            except Exception as error:  # noqa: BLE001 - decoders raise types of their own, and the row must be answered
                _log.warning("decoder failed", error=repr(error))
                return part, f"the image could not be decoded: {error}"

        for part, pixels in self._threads.map(decode, images):
            if isinstance(pixels, str):
                fail(asked, part, pixels)
            else:
                yield PreparedPart(part, Modality.IMAGE, pixels, 1.0)


def fail(asked: AskedShard, part: int, reason: str) -> None:
    """Note that a part of a shard has no vector."""
    asked.records.part_failures[part] = reason
    asked.records.sources[part] = Source.FAILED
