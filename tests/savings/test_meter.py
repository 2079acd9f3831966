"""The meter: what it attributes to a batch, and recorded readings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embedder.savings.cpu_clock import ThreadFamilyClock
from embedder.savings.energy import EnergyMeter, RaplCounter, open_counter
from embedder.savings.figures import Basis
from embedder.savings.meter import DeviceMeter
from embedder.savings.replay_meter import RecordingMeter, ReplayMeter


class Counter:
    """A scripted energy counter and the clock beside it."""

    source, boundary = "script", "nothing else"

    def __init__(self) -> None:
        self.now_s = 0.0
        self.total_j = 0.0

    def joules(self) -> float:
        return self.total_j

    def pass_time(self, seconds: float, watts: float) -> None:
        self.now_s += seconds
        self.total_j += seconds * watts


def _meter() -> tuple[EnergyMeter, Counter]:
    counter = Counter()
    return EnergyMeter(counter, clock=lambda: counter.now_s), counter


def test_idle_power_is_found_and_subtracted() -> None:
    meter, counter = _meter()
    counter.pass_time(10, watts=50)
    meter.begin()
    counter.pass_time(2, watts=250)
    assert meter.idle_watts == pytest.approx(50)
    assert meter.end() == pytest.approx(2 * 200)


def test_lagging_counter_is_exact_in_sum() -> None:
    meter, counter = _meter()
    counter.pass_time(10, watts=50)
    total = 0.0
    for watts in (50, 450, 50, 450):  # each batch takes 250 W, told a batch late
        meter.begin()
        counter.pass_time(0.1, watts=watts)
        total += meter.end()
    assert total == pytest.approx(0.4 * 200)


def test_energy_never_falls_below_zero_and_the_sum_stays_right() -> None:
    meter, counter = _meter()
    counter.pass_time(10, watts=50)
    readings = []
    for watts in (0, 300):
        meter.begin()
        counter.pass_time(1, watts=watts)
        readings.append(meter.end())
    assert readings == [0.0, pytest.approx(200.0)]


def _rapl(folder: Path, microjoules: int) -> Path:
    package = folder / "intel-rapl:0"
    package.mkdir(exist_ok=True)
    (folder / "intel-rapl:0:0").mkdir(exist_ok=True)
    (package / "max_energy_range_uj").write_text("1000000\n")
    (package / "energy_uj").write_text(f"{microjoules}\n")
    return folder


def test_rapl_counter_goes_on_over_its_wrap(tmp_path: Path) -> None:
    counter = RaplCounter(_rapl(tmp_path, 900_000))
    _rapl(tmp_path, 100_000)
    assert counter.joules() == pytest.approx(0.200001)


def test_machine_without_a_counter_has_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="RAPL"):
        RaplCounter(tmp_path)
    assert open_counter("cuda:0", kinds=()) is None


def _burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def _in_thread(run: Callable[[], None]) -> None:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are told apart on Linux only")
def test_cpu_clock_counts_a_thread_its_children_and_its_pool_and_nothing_else() -> None:
    found: list[float] = []
    stop, stranger_burns = threading.Event(), threading.Event()
    work: list[Callable[[], None]] = [lambda: _burn(0.05)]
    asked, answered = threading.Event(), threading.Event()

    def stranger() -> None:
        while not stop.is_set():
            _burn(0.005)
            stranger_burns.set()

    def helper() -> None:
        asked.wait(10)
        work[0]()
        answered.set()
        stop.wait(10)

    def owner() -> None:
        clock = ThreadFamilyClock(pool_name="test-pool")
        mark = clock.start()
        _burn(0.05)
        child = threading.Thread(target=lambda: (_burn(0.05), stop.wait(10)))
        child.start()
        asked.set()
        answered.wait(10)
        deadline = time.monotonic() + 10
        while clock.stop(mark) < 0.15 and time.monotonic() < deadline:
            time.sleep(0.001)
        found.append(clock.stop(mark))
        stop.set()
        child.join()

    others = [threading.Thread(target=stranger), threading.Thread(target=helper, name="test-pool_0")]
    for thread in others:
        thread.start()
    stranger_burns.wait(10)
    _in_thread(owner)
    for thread in others:
        thread.join()
    assert 0.15 <= found[0] < 0.25  # three times 0.05 s, and what waiting takes; the stranger burns all along


def test_recorded_readings_are_given_again(tmp_path: Path) -> None:
    recorder = RecordingMeter(DeviceMeter(), tmp_path / "readings.jsonl")
    readings = []
    for _ in range(3):
        recorder.begin()
        readings.append(recorder.end())
    replayed = ReplayMeter.from_file(tmp_path / "readings.jsonl")
    for reading in readings:
        replayed.begin()
        assert replayed.end() == reading
    assert readings[0].device.basis is Basis.MEASURED
    assert readings[0].device.source
    assert readings[0].device.boundary
    assert replayed.description()["device"]["source"].startswith("recorded: ")
    with pytest.raises(RuntimeError, match="3 readings"):
        replayed.end()
