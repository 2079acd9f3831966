"""Images a second through gRPC, beside a plain open_clip loop over the same files on the same cores."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

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
_IMAGES = 128
_ROUNDS = 3
_CALLS_IN_FLIGHT = 4


def measure_rates(full: bool, console: Console) -> Section:
    """Give the service and the loop the same new pictures in turns; with `full`, for more rounds."""
    rates, busy_share = _end_to_end(3 * _ROUNDS if full else _ROUNDS, console)
    ours, loop = (statistics.median(rates[name]) for name in ("ours", "loop"))
    ratio = statistics.median(mine / theirs for mine, theirs in zip(rates["ours"], rates["loop"], strict=True))
    row = ("images through gRPC", f"{ours:,.1f}/s", "", f"{loop:,.1f}/s", "", f"{ratio:.2f}")
    note = (
        f"Images through gRPC: new JPEGs of 640 x 480, {_CALLS_IN_FLIGHT} calls of {_BATCH} in flight, default space. Reference: a plain "
        f"open_clip loop in batches of {_BATCH}, in float32 as open_clip runs it. Medians over rounds in turns; the ratio is that of the "
        "rounds' own."
    )
    busy = f"Device busy share, measured: forward passes took {busy_share:.2f} of the wall time of our rounds."
    return Section([row], {"images_vs_openclip_loop": ratio, "device_busy_share": busy_share}, (note, busy))


def _end_to_end(rounds: int, console: Console) -> tuple[dict[str, list[float]], float]:
    """Return images/s of ours and of the loop, round by round, and which share of our time the device was busy."""
    rates: dict[str, list[float]] = {"ours": [], "loop": []}
    busy_s = wall_s = 0.0
    with running_service() as service, open_method(service.address, EMBED) as method, _open_clip_loop() as loop:
        files = new_photographs()
        warm_up = [next(files) for _ in range(2 * _BATCH)]
        closed_loop(method, [_request(warm_up[:_BATCH]), _request(warm_up[_BATCH:])], in_flight=2).expect_answers()
        loop(warm_up)
        for number in range(rounds):
            console.print(f"images end to end, round {number + 1} of {rounds}")
            batch = [next(files) for _ in range(_IMAGES)]
            requests = [_request(batch[start : start + _BATCH]) for start in range(0, _IMAGES, _BATCH)]
            before_s = _device_seconds(service.address)
            start = time.perf_counter()
            closed_loop(method, requests, in_flight=_CALLS_IN_FLIGHT).expect_answers()
            seconds = time.perf_counter() - start
            busy_s += _device_seconds(service.address) - before_s
            wall_s += seconds
            rates["ours"].append(_IMAGES / seconds)
            rates["loop"].append(_IMAGES / loop(batch))
    return rates, busy_s / wall_s


def _request(files: Sequence[bytes]) -> bytes:
    contents = [content_pb2.Content(image=file) for file in files]
    return embedding_service_pb2.EmbedRequest(contents=contents).SerializeToString()


def _device_seconds(address: str) -> float:
    with Client(address) as client:
        device_time = client.savings().total.device_time
        return device_time.value if device_time else 0.0


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
def _open_clip_loop() -> Iterator[Callable[[Sequence[bytes]], float]]:
    """Load the default space's model as open_clip holds it; gives a function that embeds files and returns the seconds."""
    with child_process(_loop) as (connection, _):

        def embed(files: Sequence[bytes]) -> float:
            connection.send(list(files))
            seconds: float = connection.recv()
            return seconds

        yield embed


def _loop(connection: Connection) -> None:
    import torch
    from open_clip.transform import image_transform_v2

    from embedder.encoders.default_space.model import PREPROCESS, build_model

    model, transform = build_model(), image_transform_v2(PREPROCESS, is_train=False)
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
