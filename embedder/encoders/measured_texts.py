"""The texts that precisions are measured on: this project's own prose, from a few words to 150."""

from __future__ import annotations

from importlib.resources import files


def measured_texts() -> list[str]:
    """Read 320 different texts, in a fixed and mixed order."""
    return files("embedder.encoders").joinpath("measured_texts.txt").read_text(encoding="utf-8").splitlines()
