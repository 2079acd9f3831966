"""How a running backfill shows itself: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from embedder.backfill.journal import ShardDone

_LINE_INTERVAL_S = 10.0
_WINDOW_S = 30.0


class RunProgress:
    """Counts what a run does; its methods may be called from any thread."""

    def __init__(self, *, rows: int, before: ShardDone) -> None:
        """Start at what earlier runs have done."""
        self._rows = rows
        self._lock = threading.Lock()
        self._done = self._before = before.rows
        self._counts = {name: getattr(before, name) for name in ("held", "joined", "computed", "rejected")}
        self._shared = before.shared
        self._encoding = 0
        self._bytes = 0
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def note_done(self, done: ShardDone) -> None:
        """Count a shard."""
        with self._lock:
            self._done += done.rows
            self._bytes += done.input_bytes
            self._shared += done.shared
            for name in self._counts:
                self._counts[name] += getattr(done, name)
            self._encoding = max(0, self._encoding - done.encodes)

    def note_encoded(self, encodes: int) -> None:
        """Count contents of shards that are not done yet."""
        with self._lock:
            self._encoding += encodes

    @property
    def seen(self) -> int:
        """Rows that are done or computed."""
        return min(self._rows, self._done + self._encoding)

    def words(self) -> str:
        """Say rate, time left, and where rows came from."""
        now, fresh = time.monotonic(), self.seen - self._before
        with self._lock:
            self._marks.append((now, fresh))
            while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
                self._marks.popleft()
            then, earlier = self._marks[0]
            rate = (fresh - earlier) / (now - then) if now > then else 0.0
            counts = ", ".join(f"{value:,} {name}" for name, value in self._counts.items() if value)
        left = f"{duration((self._rows - self.seen) / rate)} left" if rate > 0 and self.seen < self._rows else ""
        return ", ".join(part for part in (f"{rate:,.0f} rows/s" if rate else "", left, counts) if part)


@contextmanager
def shown(progress: RunProgress, *, rows: int, console: Console) -> Iterator[None]:
    """Show progress while the block runs."""
    if not console.is_terminal:
        with _every(
            _LINE_INTERVAL_S,
            lambda: console.print(
                ", ".join(filter(None, (f"{progress.seen:,} of {rows:,} rows", progress.words()))), highlight=False
            ),
        ):
            yield
        return
    columns = (
        TextColumn("Backfill"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=rows, completed=progress.seen)

        def refresh() -> None:
            bar.update(task, completed=progress.seen, description=progress.words())

        with _every(0.25, refresh):
            yield
        refresh()


@contextmanager
def planning(console: Console, *, title: str) -> Iterator[Callable[[int], None]]:
    """Show how many bytes were gone through; yields what to call with each number of them."""
    if not console.is_terminal:
        yield lambda size: None
        return
    with Progress(TextColumn(title), DownloadColumn(), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda size: bar.advance(task, size)


@contextmanager
def _every(seconds: float, run: Callable[[], None]) -> Iterator[None]:
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(seconds):
            run()

    thread = threading.Thread(target=repeat, name="backfill-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def duration(seconds: float) -> str:
    """Say a time for people."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
