"""Publishes versions of a head while callers ask it through a real service: no call fails, no answer mixes two versions.

    python -m tests.faults.hot_swaps --swaps 1000

Each version answers with its own number, whatever it is asked, so an answer made of two would give itself away.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from embedder.config import load_settings
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder_client import Client, errors
from embedder_heads import Head, HeadKind, HeadManifest, HeadRegistry, Task

_TEXTS = ["The striker scored twice in the cup final", "Shares fell as the bank raised rates", "Oil prices rose again"]
_NAME = "swapped"


@dataclass
class Outcome:
    """What the callers saw.

    Attributes:
        calls: by caller, how many were made.
        versions: by caller, the versions that answered.
        faults: what went wrong, in words.
    """

    calls: list[int] = field(default_factory=lambda: [0, 0])
    versions: list[set[int]] = field(default_factory=lambda: [set(), set()])
    faults: list[str] = field(default_factory=list)


def swap_under_load(
    runtime: Runtime, client: Client, *, swaps: int, on_progress: Callable[[int], None] = lambda done: None
) -> Outcome:
    """Swap a head `swaps` times while two callers ask, one for a result a head and one for a block.

    Args:
        runtime: of the service, in this process: it is told to look after each publication, so that each is a swap of its own.
        client: calls the service.
        on_progress: told how many swaps are done.
    """
    outcome, stop = Outcome(), threading.Event()
    _publish(runtime, 1)
    client.embed(_TEXTS)

    def ask(caller: int) -> None:
        while not stop.is_set():
            outcome.calls[caller] += 1
            try:
                result = client.predict(_TEXTS, [_NAME, f"{_NAME}@prod"], packed_scores=bool(caller))
            except errors.EmbedderClientError as error:
                outcome.faults.append(repr(error))
                continue
            for prediction in result.predictions:
                if {*prediction.scores.ravel().tolist()} != {float(prediction.version)}:
                    outcome.faults.append(f"version {prediction.version} said {prediction.scores.tolist()}")
            outcome.versions[caller].add(result.predictions[0].version)

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in (0, 1)]
    for thread in callers:
        thread.start()
    try:
        for number in range(swaps):
            _publish(runtime, number + 2)
            on_progress(number + 1)
    finally:
        stop.set()
        for thread in callers:
            thread.join()
    return outcome


def _publish(runtime: Runtime, number: int) -> None:
    space = runtime.spaces.resolve("")
    manifest = HeadManifest(
        name=_NAME,
        kind=HeadKind.LINEAR,
        task=Task.REGRESSION,
        space_digest=space.digest.hex(),
        dim=space.info.dim,
        labels=("number",),
        thresholds=(),
        data_digest="0" * 64,
    )
    tensors = {"weight": np.zeros((1, space.info.dim), np.float32), "bias": np.full(1, number, np.float32)}
    HeadRegistry(runtime.settings.heads_path).publish(Head(manifest, tensors), alias="prod")
    runtime.heads.refresh()


def main() -> None:
    """Run the program; its exit status is 1 when a call failed or mixed versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=1_000, help="versions to publish under load")
    swaps = parser.parse_args().swaps
    with tempfile.TemporaryDirectory(prefix="embedder-swaps-") as folder:
        service = Service(load_settings(listen_address="127.0.0.1:0", data_dir=Path(folder)))
        runtime = service.start()
        try:
            steps = iter(track(range(swaps), "swapping", disable=not sys.stderr.isatty()))
            with Client(service.address) as client:
                outcome = swap_under_load(runtime, client, swaps=swaps, on_progress=lambda done: next(steps, None))
        finally:
            service.stop()
    seen = len(set.union(*outcome.versions))
    console = Console()
    console.print(
        f"{swaps:,} swaps under {sum(outcome.calls):,} calls; {seen:,} versions answered, {len(outcome.faults)} faults"
    )
    for fault in outcome.faults[:10]:
        console.print(fault, markup=False)
    sys.exit(bool(outcome.faults))


if __name__ == "__main__":
    main()
