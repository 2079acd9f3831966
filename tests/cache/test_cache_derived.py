"""Derived vectors: shorter ones of norm 1, int8 with scales, bits."""

import numpy as np
import pytest

from embedder_cache import CacheRequestError
from embedder_cache.derive import VectorDtype, derive, restore

RANDOM = np.random.default_rng(4)
UNIT = RANDOM.standard_normal((50, 384)).astype(np.float32)
UNIT /= np.linalg.norm(UNIT, axis=1, keepdims=True)
STORED = UNIT.astype(np.float16)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = first.astype(np.float64), second.astype(np.float64)
    products: np.ndarray = (first * second).sum(axis=1)
    products /= np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return products


def test_nothing_asked_is_nothing_copied() -> None:
    derived = derive(STORED)
    assert derived.data is STORED
    assert (derived.dim, derived.dtype, derived.scales) == (384, VectorDtype.FLOAT16, None)
    assert derived.to_bytes() == STORED.tobytes()


def test_float32_holds_the_same_numbers() -> None:
    derived = derive(STORED, dtype="float32")
    assert derived.data.dtype == np.float32
    assert np.array_equal(restore(derived), STORED.astype(np.float32))


@pytest.mark.parametrize("dim", [1, 64, 255, 383])
def test_shorter_vectors_are_the_first_components_at_norm_1(dim: int) -> None:
    derived = derive(STORED, dim=dim)
    assert derived.data.shape == (50, dim)
    assert np.allclose(np.linalg.norm(restore(derived), axis=1), 1, atol=1e-3)
    assert cosines(restore(derived), STORED[:, :dim]).min() > 0.99999


def test_int8_is_near_and_uses_its_whole_range() -> None:
    derived = derive(STORED, dtype="int8")
    assert derived.data.dtype == np.int8
    assert derived.scales is not None
    assert derived.scales.dtype == np.float32
    assert (np.abs(derived.data.astype(int)).max(axis=1) == 127).all()
    assert np.abs(restore(derived) - STORED).max() <= derived.scales.max() / 2 * 1.01
    assert cosines(restore(derived), STORED).min() > 0.9995


@pytest.mark.parametrize(("dim", "row_bytes"), [(384, 48), (16, 2), (13, 2)])
def test_bits_are_the_signs_the_first_one_highest(dim: int, row_bytes: int) -> None:
    derived = derive(STORED, dim=dim, dtype="binary")
    assert derived.data.shape == (50, row_bytes)
    assert np.array_equal(restore(derived) > 0, STORED[:, :dim] > 0)
    assert (int(derived.data[0, 0]) >> 7 == 1) == (STORED[0, 0] > 0)


@pytest.mark.parametrize("dtype", list(VectorDtype))
def test_rows_of_zeros_and_empty_batches_are_borne(dtype: VectorDtype) -> None:
    derived = derive(np.zeros((3, 8), np.float16), dim=4, dtype=dtype)
    assert np.isfinite(restore(derived)).all()
    assert derived.data.astype(np.float32).sum() == 0
    assert len(derive(np.zeros((0, 8), np.float16), dim=4, dtype=dtype).data) == 0


@pytest.mark.parametrize("dim", [0, -1, 385])
def test_a_dim_that_is_not_there_is_refused(dim: int) -> None:
    with pytest.raises(CacheRequestError, match="stored 384"):
        derive(STORED, dim=dim)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(CacheRequestError, match="float8"):
        derive(STORED, dtype="float8")
