"""embedder-serve profile: where an encoder's time goes, as a table and as a trace for Perfetto."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from embedder.config import load_settings
from embedder.errors import ConfigurationError

_OPERATORS = 15


def profile(arguments: Sequence[str], console: Console) -> None:
    """Load the encoder as the daemon would, run batches, write the trace and print the longest operators.

    Args:
        arguments: behind `embedder-serve profile`; what is not known here is a setting of the daemon, such as `--model`.
        console: where the table goes.
    Raises:
        ConfigurationError: a setting is wrong, the encoder can't be loaded, or the trace can't be written.
        SystemExit: `--help` was asked.
    """
    parser = argparse.ArgumentParser(
        prog="embedder-serve profile",
        allow_abbrev=False,
        description="Load the encoder as the daemon would, prepare and encode batches, and write what ran when as a trace that "
        "ui.perfetto.dev and chrome://tracing open. Other settings of embedder-serve, such as --model, --device and --precision, "
        "are taken too. Nothing is served and nothing is cached.",
    )
    parser.add_argument("--trace", type=Path, default=Path("embedder-trace.json"), help="file to write (%(default)s)")
    parser.add_argument("--batches", type=_positive, default=3, help="recorded batches of each medium (%(default)s)")
    parser.add_argument("--texts", type=_positive, default=64, help="texts in a batch (%(default)s)")
    parser.add_argument("--images", type=_positive, default=8, help="images in a batch (%(default)s)")
    chosen, rest = parser.parse_known_args(arguments)
    settings = load_settings(rest)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # They import torch, which takes seconds that --help need not wait for.
    from embedder.encoders.profiling import profile_encoder
    from embedder.server.encoder_opening import open_encoder

    encoder = open_encoder(settings)
    try:
        times = profile_encoder(encoder, chosen.trace, batches=chosen.batches, texts=chosen.texts, images=chosen.images)
    except OSError as error:
        raise ConfigurationError(f"--trace {chosen.trace} can't be written: {error}") from error
    finally:
        encoder.close()
    table = Table("operator", "calls", "self ms", "share", title=f"{encoder.info.numerics} on {encoder.info.device}")
    for time in times[:_OPERATORS]:
        table.add_row(time.name, f"{time.calls:,}", f"{time.self_s * 1e3:,.1f}", f"{time.share:.1%}")
    console.print(table)
    console.print(
        f"Measured over {chosen.batches} batches, the profiler's own cost included. Trace: {chosen.trace}",
        highlight=False,
        soft_wrap=True,
    )


def _positive(given: str) -> int:
    number = int(given)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number
