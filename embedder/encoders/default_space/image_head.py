"""The image head: pooled image features to the text tower's vector space."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class ImageHead(nn.Module):
    """A trained linear projection, plus what the frozen classifier says in words.

    The second term is a convex combination of embedded class names, weighted by the classifier's probabilities; it needs no captions.
    Both terms are unit vectors; `conse_weight` says how much the second adds to the first.

    Source: Norouzi et al. 2013, "Zero-Shot Learning by Convex Combination of Semantic Embeddings" (ConSE).
    """

    projection: torch.Tensor
    projection_bias: torch.Tensor
    class_weight: torch.Tensor
    class_bias: torch.Tensor
    class_vectors: torch.Tensor
    class_temperature: torch.Tensor
    conse_weight: torch.Tensor

    def __init__(self, features: int, dim: int, classes: int) -> None:
        """Make a head of zeros; `load_state_dict` fills it.

        Args:
            features: channels of the pooled image features.
            dim: length of the text tower's vectors.
            classes: how many classes the frozen classifier knows.
        """
        super().__init__()
        shapes = {
            "projection": (dim, features),
            "projection_bias": (dim,),
            "class_weight": (classes, features),
            "class_bias": (classes,),
            "class_vectors": (classes, dim),
            "class_temperature": (),
            "conse_weight": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Project pooled features (n, features) to vectors (n, dim) in the text tower's space, not of unit length."""
        learned = functional.linear(pooled, self.projection, self.projection_bias)  # (n, dim)
        logits = functional.linear(pooled, self.class_weight, self.class_bias)  # (n, classes)
        named = (logits / self.class_temperature).softmax(dim=-1) @ self.class_vectors  # (n, dim)
        return functional.normalize(learned, dim=-1) + self.conse_weight * functional.normalize(named, dim=-1)
