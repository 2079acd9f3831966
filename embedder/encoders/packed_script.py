"""Post-norm layers as one compiled program, so that a chunk runs without the interpreter's lock.

Eager operations take the lock between one another, some hundred times a chunk, and each time may wait for it behind the threads that
answer calls, while those wait for the chunk's. Compiled, the layers compute the same operations in the same order: the same bits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import structlog
import torch

from embedder.encoders.packed_attention import LEAST_SUM, MOST_SUM, BlockAttention
from embedder.encoders.packed_blocks import PackedBlock, PostNormBlock
from embedder.encoders.packed_layout import MAX_BLOCK_LENGTH, PackedLayout

_log = structlog.get_logger(__name__)

Layers = Callable[[torch.Tensor, PackedLayout], torch.Tensor]
"""All layers of a stack: (rows, width) to the same shape."""


def compile_layers(blocks: Sequence[PackedBlock]) -> Layers | None:
    """Compile a stack's layers.

    Returns:
        None where they are no post-norm layers of one shape that run oneDNN on this processor and add nothing to their scores, or
        where this torch compiles no such program; eager layers take their place.
    """
    layers = [block for block in blocks if isinstance(block, PostNormBlock)]
    if not layers or len(layers) < len(blocks) or not all(map(_is_plain, layers)):
        return None
    first = layers[0]
    eps = first.output_norm.eps
    if any(norm.eps != eps for layer in layers for norm in (layer.attention_norm, layer.output_norm)):
        return None
    weights = [_weights(layer) for layer in layers]
    operation, algorithm = first.up.fused
    try:
        with warnings.catch_warnings():
            # Deprecated in favour of compilers that need a C++ toolchain where the service runs, and still the one way to run many
            # operations under one release of the lock. Should it go, eager layers give the same vectors.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            program = torch.jit.script(_post_norm_layers)
    except (AttributeError, RuntimeError) as error:
        _log.info("layers run eagerly", reason=str(error).split("\n")[0])
        return None

    def run(x: torch.Tensor, layout: PackedLayout) -> torch.Tensor:
        buckets = layout.buckets
        result: torch.Tensor = program(
            x,
            weights,
            operation,
            algorithm,
            eps,
            first.heads,
            LEAST_SUM,
            MOST_SUM,
            layout.tokens,
            [bucket.texts for bucket in buckets],
            [bucket.length for bucket in buckets],
            [bucket.gather for bucket in buckets],
            [bucket.valid for bucket in buckets],
            layout.scatter,
        )
        return result

    return run


def fits(layout: PackedLayout) -> bool:
    """Tell whether every text is short enough for the compiled attention."""
    return all(bucket.length <= MAX_BLOCK_LENGTH for bucket in layout.buckets)


def _is_plain(layer: PostNormBlock) -> bool:
    linears = (layer.qkv, layer.out, layer.up, layer.down)
    return (
        isinstance(layer.attention, BlockAttention)
        and layer.bias is None
        and all(linear.is_blocked for linear in linears)
        and all(tensor is not None for tensor in _weights(layer))
    )


def _weights(layer: PostNormBlock) -> list[torch.Tensor | None]:
    linears = (layer.qkv, layer.out, layer.up, layer.down)
    norms = (layer.attention_norm, layer.output_norm)
    return [tensor for part in (*linears, *norms) for tensor in (part.weight, part.bias)]


def _post_norm_layers(
    x: torch.Tensor,
    weights: list[list[torch.Tensor]],
    operation: str,
    algorithm: str,
    eps: float,
    heads: int,
    least_sum: float,
    most_sum: float,
    tokens: int,
    texts: list[int],
    lengths: list[int],
    gathers: list[torch.Tensor],
    valids: list[torch.Tensor],
    scatter: torch.Tensor,
) -> torch.Tensor:
    """What `PostNormBlock` does with `BlockAttention`, for every layer, in the subset of Python that TorchScript compiles."""
    width = x.size(1)
    blocks = 0
    for i in range(len(texts)):
        blocks += texts[i] * lengths[i] * heads
    for w in weights:
        x[tokens:].zero_()
        qkv = torch.ops.mkldnn._linear_pointwise(x, w[0], w[1], "none", [], "")
        head_dim = qkv.size(1) // (3 * heads)
        rows = qkv.view([-1, head_dim])
        mixed = torch.empty([blocks, head_dim], dtype=rows.dtype)
        filled = 0
        for i in range(len(texts)):
            batch, length = texts[i] * heads, lengths[i]
            query_key_value = rows.index_select(0, gathers[i]).view([3, batch, length, head_dim])
            scores = torch.bmm(query_key_value[0], query_key_value[1].transpose(1, 2)).exp_()  # (batch, length, length)
            sums = torch.bmm(scores, valids[i])
            least, most = torch.aminmax(sums)
            if not bool((least > least_sum) & (most < most_sum)):
                scores = torch.bmm(query_key_value[0], query_key_value[1].transpose(1, 2))
                scores.masked_fill_(valids[i].transpose(1, 2) == 0, float("-inf"))
                scores = scores.sub_(scores.amax(dim=2, keepdim=True)).exp_()
                sums = torch.bmm(scores, valids[i])
            block = mixed[filled : filled + batch * length].view([batch, length, head_dim])
            torch.bmm(scores, query_key_value[2], out=block)
            block.div_(sums)
            filled += batch * length
        attended = mixed.index_select(0, scatter).view([x.size(0), width])
        x = torch.ops.mkldnn._linear_pointwise(attended, w[2], w[3], "none", [], "").add_(x)
        x = torch.layer_norm(x, [width], w[8], w[9], eps)
        inner = torch.ops.mkldnn._linear_pointwise(x, w[4], w[5], operation, [], algorithm)
        x = torch.ops.mkldnn._linear_pointwise(inner, w[6], w[7], "none", [], "").add_(x)
        x = torch.layer_norm(x, [width], w[10], w[11], eps)
    return x
