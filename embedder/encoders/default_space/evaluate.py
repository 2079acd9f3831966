"""Measures an image head: caption retrieval, naming photographs; and the text tower: sentence similarity."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn
from torch.nn import functional

HELD_OUT_CAPTIONS = 100
_RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Captioned:
    """n images and their captions, one to one.

    Attributes:
        features: (n, 1280) float32, pooled image features.
        vectors: (n, 384) float32, unit vectors of the captions.
    """

    features: torch.Tensor
    vectors: torch.Tensor


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One random choice of captions that a training must not see.

    Attributes:
        test: index of one picture for each caption.
        keys: the captions' keys.
    """

    test: list[int]
    keys: frozenset[str]


def hold_out(keys: Sequence[str], pool: Sequence[int], seed: int) -> HeldOut:
    """Choose 100 captions at random, and one picture of each.

    Args:
        keys: caption key of every picture.
        pool: indices of the pictures to choose among.
        seed: same seed, same choice.
    """
    generator = np.random.default_rng(seed)
    chosen = generator.choice(sorted({keys[index] for index in pool}), HELD_OUT_CAPTIONS, replace=False).tolist()
    test = [int(generator.choice([index for index in pool if keys[index] == key])) for key in chosen]
    return HeldOut(test, frozenset(chosen))


def measure_retrieval(head: nn.Module, captioned: Captioned) -> dict[str, float]:
    """Rank all captions for each image, and all images for each caption.

    Returns:
        Share of images whose own caption is among the first 1, 5, 10 (`image_to_text_r1`, ...), and the other way round.
    """
    with torch.inference_mode():
        images = functional.normalize(head(captioned.features), dim=1)
    cosines = images @ captioned.vectors.T  # (n, n)
    own = cosines.diagonal()
    better = {"image_to_text": (cosines > own[:, None]).sum(dim=1), "text_to_image": (cosines > own).sum(dim=0)}
    return {
        f"{way}_r{rank}": float((rivals < rank).float().mean()) for way, rivals in better.items() for rank in _RANKS
    }


def summarize(splits: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and sample standard deviation of each figure over the splits."""
    return {
        name: {
            "mean": round(statistics.mean(split[name] for split in splits), 3),
            "std": round(statistics.stdev(split[name] for split in splits), 3),
        }
        for name in splits[0]
    }


def name_images(head: nn.Module, features: torch.Tensor, labels: torch.Tensor) -> list[int]:
    """Index of the nearest label for each image; features (n, 1280), labels (m, 384) unit vectors."""
    with torch.inference_mode():
        nearest: list[int] = (head(features) @ labels.T).argmax(dim=1).tolist()
    return nearest


def measure_sentences(file: Path, embed: Callable[[Sequence[str]], torch.Tensor]) -> float:
    """Spearman's correlation of cosines with people's scores, on a file of STS-B (tab-separated).

    Args:
        file: `sts-test.csv`.
        embed: texts to unit vectors (n, dim).
    Source: Cer et al. 2017, SemEval-2017 task 1.
    """
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))
    first, second = embed([row[5] for row in rows]), embed([row[6] for row in rows])
    return float(spearmanr((first * second).sum(dim=1).numpy(), [float(row[4]) for row in rows]).statistic)
