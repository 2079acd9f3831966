"""nvJPEG beside our way of a JPEG: a GPU that decodes and resizes, and a core that does; needs a CUDA device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from torch.nn import functional

from benchmarks.common.image_preparing import JPEG_SIZE, photograph
from benchmarks.common.run import Section
from embedder.encoders.pixel_resize import resize_pixels
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

_KEY = "nvjpeg_vs_one_core"
_FILES = 32
_ROUNDS = 15
_SIZE = 224
_NOT_RUN = "nvJPEG was not run: this machine has no CUDA device. See docs/decisions/0076."
_NOTE = (
    f"nvJPEG: median milliseconds of one of {_FILES} JPEGs of {JPEG_SIZE[0]} x {JPEG_SIZE[1]}, decoded and resized on the device by "
    "torchvision's decode_jpeg, the answer left there. Ours: on one core, in the service's process."
)


def measure_nvjpeg(_full: bool, console: Console) -> Section:
    """Let both take turns over the same files; without a CUDA device nothing is run, and it is said."""
    if not torch.cuda.is_available():
        return Section((), {_KEY: None}, (_NOT_RUN,))
    console.print("nvJPEG")
    from torchvision.io import decode_jpeg

    device, transform, limits = torch.device("cuda:0"), PixelTransform(_SIZE), MediaLimits()
    file = photograph("JPEG", JPEG_SIZE, {"quality": 92})
    files = [torch.frombuffer(bytearray(file), dtype=torch.uint8) for _ in range(_FILES)]

    def on_device() -> None:
        height, width = _SIZE, round(_SIZE * JPEG_SIZE[0] / JPEG_SIZE[1])
        for pixels in decode_jpeg(files, device=device):
            functional.interpolate(pixels[None].float(), size=(height, width), mode="bicubic", antialias=True)
        torch.cuda.synchronize(device)

    def on_a_core() -> None:
        for _ in range(_FILES):
            transform.prepare(file, limits, resize=resize_pixels)

    seconds = _in_turns({"device": on_device, "core": on_a_core})
    theirs, ours = seconds["device"] / _FILES, seconds["core"] / _FILES
    row = ("JPEG 640 x 480 by nvJPEG", f"{1e3 * ours:.2f} ms", "", f"{1e3 * theirs:.2f} ms", "", f"{theirs / ours:.2f}")
    return Section((row,), {_KEY: ours / theirs}, (_NOTE,))


def _in_turns(contenders: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return each contender's median seconds, after one run of each to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(_ROUNDS + 1):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if number:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}
