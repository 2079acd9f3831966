"""What was asked of the numerics: a precision, how far vectors may move, whether bits may."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16", "int8", "fp8", "int4"]

MIN_COSINE = 0.9999
"""How near a vector stays to the one that float32 gives for its content alone, unless less is asked for."""

# Classes that are chosen by name only, and by their measured figures: below this the model or a library is damaged.
_LEAST_COSINE_OF_FEW_BITS = 0.8
_FEW_BITS = frozenset({"int8", "fp8", "int4"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionPolicy:
    """How a model's towers are to compute.

    Attributes:
        setting: a precision's name, or `auto`: the fastest that keeps the tolerance.
        tolerance: the least cosine to float32 that `auto` takes.
        deterministic: whether a vector's bits must not change with its neighbours; much slower.
        folder: where measurements and exported graphs are kept; None measures no speed, so that `auto` takes the first
            of 16 and 32 bits that keeps the tolerance on a few samples.
    """

    setting: PrecisionSetting = "auto"
    tolerance: float = MIN_COSINE
    deterministic: bool = False
    folder: Path | None = None

    @property
    def golden_cosine(self) -> float:
        """The least cosine to float32 with which an encoder may be served."""
        return _LEAST_COSINE_OF_FEW_BITS if self.setting in _FEW_BITS else min(MIN_COSINE, self.tolerance)
