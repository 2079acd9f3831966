"""Fits the image head in closed form: kernel ridge regression from pictures and class prototypes to captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from embedder.encoders.default_space.image_head import HeadShape, ImageHead, gaussian_kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSettings:
    """How an image head is fitted; the defaults were chosen on validation splits and photographs (see the model card).

    Attributes:
        kernel_sharpness: how fast likeness falls with distance.
        ridge: regularization; larger trusts a single picture less.
        components: directions of the features that are kept.
        spread_damping: how little the captions' own spread is undone, as a share of its mean variance.
        class_temperature: above 1 the classifier's probabilities are flatter.
        conse_weight: weight of the classifier's words beside what the captions taught.
    """

    kernel_sharpness: float = 2.0
    ridge: float = 0.3
    components: int = 256
    spread_damping: float = 1.0
    class_temperature: float = 0.5
    conse_weight: float = 0.5


@dataclass(frozen=True, slots=True)
class CaptionedFeatures:
    """n pictures as the frozen towers see them.

    Attributes:
        features: (n, 1280) float32, pooled image features.
        vectors: (n, 384) float32, unit vectors of the captions.
        noise: (n,) float32, how unreliable each caption is; 1 is the rule.
    """

    features: torch.Tensor
    vectors: torch.Tensor
    noise: torch.Tensor


@dataclass(frozen=True, slots=True)
class ImageClasses:
    """The frozen classifier and what its classes are called.

    Attributes:
        classifier: `class_weight` (c, 1280) and `class_bias` (c,).
        vectors: (c, 384) float32, unit vectors of the classes' names.
    """

    classifier: Mapping[str, torch.Tensor]
    vectors: torch.Tensor


def fit_head(pictures: CaptionedFeatures, classes: ImageClasses, settings: HeadSettings) -> ImageHead:
    """Fit an image head; the same input gives the same head.

    Each row of the classifier is the prototype of its class in feature space and counts as one more picture, whose caption is the
    class's name.

    Returns:
        The head in eval mode, in float32.
    """
    mean, std = pictures.features.mean(dim=0), pictures.features.std(dim=0) + 1e-6
    seen = functional.normalize((pictures.features - mean) / std, dim=1)
    prototypes = functional.normalize(classes.classifier["class_weight"] * std, dim=1)
    directions = torch.cat([seen, prototypes])  # (centres, features)
    basis = torch.linalg.eigh(directions.T @ directions).eigenvectors[:, -settings.components :]
    centres = directions @ basis
    targets = torch.cat([_centred(pictures.vectors), _centred(classes.vectors)])  # (centres, dim)
    noise = torch.cat([pictures.noise, torch.ones(len(prototypes))])
    kernel = gaussian_kernel(centres @ centres.T, settings.kernel_sharpness)
    kernel.diagonal().add_(settings.ridge * noise)
    # Distances in fewer directions are not quite a Gaussian kernel's, so the matrix is symmetric but may miss being definite.
    coefficients = torch.linalg.solve(kernel, targets) @ _undo_spread(pictures.vectors, settings.spread_damping)
    # Only the direction counts; a scale near 1 keeps the file's float16 and bytes exact.
    coefficients /= coefficients.norm(dim=1).mean()
    head = ImageHead(
        HeadShape(
            features=len(mean),
            components=settings.components,
            centres=len(centres),
            classes=len(prototypes),
            dim=targets.shape[1],
        )
    )
    head.load_state_dict(
        {
            "feature_mean": mean,
            "feature_std": std,
            "basis": basis,
            "centres": centres,
            "coefficients": coefficients,
            "kernel_sharpness": torch.tensor(settings.kernel_sharpness),
            "class_vectors": classes.vectors,
            "class_temperature": torch.tensor(settings.class_temperature),
            "conse_weight": torch.tensor(settings.conse_weight),
            **classes.classifier,
        }
    )
    return head.eval()


def _centred(vectors: torch.Tensor) -> torch.Tensor:
    return vectors - vectors.mean(dim=0)


def _undo_spread(vectors: torch.Tensor, damping: float) -> torch.Tensor:
    """Return (dim, dim): directions in which captions differ much, or little, come to count alike when cosines are compared."""
    covariance = torch.cov(vectors.T)
    damped = covariance + damping * covariance.diagonal().mean() * torch.eye(len(covariance))
    inverse: torch.Tensor = torch.linalg.inv(damped)
    return inverse
