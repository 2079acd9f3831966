"""Task heads and indexes on stored vectors beside the plain library: scikit-learn's predict in a loop, raw FAISS.

1 to 1,000 linear heads of one label on one vector and on batches of 256; retrieval among 100,000 clustered vectors of 384 (and a
million with --full), through the service's own index code.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from sklearn.linear_model import LogisticRegression

from benchmarks.common.run import Result, main
from benchmarks.common.servers import running_service
from benchmarks.common.texts import fresh_texts
from benchmarks.retrieval import measure_index
from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits
from embedder_client import Client
from embedder_heads import Head, HeadError, HeadKind, HeadManifest, HeadRegistry, HeadRuntime, HeadSnapshot, Task
from embedder_heads.blas import one_thread_a_product

_DIM = 384
_SPACE = bytes(32)
_COUNTS = (1, 10, 100, 1000)
_BATCHES = (1, 256)
_ROUNDS = 15
_SWAPS = 1000
_ENCODED_TOKENS = 128
_ITEMS, _FULL_ITEMS = 100_000, 1_000_000

Floats = npt.NDArray[np.float32]


def measure(full: bool, console: Console) -> Result:
    one_thread_a_product()  # as in the daemon
    console.print("linear heads")
    rows, heads_keys = _heads()
    console.print("linear heads through the service")
    service_rows, service_keys = _predict_calls()
    rows += service_rows
    heads_keys |= service_keys
    console.print("hot swaps")
    swaps, calls, failed = _hot_swaps()
    rows.append(("ours", f"{swaps:,} hot swaps under {calls:,} calls", f"{failed} failed"))
    heads_keys["hot_swap_failed_calls"] = float(failed)
    notes = [
        "Heads: medians of 15 rounds in each of which every contender runs once. The floor is the bare matrix product of the same heads. "
        "scikit-learn predicts by as many fitted LogisticRegression objects in a loop.",
        f"One encode: a text of {_ENCODED_TOKENS} tokens alone, default space. hundred_heads_share_of_encode: 100 heads on one of 256 "
        "vectors, of one encode.",
        "Through gRPC: whole Predict calls with packed scores of 256 texts with mean 39 tokens; thousand_heads_vs_one is with new texts, "
        "thousand_heads_vs_one_held with texts that the cache holds, thousand_heads_vs_one_alone the heads without a call.",
    ]
    keys: dict[str, float | None] = dict(heads_keys)
    for items in (_ITEMS, _FULL_ITEMS) if full else (_ITEMS,):
        console.print(f"an index of {items:,} vectors")
        found_rows, found_keys, note = measure_index(items)
        rows += found_rows
        keys.update(found_keys)
        notes.append(note)
    return Result(columns=("contender", "what", "figure"), rows=rows, keys=keys, notes=notes)


def _heads() -> tuple[list[tuple[str, str, str]], dict[str, float]]:
    generator = np.random.default_rng(0)
    names = [f"h{number}" for number in range(max(_COUNTS))]
    snapshot = HeadSnapshot(
        {(name, 1): _head(name, generator) for name in names}, {(name, "current"): (1,) for name in names}
    )
    models = _fitted(generator)
    weights = np.ascontiguousarray(generator.standard_normal((max(_COUNTS), _DIM)), np.float32)
    rows: list[tuple[str, str, str]] = []
    medians: dict[tuple[str, int, int], float] = {}
    for batch in _BATCHES:
        vectors = _unit(generator.standard_normal((batch, _DIM)))
        for count in _COUNTS:
            refs = names[:count]
            contenders: dict[str, Callable[[], object]] = {
                "ours": lambda refs=refs, vectors=vectors: snapshot.predict(vectors, refs, _SPACE),  # type: ignore[misc]
                "floor: one product": lambda count=count, vectors=vectors: weights[:count] @ vectors.T,  # type: ignore[misc]
            }
            if count <= 100:
                contenders["scikit-learn in a loop"] = (
                    lambda count=count, vectors=vectors: [  # type: ignore[misc]
                        model.predict_proba(vectors) for model in models[:count]
                    ]
                )
            for name, seconds in _in_turns(contenders).items():
                medians[name, count, batch] = seconds
                rows.append((name, f"{count} heads x {batch} vectors", f"{seconds * 1e6:,.0f} us"))
    encode_s = _encode_seconds()
    rows.append(("one encode", f"{_ENCODED_TOKENS} tokens", f"{encode_s * 1e6:,.0f} us"))
    each = medians["ours", 100, 256] / 256
    return rows, {
        "thousand_heads_vs_one_alone": medians["ours", 1000, 256] / medians["ours", 1, 256],
        "hundred_heads_share_of_encode": each / encode_s,
        "hundred_heads_vs_sklearn": medians["ours", 100, 256] / medians["scikit-learn in a loop", 100, 256],
    }


def _predict_calls() -> tuple[list[tuple[str, str, str]], dict[str, float]]:
    """Time whole Predict calls of 256 texts, new ones and ones that the cache holds, with 1 and with 1,000 heads."""
    generator = np.random.default_rng(2)
    names = [f"h{number}" for number in range(max(_COUNTS))]
    with tempfile.TemporaryDirectory(prefix="embedder-benchmark-") as folder:
        with running_service(["--heads-dir", folder]) as server, Client(server.address) as client:
            texts = fresh_texts(0)
            warm = list(islice(texts, 256))
            space = client.embed(warm, lane="bulk").provenance.space_digest
            registry = HeadRegistry(Path(folder))
            for name in names:
                registry.publish(_head(name, generator, space=space))
            while len(client.list_heads(timeout_s=60.0).heads) < len(names):
                time.sleep(0.1)

            def ask(heads: int, new: bool) -> Callable[[], object]:
                wanted = names[:heads]
                return lambda: client.predict(
                    list(islice(texts, 256)) if new else warm, wanted, timeout_s=60.0, packed_scores=True
                )

            held = _in_turns({"one": ask(1, new=False), "thousand": ask(1000, new=False)})
            new = _in_turns({"one": ask(1, new=True), "thousand": ask(1000, new=True)}, rounds=3)
    rows = [
        ("ours, through gRPC", f"{heads} heads x 256 {kind} texts", f"{seconds[name] * 1e3:,.1f} ms")
        for kind, seconds in (("held", held), ("new", new))
        for name, heads in (("one", 1), ("thousand", 1000))
    ]
    return rows, {
        "thousand_heads_vs_one": new["thousand"] / new["one"],
        "thousand_heads_vs_one_held": held["thousand"] / held["one"],
    }


def _hot_swaps() -> tuple[int, int, int]:
    """Publish and pick up 1,000 versions while two threads call; returns (swaps, calls, failed calls).

    Each version's bias is its own number: an answer of a mixture would give itself away.
    """
    vectors = np.zeros((8, _DIM), np.float32)
    failed, calls, stop = [0, 0], [0, 0], threading.Event()
    with tempfile.TemporaryDirectory(prefix="embedder-benchmark-") as folder:
        registry = HeadRegistry(Path(folder))
        runtime = HeadRuntime(registry)

        def publish(version: int) -> None:
            head = _head("swapped", np.random.default_rng(0), bias=float(version), task=Task.REGRESSION)
            registry.publish(head)
            runtime.refresh()

        def ask(caller: int) -> None:
            while not stop.wait(0.001):
                calls[caller] += 1
                try:
                    output, again = runtime.predict(vectors, ["swapped", "swapped@current"], _SPACE)
                    said = {*output.scores.ravel().tolist(), *again.scores.ravel().tolist()}
                    failed[caller] += said != {float(output.version)} or again.version != output.version
                except HeadError:
                    failed[caller] += 1

        publish(1)
        threads = [threading.Thread(target=ask, args=(caller,)) for caller in (0, 1)]
        for thread in threads:
            thread.start()
        for version in range(2, _SWAPS + 2):
            publish(version)
        stop.set()
        for thread in threads:
            thread.join()
    return _SWAPS, sum(calls), sum(failed)


def _head(
    name: str,
    generator: np.random.Generator,
    *,
    space: bytes = _SPACE,
    bias: float = 0.0,
    task: Task = Task.MULTI_LABEL,
) -> Head:
    manifest = HeadManifest(
        name=name,
        kind=HeadKind.LINEAR,
        task=task,
        space_digest=space.hex(),
        dim=_DIM,
        labels=("yes",),
        thresholds=(0.5,) if task is Task.MULTI_LABEL else (),
        data_digest="0" * 64,
        version=1,
    )
    weight = generator.standard_normal((1, _DIM)).astype(np.float32)
    return Head(manifest, {"weight": weight, "bias": np.full(1, bias, np.float32)})


def _fitted(generator: np.random.Generator) -> list[LogisticRegression]:
    vectors, classes = _unit(generator.standard_normal((60, _DIM))), np.arange(60) % 2
    return [LogisticRegression().fit(vectors, generator.permutation(classes)) for _ in range(100)]


def _encode_seconds() -> float:
    encoder = load_encoder("default", device="cpu", limits=MediaLimits())
    try:
        [tokens] = encoder.prepare_texts(["embedding " * 400])
        tokens = np.concatenate([tokens[: _ENCODED_TOKENS - 1], tokens[-1:]])
        return _in_turns({"encode": lambda: encoder.encode_texts([tokens])})["encode"]
    finally:
        encoder.close()


def _in_turns(
    contenders: dict[str, Callable[[], object]], *, repeats: int = 1, rounds: int = _ROUNDS
) -> dict[str, float]:
    """Return each contender's median seconds a call, after one call of each to warm up."""
    for run in contenders.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            taken[name].append((time.perf_counter() - started) / repeats)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _unit(vectors: npt.NDArray[Any]) -> Floats:
    array = np.asarray(vectors, np.float32)
    return np.asarray(array / np.linalg.norm(array, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main("heads", __doc__ or "", measure)
