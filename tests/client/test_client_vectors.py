"""Packed vectors are read as the wire says, without a copy, or refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedder_client import Dtype
from embedder_client.errors import Internal
from embedder_client.vectors import join_vectors, take_rows, unpack_vectors


@pytest.mark.parametrize(
    ("dtype", "stored"), [(Dtype.FLOAT16, "<f2"), (Dtype.FLOAT32, "<f4"), (Dtype.INT8, "i1"), (Dtype.BINARY, "u1")]
)
def test_vectors_are_views_of_the_bytes_that_came(dtype: Dtype, stored: str) -> None:
    columns = 2 if dtype is Dtype.BINARY else 16
    data = np.arange(3 * columns).astype(stored).tobytes()
    scales = np.array([1, 2, 3], "<f4").tobytes() if dtype is Dtype.INT8 else b""
    vectors = unpack_vectors(data, scales, dtype=dtype, rows=3, dim=16)
    assert vectors.stored.shape == (3, columns)
    assert vectors.stored.dtype == np.dtype(stored)
    assert vectors.stored.tobytes() == data
    assert np.shares_memory(vectors.stored, np.frombuffer(data, np.uint8))
    assert not vectors.stored.flags.writeable


def test_int8_rows_are_multiplied_by_their_scale() -> None:
    data, scales = np.array([[1, -2], [3, 4]], "i1").tobytes(), np.array([0.5, 2], "<f4").tobytes()
    vectors = unpack_vectors(data, scales, dtype=Dtype.INT8, rows=2, dim=2)
    np.testing.assert_array_equal(vectors.float32(), [[0.5, -1], [6, 8]])


def test_binary_bits_are_signs_most_significant_first_and_padding_is_left_out() -> None:
    vectors = unpack_vectors(bytes([0b10100000, 0b01000000]), b"", dtype=Dtype.BINARY, rows=2, dim=4)
    np.testing.assert_array_equal(vectors.float32(), [[0.5, -0.5, 0.5, -0.5], [-0.5, 0.5, -0.5, -0.5]])


@pytest.mark.parametrize(
    ("data", "scales", "dtype"),
    [
        (b"x" * 7, b"", Dtype.FLOAT16),
        (b"x" * 8, b"", Dtype.FLOAT32),
        (b"x" * 4, b"", Dtype.INT8),
        (b"x" * 8, b"x" * 4, Dtype.FLOAT16),
        (b"x" * 3, b"", Dtype.BINARY),
    ],
)
def test_bytes_that_do_not_fit_their_shape_are_refused(data: bytes, scales: bytes, dtype: Dtype) -> None:
    with pytest.raises(Internal, match=r"take .* bytes"):
        unpack_vectors(data, scales, dtype=dtype, rows=2, dim=2)


@given(cuts=st.lists(st.integers(0, 6), min_size=1, max_size=3))
def test_joined_parts_are_the_whole(cuts: list[int]) -> None:
    matrix = np.arange(12, dtype="<f4").reshape(6, 2)
    edges = [0, *sorted(cuts), 6]
    parts = [
        unpack_vectors(matrix[start:end].tobytes(), b"", dtype=Dtype.FLOAT32, rows=end - start, dim=2)
        for start, end in itertools.pairwise(edges)
    ]
    np.testing.assert_array_equal(join_vectors(parts).stored, matrix)


def test_parts_of_different_shape_are_refused() -> None:
    parts = [
        unpack_vectors(b"\0" * 4, b"", dtype=dtype, rows=1, dim=dim)
        for dtype, dim in ((Dtype.FLOAT32, 1), (Dtype.FLOAT16, 2))
    ]
    with pytest.raises(Internal, match="different dtypes or dimensions"):
        join_vectors(parts)


def test_rows_are_taken_in_any_order_with_their_scales() -> None:
    scales = np.array([1, 2, 3], "<f4")
    base = unpack_vectors(bytes([1, 2, 3, 4, 5, 6]), scales.tobytes(), dtype=Dtype.INT8, rows=3, dim=2)
    taken = take_rows(base, [2, 0, 2])
    np.testing.assert_array_equal(taken.stored, [[5, 6], [1, 2], [5, 6]])
    np.testing.assert_array_equal(taken.scales, [3, 1, 3])
    np.testing.assert_array_equal(taken.float32(), [[15, 18], [1, 2], [15, 18]])
