"""Arrays on disk: memory-mapped, and checked before they are believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import IndexInvalid


def load_array(path: Path, *, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Any:
    """Map a `.npy` file read-only.

    Args:
        path: the file.
        dtype: the only dtype that it may have.
        shape: the only shape that it may have.
    Returns:
        The array; an empty one is in memory, since nothing can be mapped.
    Raises:
        IndexInvalid: it is missing, truncated, pickled, or of another dtype or shape.
    """
    try:
        array = np.load(path, mmap_mode="r" if 0 not in shape else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IndexInvalid(f"{path.name} can't be read: {error}") from error
    if array.dtype != np.dtype(dtype) or array.shape != shape:
        wanted = f"{np.dtype(dtype)} of shape {shape}"
        raise IndexInvalid(f"{path.name} is {array.dtype} of shape {array.shape}; it should be {wanted}")
    return array
