"""Makes a second real text model, to try a migration with: the default's own, cut to its first layers."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from embedder.encoders.default_space.model import text_model_folder

LAYERS = 4


def write_second_model(folder: Path, *, layers: int = LAYERS) -> Path:
    """Write all-MiniLM-L6-v2 with only its first layers, as a sentence-transformers folder; returns the folder.

    Its vectors are worse than the whole model's and two thirds as dear; they are another space of the same length.

    Args:
        folder: where it goes; must not exist.
        layers: how many of the six are kept.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source = text_model_folder()
    folder.mkdir(parents=True)
    for path in source.rglob("*"):
        if path.is_file() and path.suffix in {".json", ".txt"}:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    model = AutoModel.from_pretrained(source, local_files_only=True)
    model.encoder.layer = model.encoder.layer[:layers]
    model.config.num_hidden_layers = layers
    model.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m embedder.demo.second_model FOLDER")
    print(write_second_model(Path(sys.argv[1])))  # noqa: T201 - the command's answer
