"""Images a second through gRPC, beside a plain open_clip loop over the same files on the same cores."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.common.load import EMBED, closed_loop, open_method
from benchmarks.common.run import Section
from benchmarks.common.servers import child_process, running_service
from embedder.encoders.default_space.photographs import packaged_photographs
from embedder_client import Client
from embedder_client.v1 import content_pb2, embedding_service_pb2

_BATCH = 32
_CALLS_IN_FLIGHT = 4
_ROUNDS = 3
_FLAGS = ("--max-queue-ms", "120000")  # a loop that waits for its answers is not to be refused


@dataclass(frozen=True)
class _Rated:
    """A model whose images a second are measured.

    Attributes:
        name: in the table.
        key: of the ratio to the loop.
        images: new ones in each round, of each contender.
        architecture: open_clip's, with random weights; empty for the default space.
    """

    name: str
    key: str
    images: int
    architecture: str = ""


_DEFAULT = _Rated("default space", "images_vs_openclip_loop", images=128)
_VIT = _Rated("ViT-B/32", "vit_b32_vs_openclip_loop", images=64, architecture="ViT-B-32")


def measure_rates(full: bool, console: Console) -> Section:
    """Give the service and the loop the same new pictures in turns, for each model; with `full`, for more rounds."""
    rounds = 3 * _ROUNDS if full else _ROUNDS
    rows, keys, busy = [], {}, {}
    for rated in (_DEFAULT, _VIT):
        rates, busy[rated.name] = _end_to_end(rated, rounds, console)
        ours, loop = (statistics.median(rates[name]) for name in ("ours", "loop"))
        keys[rated.key] = statistics.median(
            mine / theirs for mine, theirs in zip(rates["ours"], rates["loop"], strict=True)
        )
        what = f"images through gRPC, {rated.name}"
        rows.append((what, f"{ours:,.1f}/s", "", f"{loop:,.1f}/s", "", f"{keys[rated.key]:.2f}"))
    note = (
        f"Images through gRPC: new JPEGs of 640 x 480, {_CALLS_IN_FLIGHT} calls of {_BATCH} in flight, defaults but for a longer queue. "
        f"Reference: a plain open_clip loop in batches of {_BATCH}, in float32 as open_clip runs it. Medians over rounds in turns; the "
        "ratio is that of the rounds' own. ViT-B/32 has random weights: its speed is the architecture's, its vectors mean nothing."
    )
    shares = ", ".join(f"{share:.2f} ({name})" for name, share in busy.items())
    told = f"Device busy share, measured: forward passes took this share of the wall time of our rounds: {shares}."
    return Section(rows, {**keys, "device_busy_share": busy[_DEFAULT.name]}, (note, told))


def _end_to_end(rated: _Rated, rounds: int, console: Console) -> tuple[dict[str, list[float]], float]:
    """Return images/s of ours and of the loop, round by round, and which share of our time the device was busy."""
    rates: dict[str, list[float]] = {"ours": [], "loop": []}
    busy_s = wall_s = 0.0
    with ExitStack() as stack:
        folder = stack.enter_context(_written(rated.architecture, console))
        service = stack.enter_context(running_service((*_FLAGS, *(("--model", folder) if folder else ()))))
        method = stack.enter_context(open_method(service.address, EMBED))
        loop = stack.enter_context(_open_clip_loop(folder))
        files = new_photographs()
        warm_up = [next(files) for _ in range(2 * _BATCH)]
        closed_loop(method, [_request(warm_up[:_BATCH]), _request(warm_up[_BATCH:])], in_flight=2).expect_answers()
        loop(warm_up[:_BATCH])
        for number in range(rounds):
            console.print(f"images end to end, {rated.name}, round {number + 1} of {rounds}")
            batch = [next(files) for _ in range(rated.images)]
            requests = [_request(batch[start : start + _BATCH]) for start in range(0, len(batch), _BATCH)]
            before_s = _device_seconds(service.address)
            start = time.perf_counter()
            closed_loop(method, requests, in_flight=_CALLS_IN_FLIGHT).expect_answers()
            seconds = time.perf_counter() - start
            busy_s += _device_seconds(service.address) - before_s
            wall_s += seconds
            rates["ours"].append(len(batch) / seconds)
            rates["loop"].append(len(batch) / loop(batch))
    return rates, busy_s / wall_s


@contextmanager
def _written(architecture: str, console: Console) -> Iterator[str]:
    """Write a model with random weights to a folder that ends with this block; an empty name, and no folder, for the default space."""
    if not architecture:
        yield ""
        return
    from benchmarks.common.gpu_models import write_image_text_model

    console.print(f"writing {architecture} with random weights")
    with TemporaryDirectory(prefix="embedder-benchmark-") as folder:
        yield str(write_image_text_model(Path(folder) / architecture, architecture))


def _request(files: Sequence[bytes]) -> bytes:
    contents = [content_pb2.Content(image=file) for file in files]
    return embedding_service_pb2.EmbedRequest(contents=contents).SerializeToString()


def _device_seconds(address: str) -> float:
    with Client(address) as client:
        wall_time = client.savings().total.wall_time
        return wall_time.value if wall_time else 0.0


def new_photographs() -> Iterator[bytes]:
    """Yield JPEGs of 640 x 480, no two alike in their bytes: photographs, each shifted by some pixels."""
    pictures = [Image.open(photograph.path).convert("RGB") for photograph in packaged_photographs()]
    arrays = [np.asarray(picture.resize((640, 480), Image.Resampling.BICUBIC)) for picture in pictures]
    for shift in range(640):
        for array in arrays:
            file = io.BytesIO()
            Image.fromarray(np.roll(array, shift, axis=1)).save(file, "JPEG", quality=92)
            yield file.getvalue()


@contextmanager
def _open_clip_loop(folder: str) -> Iterator[Callable[[Sequence[bytes]], float]]:
    """Load a folder's model as open_clip holds it, or the default space's; gives a function that embeds files and returns the seconds."""
    with child_process(_loop, folder) as (connection, _):

        def embed(files: Sequence[bytes]) -> float:
            connection.send(list(files))
            seconds: float = connection.recv()
            return seconds

        yield embed


def _loop(connection: Connection, folder: str) -> None:
    import open_clip
    import torch

    if folder:
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        model.eval()
    else:
        from embedder.encoders.default_space.model import PREPROCESS, build_model

        model, transform = build_model(), open_clip.transform.image_transform_v2(PREPROCESS, is_train=False)
    while True:
        try:
            files = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        with torch.inference_mode():
            for at in range(0, len(files), _BATCH):
                images = [transform(Image.open(io.BytesIO(file))) for file in files[at : at + _BATCH]]
                model.encode_image(torch.stack(images), normalize=True)
        connection.send(time.perf_counter() - start)
