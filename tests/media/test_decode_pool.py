"""The decode pool: right pixels from other processes, and one answer whatever becomes of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from embedder.errors import InvalidContent, LimitExceeded, Unavailable
from embedder.media.decoding.giving_way import BASE_NICENESS, STEPS
from embedder.media.decoding.job import Decoded, DecodeJob, Decoder, InlineDecoder
from embedder.media.decoding.pool import DecodePool
from embedder.media.image import decode_image
from embedder.media.image_job import MAX_HANDED_PIXELS
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

LIMITS = MediaLimits()
PATIENCE_S = 30.0


@pytest.fixture
def pool() -> Iterator[DecodePool]:
    started = DecodePool(workers=1, file_bytes=LIMITS.max_image_bytes, pixel_bytes=3 * LIMITS.max_image_pixels)
    yield started
    pids = started.pids
    started.close()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


@pytest.fixture
def large_file(image_file) -> bytes:
    """A picture that takes some hundred milliseconds to decode, and 100 MB."""
    return image_file(Image.effect_noise((6_000, 6_000), 40).convert("RGB"), "JPEG", quality=50)


def decode(decoder: Decoder, data: bytes, limits: MediaLimits = LIMITS) -> np.ndarray:
    with closing(decoder.run(DecodeJob("image", data, limits))) as results:
        decoded = next(results)
        assert isinstance(decoded, Decoded)
        return decoded.pixels.copy()


def wait_until(condition) -> None:
    """Wait for another process to get somewhere."""
    patience = threading.Event()
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "never happened"
        patience.wait(0.005)


def make_busy(pool: DecodePool, run: ThreadPoolExecutor, data: bytes, limits: MediaLimits = LIMITS):
    """Stop the only worker before it has answered; returns the future of its item."""
    (pid,) = pool.pids
    decode(pool, data)  # it has started
    os.kill(pid, signal.SIGSTOP)
    return pid, run.submit(decode, pool, data, limits)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF"])
def test_a_worker_gives_the_pixels_that_decoding_here_gives(pool, image_file, photo, file_format) -> None:
    data = image_file(photo, file_format)
    np.testing.assert_array_equal(decode(pool, data), decode_image(data, LIMITS))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_turned_and_reduced_pictures_are_prepared_alike(pool, image_file, photo, orientation, mode) -> None:
    picture = Image.fromarray(photo).resize((1700, 1101)).convert(mode)
    exif = picture.getexif()
    exif[0x0112] = orientation
    data = image_file(picture, "JPEG", exif=exif)
    transform = PixelTransform(64)
    expected = transform.prepare(data, LIMITS)
    np.testing.assert_array_equal(transform.prepare(data, LIMITS, decoder=pool), expected)


def test_a_picture_that_is_large_once_decoded_is_resized_by_its_worker(pool, image_file, photo) -> None:
    large = Image.fromarray(photo).resize((4_000, 2_200))
    assert large.width * large.height > MAX_HANDED_PIXELS
    data, transform = image_file(large, "PNG", compress_level=1), PixelTransform(64)
    with closing(pool.run(DecodeJob("image", data, LIMITS, transform.options))) as results:
        assert next(results).pixels.shape == (64, 64, 3)
    prepared = transform.prepare(data, LIMITS, decoder=pool)
    np.testing.assert_array_equal(prepared, transform.prepare(data, LIMITS))
    np.testing.assert_array_equal(prepared, transform.apply(np.array(large)))


def test_many_threads_share_the_workers(image_file, photo) -> None:
    pictures = [np.roll(photo, row, axis=1) for row in range(40)]
    files = [image_file(picture, "PNG") for picture in pictures]
    pool = DecodePool(workers=2, file_bytes=LIMITS.max_image_bytes, pixel_bytes=3 * LIMITS.max_image_pixels)
    with closing(pool), ThreadPoolExecutor(8) as run:
        for picture, decoded in zip(pictures, run.map(lambda file: decode(pool, file), files), strict=True):
            np.testing.assert_array_equal(decoded, picture)
        assert len(pool.pids) == 2
        assert pool.replaced == 0


def test_errors_come_back_as_they_were_raised(pool, image_file, photo) -> None:
    with pytest.raises(InvalidContent, match="truncated or corrupt"):
        decode(pool, image_file(photo, "JPEG")[:-200])
    with pytest.raises(LimitExceeded) as caught:
        decode(pool, image_file(photo, "PNG"), replace(LIMITS, max_image_side=100))
    assert (caught.value.field, caught.value.limit, caught.value.given) == ("max_image_side", 100, 128)
    assert str(caught.value) == "max_image_side=100, and 128 were given"
    assert pool.replaced == 0


def test_a_file_that_takes_too_much_memory_is_refused(pool, image_file, photo, large_file) -> None:
    with pytest.raises((LimitExceeded, InvalidContent)) as caught:
        decode(pool, large_file[:-2] + b"\0\0", replace(LIMITS, max_decode_memory_bytes=16 << 20))
    if isinstance(caught.value, LimitExceeded):
        assert caught.value.field == "max_decode_memory_bytes"
    assert decode(pool, image_file(photo, "PNG")).shape == photo.shape


def test_memory_of_a_bitmap_is_limited(pool, image_file, photo) -> None:
    data = image_file(Image.new("L", (4_000, 4_000)).convert("P"), "GIF")
    with pytest.raises(LimitExceeded, match="max_decode_memory_bytes=8388608") as caught:
        decode(pool, data, replace(LIMITS, max_decode_memory_bytes=8 << 20))
    assert caught.value.field == "max_decode_memory_bytes"
    assert decode(pool, image_file(photo, "PNG")).shape == photo.shape


def test_a_file_that_takes_too_much_processor_time_is_refused(pool, image_file, photo, large_file) -> None:
    (pid,) = pool.pids
    with pytest.raises(LimitExceeded, match="max_decode_cpu_ms=20") as caught:
        decode(pool, large_file, replace(LIMITS, max_decode_cpu_ms=20))
    assert (caught.value.field, caught.value.limit) == ("max_decode_cpu_ms", 20)
    assert decode(pool, image_file(photo, "PNG")).shape == photo.shape
    assert pool.replaced == 1
    assert not psutil.pid_exists(pid)


def test_a_worker_that_hangs_is_replaced_and_only_its_item_fails(pool, image_file, photo) -> None:
    data = image_file(photo, "PNG")
    with ThreadPoolExecutor(2) as run:
        _, hung = make_busy(pool, run, data, replace(LIMITS, max_decode_ms=300))
        waiting = run.submit(decode, pool, data)
        with pytest.raises(LimitExceeded, match="max_decode_ms=300"):
            hung.result(PATIENCE_S)
        np.testing.assert_array_equal(waiting.result(PATIENCE_S), photo)
    assert pool.replaced == 1


def niceness_of_threads(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it has just ended
            found.append(os.getpriority(os.PRIO_PROCESS, int(task.name)))
    return found


def test_a_job_that_takes_long_gives_way_and_the_next_one_does_not(pool, image_file, photo) -> None:
    data = image_file(photo, "PNG")
    with ThreadPoolExecutor(1) as run:
        pid, slow = make_busy(pool, run, data)
        base = os.getpriority(os.PRIO_PROCESS, pid)
        assert base == min(19, os.getpriority(os.PRIO_PROCESS, 0) + BASE_NICENESS)
        wait_until(lambda: max(niceness_of_threads(pid)) == min(19, base + STEPS[-1][1]))
        assert os.getpriority(os.PRIO_PROCESS, pid) == base  # the thread that takes jobs
        os.kill(pid, signal.SIGCONT)
        np.testing.assert_array_equal(slow.result(PATIENCE_S), photo)
    np.testing.assert_array_equal(decode(pool, data), photo)
    wait_until(lambda: set(niceness_of_threads(pid)) == {base})
    assert pool.replaced == 0


def test_a_worker_that_dies_is_replaced_and_only_its_item_fails(pool, image_file, photo) -> None:
    data = image_file(photo, "PNG")
    with ThreadPoolExecutor(2) as run:
        pid, dying = make_busy(pool, run, data)
        waiting = run.submit(decode, pool, data)
        wait_until(lambda: not pool._idle)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(InvalidContent, match="decoder crashed \\(SIGKILL\\)"):
            dying.result(PATIENCE_S)
        np.testing.assert_array_equal(waiting.result(PATIENCE_S), photo)
    assert pool.replaced == 1


def test_a_worker_that_died_while_idle_fails_nobody(pool, image_file, photo) -> None:
    (pid,) = pool.pids
    decode(pool, image_file(photo, "PNG"))
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None)
    np.testing.assert_array_equal(decode(pool, image_file(photo, "PNG")), photo)
    assert pool.replaced == 1


def test_a_large_picture_leaves_no_memory_behind(pool, image_file, photo, large_file) -> None:
    assert decode(pool, large_file).shape == (6_000, 6_000, 3)
    shared = psutil.Process().memory_info().shared
    assert decode(pool, image_file(photo, "PNG")).shape == photo.shape
    assert psutil.Process().memory_info().shared - shared < 20 << 20


def test_a_closed_pool_refuses_at_once(image_file, photo) -> None:
    pool = DecodePool(workers=1, file_bytes=LIMITS.max_image_bytes, pixel_bytes=3 * LIMITS.max_image_pixels)
    pool.close()
    with pytest.raises(Unavailable):
        decode(pool, image_file(photo, "PNG"))


def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from embedder.media.decoding.pool import DecodePool\n"
        "print(*DecodePool(workers=2, file_bytes=1000, pixel_bytes=1000).pids, flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    wait_until(lambda: not any(map(_runs, pids)))


def test_workers_know_no_secret_and_import_no_torch(image_file, photo, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDDER_BEARER_TOKEN", "secret")
    pool = DecodePool(workers=1, file_bytes=LIMITS.max_image_bytes, pixel_bytes=3 * LIMITS.max_image_pixels)
    with closing(pool):
        decode(pool, image_file(photo, "PNG"))
        (pid,) = pool.pids
        assert "secret" not in psutil.Process(pid).environ().values()
        maps = Path(f"/proc/{pid}/maps").read_text()
    assert "torch" not in maps
    assert "grpc" not in maps


def test_options_travel_as_they_are(image_file, photo) -> None:
    job = DecodeJob("image", image_file(photo, "JPEG"), LIMITS, PixelTransform(8).options)
    with closing(InlineDecoder().run(job)) as results:
        assert next(results).pixels.shape[:2] < (96, 128)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
