"""Encoding on a CUDA device: ViT-L/14, SigLIP-so400m and BERT-large shapes beside the device's own matrix products.

In-process, and end to end through gRPC where the service's packages are installed. The floor is nothing but bf16 products of the
model's linear layers on the same device in the same run. Needs torch 2.11 or newer; without a CUDA device nothing is run.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from benchmarks.common.gpu_models import (
    BERT_L,
    SIGLIP,
    VIT_L,
    Shape,
    image_model,
    load_text,
    write_image_text_model,
    write_text_model,
)
from benchmarks.common.run import Result, main
from embedder.encoders.library_image import LibraryImage
from embedder.encoders.towers import BF16

_COLUMNS = ("model", "how", "items/s", "TFLOP/s", "share of matmul")
_KEYS = (
    "vit_l_14_share",
    "siglip_so400m_share",
    "bert_large_share",
    "vit_l_14_end_to_end",
    "text_end_to_end",
    "device_busy",
)
_ROWS = 16_384  # of the floor's products: enough to fill any device
_IMAGES, _TEXTS = 512, 2_048
_CALL_ITEMS, _IN_FLIGHT = 128, 8
_NOT_RUN = "Not run: this machine has no CUDA device. Nothing here was measured, and no figure of it may be quoted."

Row = tuple[str, str, str, str, str]


def measure(full: bool, console: Console) -> Result:
    """Measure each model in-process and through gRPC; with `full`, more rounds."""
    keys: dict[str, float | None] = dict.fromkeys(_KEYS)
    if not torch.cuda.is_available():
        console.print(_NOT_RUN)
        return Result(_COLUMNS, [], keys, [_NOT_RUN])
    device = torch.device("cuda:0")
    rounds = 7 if full else 3
    notes = [
        f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, CUDA {torch.version.cuda}. Medians of {rounds} rounds, "
        "random weights, bf16. TFLOP/s: operations that the items need without padding. Share: of bf16 products of the same shapes.",
    ]
    rows: list[Row] = []
    with TemporaryDirectory(prefix="embedder-benchmark-") as scratch:
        for key, shape in (("vit_l_14_share", VIT_L), ("siglip_so400m_share", SIGLIP)):
            console.print(f"{shape.name} in-process")
            keys[key] = _add(
                rows, shape, "in-process", _image_rate(shape, device, rounds), shape.gflop(shape.image_tokens), device
            )
        folder = write_text_model(BERT_L, Path(scratch, "bert-large"))
        console.print(f"{BERT_L.name} in-process")
        rate, gflop = _text_rate(folder, device, rounds)
        keys["bert_large_share"] = _add(rows, BERT_L, "in-process", rate, gflop, device)
        _measure_service(Path(scratch), folder, gflop, rows, keys, notes, console)
    return Result(_COLUMNS, rows, keys, notes)


def matmul_tflops(shape: Shape, device: torch.device) -> float:
    """Return what the device makes of the shape's bf16 products, in units of 10^12 operations a second."""
    products = [
        (torch.randn(_ROWS, inputs, device=device).bfloat16(), torch.randn(inputs, outputs, device=device).bfloat16())
        for inputs, outputs in shape.products()
    ]

    def multiply() -> None:
        for left, right in products * 8:
            torch.mm(left, right)

    flop = sum(2 * _ROWS * inputs * outputs for inputs, outputs in shape.products()) * 8
    return flop / _median_seconds(multiply, device, 5) / 1e12


def _image_rate(shape: Shape, device: torch.device, rounds: int) -> float:
    tower = LibraryImage(image_model(shape), device, BF16)
    generator = np.random.default_rng(0)
    size = shape.image_size
    pixels = list(generator.integers(0, 256, (_IMAGES, 3, size, size), dtype=np.uint8))
    seconds = _median_seconds(lambda: tower.embed(pixels), device, rounds)
    tower.close()
    return len(pixels) / seconds


def _text_rate(folder: Path, device: torch.device, rounds: int) -> tuple[float, float]:
    """Return texts/s, and the operations of a mean text."""
    encoder = load_text(folder, str(device))
    tokens = encoder.prepare_texts(_texts(_TEXTS))
    seconds = _median_seconds(lambda: encoder.encode_texts(tokens), device, rounds)
    encoder.close()
    return len(tokens) / seconds, statistics.fmean(BERT_L.gflop(len(ids)) for ids in tokens)


def _measure_service(
    scratch: Path,
    text_folder: Path,
    text_gflop: float,
    rows: list[Row],
    keys: dict[str, float | None],
    notes: list[str],
    console: Console,
) -> None:
    """Send new contents through gRPC and add what came of it; a missing package is a note."""
    device = torch.device("cuda:0")
    try:
        console.print("end to end through gRPC")
        rate, _ = _service_rate(text_folder, _texts(2 * _TEXTS, seed=1))
        keys["text_end_to_end"] = _add(rows, BERT_L, "through gRPC", rate, text_gflop, device)
        folder = write_image_text_model(scratch / "vit-l-14")
        rate, busy = _service_rate(folder, _pictures(2 * _IMAGES))
        keys["vit_l_14_end_to_end"] = _add(rows, VIT_L, "through gRPC", rate, VIT_L.gflop(VIT_L.image_tokens), device)
        keys["device_busy"] = busy
    except ImportError as error:
        notes.append(f"Not run through gRPC: {error}.")


def _service_rate(model: Path, contents: Sequence[str] | Sequence[bytes]) -> tuple[float, float]:
    """Return items/s of new contents through the daemon, and the share of that time in which the device had a batch."""
    from benchmarks.common.servers import running_service
    from embedder_client import Client

    flags = ("--model", str(model), "--device", "cuda:0", "--precision", "bf16", "--max-batch-tokens", "65536")
    with running_service((*flags, "--max-batch-images", "256", "--prepare-threads", "12")) as server:
        with Client(server.address) as client:
            calls = [contents[start : start + _CALL_ITEMS] for start in range(0, len(contents), _CALL_ITEMS)]
            client.embed(calls[0])
            start = time.perf_counter()
            with ThreadPoolExecutor(_IN_FLIGHT) as pool:
                costs = [result.cost for result in pool.map(client.embed, calls[1:])]
            seconds = time.perf_counter() - start
    busy_s = sum(cost.device_time.value for cost in costs if cost.device_time is not None)
    return sum(map(len, calls[1:])) / seconds, busy_s / seconds


def _add(rows: list[Row], shape: Shape, how: str, rate: float, gflop: float, device: torch.device) -> float:
    tflops, floor = rate * gflop / 1e3, matmul_tflops(shape, device)
    rows.append((shape.name, how, f"{rate:,.0f}", f"{tflops:,.1f} of {floor:,.1f}", f"{tflops / floor:.0%}"))
    return tflops / floor


def _median_seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    run()
    taken = []
    for _ in range(rounds):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        run()
        torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _texts(count: int, seed: int = 0) -> list[str]:
    from benchmarks.common.texts import fresh_texts

    return list(islice(fresh_texts(seed), count))


def _pictures(count: int) -> list[bytes]:
    """Draw different photographs of noise and edges, as JPEG files of 320 x 240."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        small = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC).save(file, "JPEG")
        files.append(file.getvalue())
    return files


if __name__ == "__main__":
    main("gpu", __doc__ or "", measure)
