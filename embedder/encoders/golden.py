"""Golden items: before anything is served, an encoder shows that it gives the vectors that it should."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from embedder.encoders.base import Vectors
from embedder.encoders.precision_policy import MIN_COSINE
from embedder.encoders.samples import SAMPLE_TEXTS, sample_image
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.errors import GoldenMismatch
from embedder_client.content_hash import Modality


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """What a check found.

    Attributes:
        min_cosine: the least cosine between a golden vector and what it should be.
        seconds: how long the check took.
        items: how many vectors were compared, stored ones included.
    """

    min_cosine: float
    seconds: float
    items: int


def check_golden(encoder: TowerEncoder, path: Path | None, *, min_cosine: float = MIN_COSINE) -> GoldenReport:
    """Encode the golden items in one batch and compare them with each alone in float32, and with earlier starts.

    Args:
        encoder: the encoder that is to be served.
        path: folder of stored golden vectors, beside the cache: one file for each space, written when it is missing.
            None compares with float32 only.
        min_cosine: the least that may be served; see `PrecisionPolicy.golden_cosine`.
    Raises:
        GoldenMismatch: a vector is further away than `min_cosine`, or the stored file can't be read; do not serve.
    """
    started = time.perf_counter()
    batched, exact = _encode_both_ways(encoder)
    cosines = [_compare(batched, exact, "in float32, alone", min_cosine)]
    if path is not None:
        file = path / f"{encoder.info.space_digest.hex()}.safetensors"
        if file.is_file():
            cosines.append(_compare(batched, _read(file), f"stored in {file}", min_cosine))
        else:
            _write(file, batched)
    return GoldenReport(
        min_cosine=float(min(map(np.min, cosines))),
        seconds=time.perf_counter() - started,
        items=sum(map(len, cosines)),
    )


def _encode_both_ways(encoder: TowerEncoder) -> tuple[dict[str, Vectors], dict[str, Vectors]]:
    batched, exact = {}, {}
    if Modality.TEXT in encoder.info.modalities:
        tokens = encoder.prepare_texts(SAMPLE_TEXTS)
        batched["text"], exact["text"] = encoder.encode_texts(tokens), encoder.encode_texts_exact(tokens)
    if Modality.IMAGE in encoder.info.modalities:
        picture = encoder.prepare_image(sample_image())
        pixels = [picture, np.ascontiguousarray(picture[:, ::-1, ::-1])]
        batched["image"], exact["image"] = encoder.encode_images(pixels), encoder.encode_images_exact(pixels)
    return batched, exact


def _compare(vectors: dict[str, Vectors], expected: dict[str, Vectors], where: str, min_cosine: float) -> Vectors:
    """Return the cosines of all items; both sides hold unit vectors by medium."""
    if {medium: rows.shape for medium, rows in vectors.items()} != {
        medium: rows.shape for medium, rows in expected.items()
    }:
        raise GoldenMismatch(f"the golden vectors {where} are of other items: delete them if the service was updated")
    found = []
    for medium, rows in vectors.items():
        cosines: Vectors = np.einsum("nd,nd->n", rows, expected[medium])
        worst = int(np.argmin(np.where(np.isfinite(cosines), cosines, -np.inf)))
        # Not a number is no agreement.
        if not cosines[worst] >= min_cosine:
            raise GoldenMismatch(
                f"golden {medium} {worst} has cosine {cosines[worst]:.6f} to its vector {where}; {min_cosine} is wanted: "
                "choose precision=auto, or look for a damaged model or library"
            )
        found.append(cosines)
    return np.concatenate(found)


def _read(file: Path) -> dict[str, Vectors]:
    try:
        return safetensors.numpy.load_file(file)
    except (OSError, SafetensorError) as error:
        raise GoldenMismatch(f"the golden vectors in {file} can't be read ({error}); delete the file") from error


def _write(file: Path, vectors: dict[str, Vectors]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Another process may start at the same moment: each writes its own file, and a rename is whole.
    unfinished = file.with_suffix(f".{os.getpid()}")
    safetensors.numpy.save_file(vectors, unfinished)
    unfinished.replace(file)
