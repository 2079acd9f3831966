"""One batch through the encoder: each content gets its own row, or its own error, whatever its neighbours do to the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import structlog

from embedder.encoders.base import Encoder, Pixels, Tokens, Vectors
from embedder.errors import EmbedderError, EncoderError, NonFiniteVector, OutOfDeviceMemory
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)

Prepared = Tokens | Pixels
Row = npt.NDArray[np.float32] | EmbedderError


class Forward:
    """Runs prepared contents of one medium; used by one thread at a time."""

    def __init__(self, encoder: Encoder, *, on_out_of_memory: Callable[[int, int], None]) -> None:
        """Stand on an encoder.

        Args:
            on_out_of_memory: is told which contents of the batch, from a first to a last exclusive, did not fit on the device together.
        """
        self._encoder = encoder
        self._on_out_of_memory = on_out_of_memory

    def rows(self, modality: Modality, prepared: Sequence[Prepared]) -> list[Row]:
        """Encode a batch, and if that fails, each half by itself, until the failing contents stand alone.

        Args:
            modality: text or image.
            prepared: n token ids or pixels.
        Returns:
            n rows, (dim,) float32 of L2 norm 1, or the error of that content alone.
        """
        return self._encode_or_bisect(modality, prepared, 0)

    def _encode_or_bisect(self, modality: Modality, prepared: Sequence[Prepared], first: int) -> list[Row]:
        try:
            vectors = self._forward(modality, prepared)
        except Exception as error:  # noqa: BLE001 - whatever the model raises, it is the answer of these contents alone
            if isinstance(error, OutOfDeviceMemory):
                self._on_out_of_memory(first, first + len(prepared))
            if len(prepared) == 1:
                _log.warning("content failed in the encoder", error=repr(error))
                return [
                    error if isinstance(error, EmbedderError) else EncoderError(f"the forward pass failed: {error}")
                ]
            half = len(prepared) // 2
            return self._encode_or_bisect(modality, prepared[:half], first) + self._encode_or_bisect(
                modality, prepared[half:], first + half
            )
        finite = np.atleast_1d(np.isfinite(vectors).all(axis=1))
        return [
            row if is_finite else self._encode_again(modality, content)
            for content, row, is_finite in zip(prepared, vectors, finite, strict=True)
        ]

    def _encode_again(self, modality: Modality, content: Prepared) -> Row:
        """Encode alone and in float32 what came out non-finite among others."""
        try:
            row: npt.NDArray[np.float32] = self._forward_exactly(modality, content)[0]
        except Exception as error:  # noqa: BLE001 - as above
            return EncoderError(f"the forward pass failed: {error}")
        if not np.isfinite(row).all():
            return NonFiniteVector(
                "the encoder gives NaN or infinity for this content, in float32 too; nothing was stored"
            )
        return row

    def _forward(self, modality: Modality, prepared: Sequence[Any]) -> Vectors:
        encode = self._encoder.encode_texts if modality is Modality.TEXT else self._encoder.encode_images
        return encode(prepared)

    def _forward_exactly(self, modality: Modality, content: Any) -> Vectors:
        exact = self._encoder.encode_texts_exact if modality is Modality.TEXT else self._encoder.encode_images_exact
        return exact([content])
