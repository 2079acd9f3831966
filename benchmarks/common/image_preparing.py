"""Preparing images, file to pixels, on one core: ours beside open_clip's transform on Pillow, and OpenCV's decoder."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from multiprocessing.connection import Connection

import numpy as np
from PIL import Image
from rich.console import Console

from benchmarks.common.run import Section
from benchmarks.common.servers import child_process
from embedder.encoders.default_space.photographs import packaged_photographs

_FORMATS: Mapping[str, Mapping[str, object]] = {
    "JPEG": {"quality": 92},
    "PNG": {},
    "WebP": {"quality": 85},
    "GIF": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}
_SIZES = ((640, 480), (1920, 1440))
JPEG_SIZE = (640, 480)
"""Width and height of the JPEG that is judged."""
_JUDGED = ("JPEG", JPEG_SIZE)
_PREPARE_SECONDS = 2.4  # for each format and size
_MIN_ROUNDS = 5
# Files come in batches: each way finds the caches as its own last file left them, and not as another way did.
_FILES_PER_TURN = 8

_NOTE = (
    f"Preparing: median milliseconds of one file on one core, {_FILES_PER_TURN} in a turn, with our columns' normalization. Ours: in the "
    "service's process; a worker: through a decode worker. Reference: open_clip's transform (Pillow, bicubic, 224, normalized). OpenCV: "
    "its decoder, our resize. Colours first: the reference resizes a palette image by nearest pixels, which costs it nothing; there it "
    "turns the palette into colours before, as we do."
)


def measure_preparing(full: bool, console: Console) -> Section:
    """Measure each format at 640 x 480; with `full`, at 1920 x 1440 too."""
    console.print("preparing, on one core")
    rows: list[tuple[str, ...]] = []
    ratios: dict[tuple[str, tuple[int, int]], float] = {}
    with child_process(_prepare_in_turns) as (connection, _):
        for file_format, options in _FORMATS.items():
            for size in _SIZES if full else _SIZES[:1]:
                connection.send(photograph(file_format, size, options))
                medians: dict[str, float] = connection.recv()
                ratios[file_format, size] = medians["reference"] / medians["ours"]
                what = f"{file_format} {size[0]} x {size[1]}"
                rows.append(_prepare_row(what, medians))
                if "reference in colours" in medians:
                    rows.append(_prepare_row(f"{what}, colours first", medians, reference="reference in colours"))
    return Section(rows, {"jpeg_prepare_vs_pillow": ratios[_JUDGED]}, (_NOTE,))


def _prepare_row(what: str, medians: Mapping[str, float], *, reference: str = "reference") -> tuple[str, ...]:
    shown = [f"{1e3 * medians[name]:.2f} ms" for name in ("ours", "worker", reference, "opencv") if name in medians]
    shown += [""] * (4 - len(shown))
    return (what, *shown, f"{medians[reference] / medians['ours']:.2f}")


def photograph(file_format: str, size: tuple[int, int], options: Mapping[str, object]) -> bytes:
    """Return a packaged photograph of `size`, its width and height, as a file."""
    coffee = next(one.path for one in packaged_photographs() if one.path.name == "coffee.png")
    file = io.BytesIO()
    Image.open(coffee).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(file, file_format, **options)
    return file.getvalue()


def _prepare_in_turns(connection: Connection) -> None:
    """Answer each file with the median seconds of every way to prepare it."""
    import torch

    from embedder.encoders.pixel_resize import resize_pixels
    from embedder.media.decoding.job import Decoder, InlineDecoder
    from embedder.media.decoding.pool import DecodePool
    from embedder.media.limits import MediaLimits
    from embedder.media.preprocess import PixelTransform

    torch.set_num_threads(1)
    limits, transform, reference = MediaLimits(), PixelTransform(224), _reference()
    scale, shift = torch.full((3, 1, 1), 1 / 127.5), torch.full((3, 1, 1), -1.0)

    def prepare(decoder: Decoder, file: bytes) -> torch.Tensor:
        pixels = transform.prepare(file, limits, decoder=decoder, resize=resize_pixels)
        return torch.from_numpy(pixels).float().mul_(scale).add_(shift)  # as the image tower does

    def in_colours(file: bytes) -> object:
        return reference(Image.open(io.BytesIO(file)).convert("RGB"))

    pool = DecodePool(workers=1, file_bytes=limits.max_image_bytes, pixel_bytes=3 * limits.max_image_pixels)
    inline = InlineDecoder()
    ways: dict[str, Callable[[bytes], object]] = {
        "ours": lambda file: prepare(inline, file),
        "worker": lambda file: prepare(pool, file),
        "reference": lambda file: reference(Image.open(io.BytesIO(file))),
    }
    if (opencv := _opencv()) is not None:
        ways["opencv"] = lambda file: transform.apply(opencv(file), resize=resize_pixels)
    with closing(pool):
        while True:
            try:
                file = connection.recv()
            except EOFError:
                return
            of_palettes = {"reference in colours": in_colours} if file.startswith(b"GIF") else {}
            seconds_of = _take_turns({**ways, **of_palettes}, file)
            connection.send({name: statistics.median(seconds) for name, seconds in seconds_of.items()})


def _take_turns(ways: Mapping[str, Callable[[bytes], object]], file: bytes) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    end = time.perf_counter() + _PREPARE_SECONDS
    while time.perf_counter() < end or len(seconds["ours"]) < _MIN_ROUNDS * _FILES_PER_TURN:
        for name, way in ways.items():
            for _ in range(_FILES_PER_TURN):
                start = time.perf_counter()
                way(file)
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _reference() -> Callable[[Image.Image], object]:
    from open_clip.transform import image_transform_v2

    from embedder.encoders.default_space.model import PREPROCESS

    transform: Callable[[Image.Image], object] = image_transform_v2(PREPROCESS, is_train=False)
    return transform


def _opencv() -> Callable[[bytes], np.ndarray] | None:
    """Return OpenCV's decoder to RGB where it is installed (no dependency of ours); it reads no GIF's palette as Pillow does."""
    try:
        import cv2
    except ImportError:
        return None
    cv2.setNumThreads(1)

    def decode(file: bytes) -> np.ndarray:
        pixels = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError("OpenCV can't decode the file")
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))

    return decode
