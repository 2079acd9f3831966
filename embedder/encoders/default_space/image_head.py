"""The image head: pooled image features to the text tower's vector space."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import nn
from torch.nn import functional


class HeadShape(NamedTuple):
    """Sizes of an image head.

    Attributes:
        features: channels of the pooled image features.
        components: directions of the features that the pictures are compared in.
        centres: pictures and class prototypes that an image is compared with.
        classes: how many classes the frozen classifier knows.
        dim: length of the text tower's vectors.
    """

    features: int
    components: int
    centres: int
    classes: int
    dim: int


class ImageHead(nn.Module):
    """Says where an image lies among the captions, in two ways that are added.

    The first compares the image with the training pictures and with the classifier's own prototypes, by a Gaussian kernel on
    standardized features of unit length, and mixes what their captions taught (kernel ridge regression, solved in closed form).
    The second needs no caption: the classifier's probabilities mix the embedded names of its classes (ConSE).
    Both are brought to unit length; `conse_weight` says how much the second adds to the first.

    Source: Norouzi et al. 2013, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (ConSE).
    """

    feature_mean: torch.Tensor
    feature_std: torch.Tensor
    basis: torch.Tensor
    centres: torch.Tensor
    coefficients: torch.Tensor
    kernel_sharpness: torch.Tensor
    class_weight: torch.Tensor
    class_bias: torch.Tensor
    class_vectors: torch.Tensor
    class_temperature: torch.Tensor
    conse_weight: torch.Tensor

    def __init__(self, shape: HeadShape) -> None:
        """Make a head of zeros; `load_state_dict` fills it."""
        super().__init__()
        sizes = {
            "feature_mean": (shape.features,),
            "feature_std": (shape.features,),
            "basis": (shape.features, shape.components),
            "centres": (shape.centres, shape.components),
            "coefficients": (shape.centres, shape.dim),
            "kernel_sharpness": (),
            "class_weight": (shape.classes, shape.features),
            "class_bias": (shape.classes,),
            "class_vectors": (shape.classes, shape.dim),
            "class_temperature": (),
            "conse_weight": (),
        }
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size))

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """Follow the model to a device, but stay in float32: bfloat16 here costs 0.01 of cosine (measured)."""
        for name, value in self.named_buffers():
            setattr(self, name, value.to(fn(value).device))
        return self

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Map pooled features (n, features) to float32 vectors (n, dim) in the text tower's space, not of unit length."""
        pooled = pooled.float()
        standard = functional.normalize((pooled - self.feature_mean) / self.feature_std, dim=-1)
        likeness = (standard @ self.basis) @ self.centres.T  # (n, centres), a cosine but for the directions left out
        learned = gaussian_kernel(likeness, self.kernel_sharpness) @ self.coefficients  # (n, dim)
        logits = functional.linear(pooled, self.class_weight, self.class_bias)  # (n, classes)
        named = (logits / self.class_temperature).softmax(dim=-1) @ self.class_vectors  # (n, dim)
        return functional.normalize(learned, dim=-1) + self.conse_weight * functional.normalize(named, dim=-1)


def gaussian_kernel(cosine: torch.Tensor, sharpness: torch.Tensor | float) -> torch.Tensor:
    """Return exp(-sharpness * squared distance) of unit vectors whose cosine is given; any shape."""
    return torch.exp(2 * sharpness * (cosine - 1))
