"""Which transformers models have a packed forward, and where their weights are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from embedder.encoders.packed_attention import (
    BlockAttention,
    PackedAttention,
    RelativeBias,
    ScoreBias,
    SlidingWindow,
    VarlenAttention,
)
from embedder.encoders.packed_blocks import GatedPreNormBlock, Norm, PackedBlock, PostNormBlock
from embedder.encoders.packed_linear import Activation, PackedLinear

_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}
_POSITIONS_BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet"})

Rotary = Callable[[torch.Tensor], dict[str, tuple[torch.Tensor, torch.Tensor]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedStack:
    """A transformer taken apart for packed tokens.

    Attributes:
        words: (vocabulary, width) float32, row of each token id.
        places: (positions, width) float32 added by position, token type included; None with rotary positions.
        embedding_norm: behind the sum of both.
        blocks: the layers, in order.
        final_norm: behind the last layer.
        attention: how attention runs.
        padding_id: see `embedder.encoders.packed_layout.lay_out`.
        rotary: positions (rows,) to rotations by layer type; None without rotary positions.
    """

    words: torch.Tensor
    places: torch.Tensor | None
    embedding_norm: Norm
    blocks: tuple[PackedBlock, ...]
    final_norm: Norm
    attention: PackedAttention
    padding_id: int | None
    rotary: Rotary | None = None


def build_stack(transformer: Any, like: torch.Tensor) -> PackedStack | None:
    """Take a transformers model apart.

    Args:
        transformer: the loaded model, in float32.
        like: gives device and dtype to compute in; on CUDA a 16-bit dtype.
    Returns:
        None where the architecture, or a setting of it, has no packed forward.
    """
    config = transformer.config
    family: str = config.model_type
    if family == "modernbert":
        return _modernbert(transformer, like)
    if family in ("bert", *_POSITIONS_BEHIND_PADDING):
        return _bert_family(transformer, like)
    if family == "distilbert":
        return _distilbert(transformer, like)
    return None


def _attention(heads: int, like: torch.Tensor) -> PackedAttention:
    return VarlenAttention(like.device) if like.is_cuda else BlockAttention(heads, like.dtype)


def _bert_family(model: Any, like: torch.Tensor) -> PackedStack | None:
    config, embeddings = model.config, model.embeddings
    activation = _ACTIVATIONS.get(config.hidden_act)
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    is_mpnet = config.model_type == "mpnet"
    if activation is None or not absolute or getattr(config, "is_decoder", False) or (is_mpnet and like.is_cuda):
        return None
    heads = config.num_attention_heads
    attention = _attention(heads, like)
    bias = _mpnet_bias(model, like) if is_mpnet else None
    places = embeddings.position_embeddings.weight.detach()
    if not is_mpnet:
        places = places + embeddings.token_type_embeddings.weight.detach()[0]
    return PackedStack(
        words=embeddings.word_embeddings.weight.detach().to(like.device),
        places=places.to(like.device),
        embedding_norm=Norm(embeddings.LayerNorm, like.device),
        blocks=tuple(_post_norm_block(layer, attention, bias, activation, like) for layer in model.encoder.layer),
        final_norm=Norm(nn.Identity(), like.device),
        attention=attention,
        padding_id=config.pad_token_id if config.model_type in _POSITIONS_BEHIND_PADDING else None,
    )


def _post_norm_block(
    layer: Any, attention: PackedAttention, bias: ScoreBias | None, activation: Activation, like: torch.Tensor
) -> PostNormBlock:
    inner = layer.attention
    if hasattr(inner, "attn"):  # MPNet's names
        query, key, value, out = inner.attn.q, inner.attn.k, inner.attn.v, inner.attn.o
        norm, heads = inner.LayerNorm, inner.attn.num_attention_heads
    else:
        query, key, value, out = inner.self.query, inner.self.key, inner.self.value, inner.output.dense
        norm, heads = inner.output.LayerNorm, inner.self.num_attention_heads
    qkv, joined = _post_norm_attention(query, key, value, out, heads, like)
    return PostNormBlock(
        heads=heads,
        attention=attention,
        bias=bias,
        qkv=qkv,
        out=joined,
        up=PackedLinear(
            layer.intermediate.dense.weight, layer.intermediate.dense.bias, like=like, activation=activation
        ),
        down=PackedLinear(layer.output.dense.weight, layer.output.dense.bias, like=like),
        attention_norm=Norm(norm, like.device),
        output_norm=Norm(layer.output.LayerNorm, like.device),
    )


def _distilbert(model: Any, like: torch.Tensor) -> PackedStack | None:
    config, embeddings = model.config, model.embeddings
    activation = _ACTIVATIONS.get(config.activation)
    if activation is None:
        return None
    attention = _attention(config.n_heads, like)
    blocks = []
    for layer in model.transformer.layer:
        inner = layer.attention
        qkv, out = _post_norm_attention(inner.q_lin, inner.k_lin, inner.v_lin, inner.out_lin, config.n_heads, like)
        blocks.append(
            PostNormBlock(
                heads=config.n_heads,
                attention=attention,
                bias=None,
                qkv=qkv,
                out=out,
                up=PackedLinear(layer.ffn.lin1.weight, layer.ffn.lin1.bias, like=like, activation=activation),
                down=PackedLinear(layer.ffn.lin2.weight, layer.ffn.lin2.bias, like=like),
                attention_norm=Norm(layer.sa_layer_norm, like.device),
                output_norm=Norm(layer.output_layer_norm, like.device),
            )
        )
    return PackedStack(
        words=embeddings.word_embeddings.weight.detach().to(like.device),
        places=embeddings.position_embeddings.weight.detach().to(like.device),
        embedding_norm=Norm(embeddings.LayerNorm, like.device),
        blocks=tuple(blocks),
        final_norm=Norm(nn.Identity(), like.device),
        attention=attention,
        padding_id=None,
    )


def _post_norm_attention(
    query: Any, key: Any, value: Any, out: Any, heads: int, like: torch.Tensor
) -> tuple[PackedLinear, PackedLinear]:
    """Join queries, keys and values into one layer, and give it with the output's."""
    scale = (query.out_features // heads) ** -0.5
    weight = torch.cat([query.weight * scale, key.weight, value.weight])
    # A key's bias adds the same to all scores of a query, which the softmax takes out again. A value's bias reaches
    # every token whole, since weights sum to 1, so it moves into the output's bias.
    only_queries = torch.cat([query.bias * scale, torch.zeros_like(key.bias), torch.zeros_like(value.bias)])
    return (
        PackedLinear(weight, only_queries, like=like),
        PackedLinear(out.weight, out.bias + out.weight @ value.bias, like=like),
    )


def _mpnet_bias(model: Any, like: torch.Tensor) -> RelativeBias:
    positions = model.config.max_position_embeddings
    # The library computes it for a batch of hidden states, of which only the shape is read.
    bias = model.encoder.compute_position_bias(torch.empty(1, positions, 0))  # (1, heads, positions, positions)
    return RelativeBias(bias[0].detach().to(like.device, like.dtype))


def _modernbert(model: Any, like: torch.Tensor) -> PackedStack | None:
    config = model.config
    activation = _ACTIVATIONS.get(config.hidden_activation)
    if activation is None or config.attention_bias or config.mlp_bias:
        return None
    heads = config.num_attention_heads
    attention = _attention(heads, like)
    window = SlidingWindow(config.sliding_window, like)
    return PackedStack(
        words=model.embeddings.tok_embeddings.weight.detach().to(like.device),
        places=None,
        embedding_norm=Norm(model.embeddings.norm, like.device),
        blocks=tuple(_pre_norm_block(layer, attention, window, activation, like) for layer in model.layers),
        final_norm=Norm(model.final_norm, like.device),
        attention=attention,
        padding_id=None,
        rotary=_rotary(model, like.device),
    )


def _pre_norm_block(
    layer: Any, attention: PackedAttention, window: SlidingWindow, activation: Activation, like: torch.Tensor
) -> GatedPreNormBlock:
    width = layer.attn.Wqkv.in_features
    heads = layer.attn.config.num_attention_heads
    weight = layer.attn.Wqkv.weight.clone()
    weight[:width] *= (width // heads) ** -0.5
    up, gate = layer.mlp.Wi.weight.chunk(2)
    return GatedPreNormBlock(
        heads=heads,
        attention=attention,
        bias=window if layer.attention_type == "sliding_attention" else None,
        layer_type=layer.attention_type,
        attention_norm=Norm(layer.attn_norm, like.device),
        qkv=PackedLinear(weight, None, like=like),
        out=PackedLinear(layer.attn.Wo.weight, None, like=like),
        feed_norm=Norm(layer.mlp_norm, like.device),
        up=PackedLinear(up, None, like=like, activation=activation),
        gate=PackedLinear(gate, None, like=like),
        down=PackedLinear(layer.mlp.Wo.weight, None, like=like),
    )


def _rotary(model: Any, device: torch.device) -> Rotary:
    layer_types = sorted(set(model.config.layer_types))
    places = torch.arange(model.config.max_position_embeddings)[None]
    half = model.config.hidden_size // model.config.num_attention_heads // 2
    tables: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for layer_type in layer_types:
        cosine, sine = model.rotary_emb(torch.empty(0), places, layer_type)  # (1, positions, head_dim) float32
        # The library repeats each angle for both halves of a head.
        tables[layer_type] = (cosine[0, :, :half].to(device), sine[0, :, :half].to(device))

    def rotations(positions: torch.Tensor) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        return {
            name: (cosine[positions][:, None, None], sine[positions][:, None, None])
            for name, (cosine, sine) in tables.items()
        }

    return rotations
