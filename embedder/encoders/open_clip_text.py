"""The text towers of open_clip's own architectures, under one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class OpenClipText(nn.Module):
    """An open_clip model's own `encode_text`."""

    def __init__(self, model: Any) -> None:
        """Keep the model, image tower included, since `encode_text` is the whole model's."""
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map ids (n, context) int64 to (n, dim); open_clip knows the padding by its id, so `mask` is not read."""
        vectors: torch.Tensor = self.model.encode_text(ids)
        return vectors


class CausalClipText(nn.Module):
    """A causal CLIP text tower that stops at the batch's longest text instead of at 77 tokens.

    Attention looks back only and the vector is read at the end-of-text token: what stands behind it changes nothing.

    Source: Radford et al. 2021, section 2.4.
    """

    def __init__(self, model: Any) -> None:
        """Take the text tower's parts from a model that `fits`."""
        super().__init__()
        tower = getattr(model, "text", model)
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self.text_projection = tower.text_projection
        self.attn_mask: torch.Tensor
        self.register_buffer("attn_mask", tower.attn_mask, persistent=False)
        pool = getattr(model, "text_pool_type", None) or tower.pool_type
        self._eos_id: int | None = (getattr(model, "text_eos_id", None) or tower.eos_id) if pool == "eos" else None

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a text tower is causal, without an appended class token, and read at its end-of-text token."""
        tower = getattr(model, "text", model)
        pool = getattr(model, "text_pool_type", None) or getattr(tower, "pool_type", None)
        causal = getattr(tower, "attn_mask", None) is not None and getattr(tower, "cls_emb", None) is None
        return causal and pool in ("argmax", "eos")

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map ids (n, t) int64, padded on the right, to (n, dim); `mask` is not needed."""
        length = ids.shape[1]
        hidden = self.token_embedding(ids) + self.positional_embedding[:length]  # (n, t, width)
        hidden = self.transformer(hidden, attn_mask=self.attn_mask[:length, :length])
        # The end-of-text token has the highest id, unless the tokenizer says which one it is.
        ends = ids.argmax(dim=-1) if self._eos_id is None else (ids == self._eos_id).int().argmax(dim=-1)
        pooled = self.ln_final(hidden[torch.arange(len(ids), device=ids.device), ends])  # (n, width)
        if self.text_projection is None:
            vectors: torch.Tensor = pooled
        elif isinstance(self.text_projection, nn.Linear):
            vectors = self.text_projection(pooled)
        else:
            vectors = pooled @ self.text_projection
        return vectors
