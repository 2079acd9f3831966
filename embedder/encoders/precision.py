"""Precision: which numerics class a tower runs in on this device, by what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import structlog
import torch
from torch.nn import functional

from embedder.encoders.library_image import LibraryImage, embed_images_exactly
from embedder.encoders.library_text import LibraryText, embed_texts_exactly
from embedder.encoders.measurement_store import MeasurementStore
from embedder.encoders.precision_measurement import ImageMeasurer, Measurement, TextMeasurer, fastest
from embedder.encoders.precision_policy import PrecisionPolicy, PrecisionSetting
from embedder.encoders.samples import SAMPLE_TEXTS, sample_image
from embedder.encoders.tower_builder import build_image, build_text, candidates
from embedder.encoders.towers import DETERMINISTIC, FP32, ImageModel, ImageTower, TextModel, TextTower
from embedder.errors import EncoderError, EncoderLoadError
from embedder.media.limits import MediaLimits

_log = structlog.get_logger(__name__)
_Tower = TypeVar("_Tower", TextTower, ImageTower)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice(Generic[_Tower]):
    """One side of an encoder whose precision is to be chosen.

    Attributes:
        medium: `text` or `image`, for the log.
        names: the precisions to choose from, the likely fastest first.
        build: makes a tower in a precision.
        keeps: whether a tower keeps the samples within the tolerance.
        measurer: makes what compares a tower with the reference; takes some seconds.
        reference: makes the tower in float32 that others are timed beside.
        plainest: makes the tower of the library's own forward in float32.
    """

    medium: str
    names: Sequence[PrecisionSetting]
    build: Callable[[PrecisionSetting], _Tower]
    keeps: Callable[[_Tower], bool]
    measurer: Callable[[_Tower], Callable[[_Tower], Measurement]]
    reference: Callable[[], _Tower]
    plainest: Callable[[], _Tower]


def text_tower(model: TextModel, device: torch.device, policy: PrecisionPolicy) -> TextTower:
    """Choose and build the text tower.

    Args:
        model: the loaded model.
        device: where it is to run.
        policy: a precision, or `auto` with its tolerance.
    Raises:
        EncoderLoadError: the device does not compute in that precision, or a library is missing.
    """

    def keeps(tower: TextTower) -> bool:
        tokens = model.tokenizer.tokenize(SAMPLE_TEXTS)
        return _keeps(tower.embed, tokens, embed_texts_exactly(model, tokens), policy.tolerance)

    choice: _Choice[TextTower] = _Choice(
        medium="text",
        names=candidates(device, policy.tolerance) if policy.setting == "auto" else (policy.setting,),
        build=lambda name: build_text(model, device, name, policy),
        keeps=keeps,
        measurer=lambda fp32: TextMeasurer(model, fp32).measure,
        reference=lambda: build_text(model, device, "fp32", replace(policy, deterministic=False)),
        plainest=lambda: LibraryText(model, device, FP32, deterministic=policy.deterministic),
    )
    return _take(choice, policy, model.identity, device)


def image_tower(model: ImageModel, device: torch.device, policy: PrecisionPolicy) -> ImageTower:
    """Choose and build the image tower, as `text_tower` does; with 8-bit texts on a CPU, images choose by themselves."""
    if policy.setting == "int8" and device.type == "cpu":
        policy = replace(policy, setting="auto")

    def keeps(tower: ImageTower) -> bool:
        pixels = [model.transform.prepare(sample_image(), MediaLimits())]
        return _keeps(tower.embed, pixels, embed_images_exactly(model, pixels), policy.tolerance)

    names = tuple(name for name in candidates(device, policy.tolerance) if name != "int8")
    choice: _Choice[ImageTower] = _Choice(
        medium="image",
        names=names if policy.setting == "auto" else (policy.setting,),
        build=lambda name: build_image(model, device, name, policy),
        keeps=keeps,
        measurer=lambda fp32: ImageMeasurer(model, fp32).measure,
        reference=lambda: LibraryImage(model, device, FP32),
        plainest=lambda: LibraryImage(model, device, FP32, deterministic=policy.deterministic),
    )
    return _take(choice, policy, model.identity, device)


def _take(choice: _Choice[_Tower], policy: PrecisionPolicy, identity: dict[str, str], device: torch.device) -> _Tower:
    if policy.folder is not None:
        store = MeasurementStore(policy.folder, identity, device)
        return _take_fastest(choice, policy, store)
    if policy.setting != "auto":
        return choice.build(policy.setting)
    for name in choice.names:
        tower = choice.build(name)
        if choice.keeps(tower):
            return tower
        tower.close()
    return choice.plainest()


def _take_fastest(choice: _Choice[_Tower], policy: PrecisionPolicy, store: MeasurementStore) -> _Tower:
    """Measure what was not measured before, and take the fastest that keeps the tolerance, or the one that was named."""
    suffix = DETERMINISTIC if policy.deterministic else ""
    missing = [name for name in choice.names if store.get(name + suffix) is None]
    if missing:
        _log.info("measuring precisions, once for this model on this machine", medium=choice.medium, precisions=missing)
        reference = choice.reference()
        try:
            measure = choice.measurer(reference)
            for name in missing:
                if found := _measure(choice, name, measure, is_named=policy.setting != "auto"):
                    store.put(name + suffix, found)
        finally:
            reference.close()
    measured = {name: found for name in choice.names if (found := store.get(name + suffix)) is not None}
    for found in measured.values():
        _report(choice.medium, found)
    best = fastest(list(measured.values()), policy.tolerance if policy.setting == "auto" else -1.0)
    if best is None:
        return choice.plainest()
    chosen = next(name for name, found in measured.items() if found is best)
    _log.info("precision chosen", medium=choice.medium, numerics=best.numerics, setting=policy.setting)
    return choice.build(chosen)


def _measure(
    choice: _Choice[_Tower],
    name: PrecisionSetting,
    measure: Callable[[_Tower], Measurement],
    *,
    is_named: bool,
) -> Measurement | None:
    """Build and measure one precision; None where `auto` must do without it."""
    try:
        tower = choice.build(name)
        try:
            return measure(tower)
        finally:
            tower.close()
    except (RuntimeError, EncoderError, EncoderLoadError) as error:
        if is_named and isinstance(error, EncoderLoadError):
            raise
        if is_named:
            raise EncoderLoadError(f"precision={name} does not run here: {error}") from error
        _log.warning("precision passed over", medium=choice.medium, precision=name, error=str(error))
        return None


def _report(medium: str, found: Measurement) -> None:
    _log.info(
        "precision measured",
        medium=medium,
        numerics=found.numerics,
        min_cosine=round(found.min_cosine, 6),
        recall_at_10=None if found.recall_at_10 is None else round(found.recall_at_10, 4),
        items_per_s=round(found.items_per_s, 1),
        speed_vs_fp32=round(found.speed, 2),
        items=found.items,
    )


def _keeps(embed: Callable[..., torch.Tensor], items: Sequence[object], exact: torch.Tensor, tolerance: float) -> bool:
    try:
        cosines = functional.cosine_similarity(embed(items), exact)
    except (RuntimeError, EncoderError):
        # The device lacks a kernel for this precision or shape.
        return False
    return bool((cosines >= tolerance).all())
