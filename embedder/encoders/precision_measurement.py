"""Measures a precision against float32: how far its vectors move, whether they find the same neighbours, how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from embedder.encoders.base import Pixels, Tokens
from embedder.encoders.library_image import embed_images_exactly
from embedder.encoders.library_text import embed_texts_exactly
from embedder.encoders.measured_texts import measured_texts
from embedder.encoders.samples import SAMPLE_TEXTS, sample_image
from embedder.encoders.towers import ImageModel, ImageTower, TextModel, TextTower
from embedder.media.limits import MediaLimits

_NEIGHBOURS = 10
# What float32 may take for the texts that vectors are compared on, and the few that are timed, in turns with it.
_BUDGET_S = 1.0
_TIMED_TEXTS = 32
_FEWEST_TEXTS = 64
_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one precision came to on this device, beside float32 in the same minute.

    Attributes:
        numerics: the class that was measured.
        min_cosine: the least cosine of a vector to float32's.
        recall_at_10: share of each text's 10 nearest texts in float32 that are its nearest here; None for images.
        items_per_s: texts or images a second, in one batch.
        speed: times float32's rate, timed in turns; 1 for float32 itself.
        items: how many were compared.
    """

    numerics: str
    min_cosine: float
    recall_at_10: float | None
    items_per_s: float
    speed: float
    items: int


class TextMeasurer:
    """Holds the texts, and what float32 makes of them."""

    def __init__(self, model: TextModel, fp32: TextTower) -> None:
        """Encode the samples alone by the library, and as many texts in float32 as fit into its budget.

        Args:
            model: the loaded model.
            fp32: its tower in float32; open for as long as something is measured.
        """
        samples = model.tokenizer.tokenize(SAMPLE_TEXTS)
        texts = model.tokenizer.tokenize(measured_texts())
        fp32.embed(texts[:_TIMED_TEXTS])
        tried_s = _seconds(fp32.embed, texts[:_TIMED_TEXTS])
        count = min(len(texts), max(_FEWEST_TEXTS, int(_TIMED_TEXTS * _BUDGET_S / tried_s)))
        self._texts: Sequence[Tokens] = texts[:count]
        self._fp32 = fp32
        self._found = found = fp32.embed(self._texts)
        self._samples = samples
        self._expected = torch.cat([embed_texts_exactly(model, samples), found])
        self._neighbours = _nearest(found)

    def measure(self, tower: TextTower) -> Measurement:
        """Compare a tower with float32; raises RuntimeError where the device lacks a kernel that it needs."""
        is_reference = tower.numerics == self._fp32.numerics
        samples, vectors = tower.embed(self._samples), self._found if is_reference else tower.embed(self._texts)
        fp32_s, seconds = _in_turns(self._fp32.embed, tower.embed, self._texts[:_TIMED_TEXTS])
        hits = (_nearest(vectors)[:, :, None] == self._neighbours[:, None, :]).any(dim=2)
        return Measurement(
            numerics=tower.numerics,
            min_cosine=_least_cosine(torch.cat([samples, vectors]), self._expected),
            recall_at_10=float(hits.float().mean()),
            items_per_s=_TIMED_TEXTS / seconds,
            speed=1.0 if is_reference else fp32_s / seconds,
            items=len(self._expected),
        )


class ImageMeasurer:
    """Holds a few images, and what float32 makes of them."""

    def __init__(self, model: ImageModel, fp32: ImageTower) -> None:
        """Encode turned and inverted samples alone by the library; see `TextMeasurer`."""
        picture = torch.from_numpy(model.transform.prepare(sample_image(), MediaLimits()))
        turned = [picture.rot90(turn, (1, 2)) for turn in range(4)]
        self._pixels: list[Pixels] = [
            image.contiguous().numpy() for image in (*turned, *(255 - image for image in turned))
        ]
        self._expected = embed_images_exactly(model, self._pixels)
        self._fp32 = fp32
        fp32.embed(self._pixels)

    def measure(self, tower: ImageTower) -> Measurement:
        """Compare a tower with float32; raises RuntimeError where the device lacks a kernel that it needs."""
        vectors = tower.embed(self._pixels)
        fp32_s, seconds = _in_turns(self._fp32.embed, tower.embed, self._pixels)
        return Measurement(
            numerics=tower.numerics,
            min_cosine=_least_cosine(vectors, self._expected),
            recall_at_10=None,
            items_per_s=len(self._pixels) / seconds,
            speed=1.0 if tower.numerics == self._fp32.numerics else fp32_s / seconds,
            items=len(self._pixels),
        )


def fastest(measured: Sequence[Measurement], tolerance: float) -> Measurement | None:
    """Return the fastest that keeps the tolerance, of equals the first; None where none does."""
    kept = [one for one in measured if one.min_cosine >= tolerance]
    return max(kept, key=lambda one: one.speed, default=None)


def _in_turns(
    first: Callable[..., torch.Tensor], second: Callable[..., torch.Tensor], items: object
) -> tuple[float, float]:
    """Time two towers on the same items in turns, and return each one's least seconds."""
    pairs = [(_seconds(first, items), _seconds(second, items)) for _ in range(_ROUNDS)]
    return min(one for one, _ in pairs), min(other for _, other in pairs)


def _seconds(embed: Callable[..., torch.Tensor], items: object) -> float:
    start = time.perf_counter()
    embed(items)
    return time.perf_counter() - start


def _least_cosine(vectors: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the least cosine of two rows; not a number counts as none at all."""
    return float(functional.cosine_similarity(vectors, expected).nan_to_num(nan=-1.0).min())


def _nearest(vectors: torch.Tensor) -> torch.Tensor:
    """Return the nearest others of each row, (n, 10) int64."""
    unit = functional.normalize(vectors)
    scores = (unit @ unit.T).fill_diagonal_(-torch.inf)
    return scores.topk(_NEIGHBOURS).indices
