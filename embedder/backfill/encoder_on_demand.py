"""An encoder that is loaded when it is first needed, and that two threads may share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from embedder.encoders.base import Encoder, EncoderInfo, Pixels, Tokens, Vectors


class EncoderOnDemand:
    """An `Encoder`; its forward passes run one after the other, whoever asks for them."""

    def __init__(self, load: Callable[[], Encoder]) -> None:
        """Remember how to load; `load` is called once, by the first who needs it."""
        self._load = load
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self._running = threading.Lock()

    @property
    def is_loaded(self) -> bool:
        """Whether the encoder is there already."""
        return self._encoder is not None

    @property
    def info(self) -> EncoderInfo:
        """What the encoder is; loads it."""
        return self._get().info

    def prepare_texts(self, texts: Sequence[str]) -> list[Tokens]:
        """See `Preparing.prepare_texts`."""
        return self._get().prepare_texts(texts)

    def prepare_image(self, data: bytes) -> Pixels:
        """See `Preparing.prepare_image`."""
        return self._get().prepare_image(data)

    def prepare_frame(self, image: Pixels) -> Pixels:
        """See `Preparing.prepare_frame`."""
        return self._get().prepare_frame(image)

    def encode_texts(self, tokens: Sequence[Tokens]) -> Vectors:
        """See `Encoder.encode_texts`."""
        with self._running:
            return self._get().encode_texts(tokens)

    def encode_images(self, pixels: Sequence[Pixels]) -> Vectors:
        """See `Encoder.encode_images`."""
        with self._running:
            return self._get().encode_images(pixels)

    def encode_texts_exact(self, tokens: Sequence[Tokens]) -> Vectors:
        """See `Encoder.encode_texts_exact`."""
        with self._running:
            return self._get().encode_texts_exact(tokens)

    def encode_images_exact(self, pixels: Sequence[Pixels]) -> Vectors:
        """See `Encoder.encode_images_exact`."""
        with self._running:
            return self._get().encode_images_exact(pixels)

    def close(self) -> None:
        """Close the encoder, where it was loaded."""
        if self._encoder is not None:
            self._encoder.close()

    def _get(self) -> Encoder:
        if self._encoder is None:
            with self._loading:
                if self._encoder is None:
                    self._encoder = self._load()
        return self._encoder
