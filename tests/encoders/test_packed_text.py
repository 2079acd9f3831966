"""The packed forward equals the library's own, for each family of models."""

from __future__ import annotations

import dataclasses
import re
from itertools import repeat

import numpy as np
import pytest
import torch
import transformers
from torch.nn.functional import cosine_similarity

from embedder.encoders.batching import packed_chunks, padded_chunks
from embedder.encoders.library_text import LibraryText, TransformersText, embed_texts_exactly
from embedder.encoders.packed_layout import lay_out_blocks
from embedder.encoders.packed_text import build_packed_text
from embedder.encoders.pooling import POOLING_MODES, pool_packed
from embedder.encoders.towers import BF16, FP32, TextModel
from embedder.encoders.transformers_models import load_transformers_text

CPU = torch.device("cpu")
PACKED = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet", "modernbert", "distilbert")


@pytest.fixture(params=PACKED)
def model(request: pytest.FixtureRequest, text_folder) -> TextModel:
    return load_transformers_text(text_folder(request.param))


def token_ids(lengths: list[int], *, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.integers(4, 40, length).astype(np.int32) for length in lengths]


# Ties, single tokens, lengths around a bucket's edges, and longer than a sliding window.
LENGTHS = [3, 5, 5, 1, 9, 17, 40, 41, 100, 300, 2, 64, 65, *range(4, 60, 3)]


def test_packed_vectors_equal_the_librarys(model: TextModel) -> None:
    tokens = token_ids(LENGTHS)
    tokens[4][3] = model.tokenizer.pad_id  # a text may spell the padding token out
    packed = build_packed_text(model, CPU, FP32)
    assert packed is not None
    assert packed.numerics == "fp32-packed"
    vectors, exact = packed.embed(tokens), embed_texts_exactly(model, tokens)
    packed.close()
    torch.testing.assert_close(vectors, exact, atol=2e-4, rtol=1e-4)
    assert cosine_similarity(vectors, exact).min() > 0.999999


def test_packed_vectors_in_bf16_stay_near(model: TextModel) -> None:
    tokens = token_ids(LENGTHS)
    packed = build_packed_text(model, CPU, BF16)
    assert packed is not None
    assert packed.numerics == "bf16-packed"
    vectors = packed.embed(tokens)
    packed.close()
    assert cosine_similarity(vectors, embed_texts_exactly(model, tokens)).min() > 0.999


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
@pytest.mark.parametrize("sign", [1, -1])
def test_scores_beyond_what_exponentials_hold_are_attended_all_the_same(text_folder, family, sign) -> None:
    """Some texts of real mails have attention scores that overflow or underflow; no vector may turn NaN from it."""
    model = load_transformers_text(text_folder(family))
    assert isinstance(model.module, TransformersText)
    with torch.no_grad():
        for name, weight in model.module.transformer.named_parameters():
            if re.search(r"(query|attn\.q|Wqkv)\.weight$", name):
                weight[: weight.shape[1]] *= (
                    4_000 * sign
                )  # the queries', also where they share a layer with keys and values
    tokens = token_ids(LENGTHS)
    packed = build_packed_text(model, CPU, FP32)
    assert packed is not None
    vectors, exact = packed.embed(tokens), embed_texts_exactly(model, tokens)
    packed.close()
    assert vectors.isfinite().all()
    assert cosine_similarity(vectors, exact).min() > 0.999


@pytest.mark.parametrize("family", [*PACKED, "electra"])
def test_vectors_do_not_hang_on_neighbours_order_or_batch_size(load, text_folder, family) -> None:
    encoder = load(text_folder(family), precision="fp32")
    tokens = token_ids(LENGTHS)
    exact = encoder.encode_texts_exact(tokens)
    shuffled = np.random.default_rng(1).permutation(len(tokens))
    for size in (1, 3, len(tokens)):
        for order in (np.arange(len(tokens)), shuffled):
            parts = [order[start : start + size] for start in range(0, len(order), size)]
            vectors = np.concatenate([encoder.encode_texts([tokens[index] for index in part]) for part in parts])
            assert np.einsum("nd,nd->n", vectors, exact[order]).min() > 0.99999


def test_texts_longer_than_a_block_go_the_long_way(text_folder) -> None:
    model = load_transformers_text(text_folder("modernbert"))
    tokens = token_ids([1500, 30, 1100])
    packed = build_packed_text(model, CPU, FP32)
    assert packed is not None
    vectors = packed.embed(tokens)
    packed.close()
    assert cosine_similarity(vectors, embed_texts_exactly(model, tokens)).min() > 0.999999


@pytest.mark.parametrize("pooling", POOLING_MODES)
def test_every_pooling_is_the_same_packed_and_padded(text_folder, pooling) -> None:
    model = load_transformers_text(text_folder())
    assert isinstance(model.module, TransformersText)
    model.module.pooling = pooling
    tokens = token_ids([5, 12, 12, 40, 1])
    packed, padded = build_packed_text(model, CPU, FP32), LibraryText(model, CPU, FP32)
    assert packed is not None
    exact = embed_texts_exactly(model, tokens)
    torch.testing.assert_close(packed.embed(tokens), exact, atol=2e-4, rtol=1e-4)
    torch.testing.assert_close(padded.embed(tokens), exact, atol=2e-4, rtol=1e-4)
    packed.close()
    padded.close()


def test_pooling_takes_what_it_says() -> None:
    hidden = torch.tensor([[1.0, 5.0], [3.0, 1.0], [7.0, 7.0]])
    lengths = torch.tensor([2, 1])
    expected = {"mean": [[2, 3], [7, 7]], "cls": [[1, 5], [7, 7]], "last": [[3, 1], [7, 7]], "max": [[3, 5], [7, 7]]}
    for mode in POOLING_MODES:
        torch.testing.assert_close(pool_packed(hidden, lengths, mode), torch.tensor(expected[mode]).float())


@pytest.mark.parametrize(
    "settings",
    [
        transformers.ElectraConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32),
        transformers.BertConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, hidden_act="silu"
        ),
        transformers.ModernBertConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, attention_bias=True
        ),
    ],
    ids=["unknown family", "unknown activation", "biased rotary keys"],
)
def test_other_architectures_have_no_packed_forward(text_folder, settings) -> None:
    model = load_transformers_text(text_folder())
    other = TransformersText(transformers.AutoModel.from_config(settings), "mean", torch.nn.Identity())
    assert build_packed_text(dataclasses.replace(model, module=other), CPU, FP32) is None


def test_buckets_hold_each_token_once_with_little_padding() -> None:
    lengths = sorted([3, 5, 5, 9, 17, 40, 41, 100, 256, 256, *range(4, 60)], reverse=True)
    layout = lay_out_blocks(token_ids(lengths), None, heads=2, dtype=torch.float32)
    assert sum(bucket.texts for bucket in layout.buckets) == len(lengths)
    tokens = sum(lengths)
    assert sum(int(bucket.valid.sum()) for bucket in layout.buckets) == 2 * tokens
    assert sum(bucket.texts * bucket.length for bucket in layout.buckets) < 1.3 * tokens
    queries = torch.cat([bucket.gather.view(3, -1)[0] for bucket in layout.buckets])
    assert layout.scatter is not None
    # Query rows come in units of 3 parts and 2 heads: token t, head h is row 6 t + h.
    found = queries[layout.scatter][: 2 * tokens].view(tokens, 2)
    torch.testing.assert_close(found, 6 * torch.arange(tokens)[:, None] + torch.arange(2))


def test_chunks_hold_every_text_once_within_their_budget() -> None:
    tokens = token_ids([50, 40, 30, 30, 5, 4, 1])
    packed = list(packed_chunks(range(7), tokens, repeat(64)))
    assert [index for chunk in packed for index in chunk] == list(range(7))
    assert all(sum(len(tokens[index]) for index in chunk) <= 64 for chunk in packed)
    padded = list(padded_chunks(range(7), [50, 40, 30, 30, 5, 4, 1], 64))
    assert padded == [[0], [1], [2, 3], [4, 5, 6]]
    assert list(packed_chunks([0], tokens, repeat(10))) == list(padded_chunks([0], [50], 10)) == [[0]]
