"""What makes the packed forward fast changes none of its bits."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
import torch

from embedder.encoders.chunk_runner import ChunkRunner
from embedder.encoders.packed_layout import SHAPE_STEP, lay_out, lay_out_blocks
from embedder.encoders.packed_script import compile_layers, fits
from embedder.encoders.packed_text import PackedText, build_packed_text
from embedder.encoders.towers import BF16, FP32, Precision
from embedder.encoders.transformers_models import load_transformers_text

CPU = torch.device("cpu")
LENGTHS = [3, 5, 5, 1, 9, 17, 40, 41, 100, 300, 2, 64, 65, *range(4, 60, 3)]


def token_ids(lengths: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(4, 40, length).astype(np.int32) for length in sorted(lengths, reverse=True)]


def packed_text(text_folder, family: str, precision: Precision = BF16) -> PackedText:
    packed = build_packed_text(load_transformers_text(text_folder(family)), CPU, precision)
    assert packed is not None
    packed.close()
    return packed


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="layers are compiled for oneDNN")
@pytest.mark.parametrize("precision", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_compiled_layers_give_the_bits_of_eager_ones(text_folder, family: str, precision: Precision) -> None:
    stack = packed_text(text_folder, family, precision)._stack
    layout = stack.attention.lay_out(token_ids(LENGTHS), stack.padding_id)
    layers = compile_layers(stack.blocks)
    assert layers is not None
    assert fits(layout)
    with torch.inference_mode():
        x = torch.nn.functional.embedding(layout.ids, stack.words).to(precision.dtype)
        compiled = layers(x.clone(), layout)
        eager = x
        for block in stack.blocks:
            eager = block(eager, layout, {})
    assert torch.equal(compiled[: layout.tokens], eager[: layout.tokens])


@pytest.mark.parametrize("family", ["mpnet", "modernbert"])
def test_layers_that_add_to_their_scores_stay_eager(text_folder, family: str) -> None:
    assert compile_layers(packed_text(text_folder, family)._stack.blocks) is None


def test_layers_stay_eager_where_torch_compiles_no_program(text_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = packed_text(text_folder, "bert")._stack.blocks
    monkeypatch.delattr(torch.jit, "script")
    assert compile_layers(blocks) is None


def test_a_long_text_does_not_fit_the_compiled_attention() -> None:
    assert not fits(lay_out_blocks(token_ids([1_200, 3]), None, heads=2, dtype=torch.float32))


def test_shapes_are_few_whatever_the_lengths() -> None:
    for longest in range(1, 70):
        layout = lay_out_blocks(token_ids([longest, 3, 2]), None, heads=2, dtype=torch.float32)
        assert layout.tokens == longest + 5
        assert layout.tokens < len(layout.ids) <= layout.tokens + SHAPE_STEP
        assert len(layout.ids) % SHAPE_STEP == 0
        assert all(bucket.length % SHAPE_STEP == 0 for bucket in layout.buckets)
    assert len(lay_out(token_ids([3, 2]), None).ids) == 6


def test_each_chunk_computes_with_one_thread_and_steps_back_for_callers() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    runner, another = ChunkRunner(CPU), ChunkRunner(CPU)
    try:

        def look(_: int) -> torch.Tensor:
            torch.ones(1 << 18).exp_()
            nice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
            return torch.tensor([torch.get_num_threads(), nice])

        own = os.getpriority(os.PRIO_PROCESS, 0)
        for seen in (*runner.run(look, range(4), small=True), *another.run(look, range(4), small=True)):
            assert seen.tolist() == [1, max(5, own)]
        assert torch.get_num_threads() == 2
    finally:
        runner.close()
        another.close()
        torch.set_num_threads(threads)
