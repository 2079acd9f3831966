"""Recorded readings: written by one meter, and given again by another, so that what follows can be checked anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from embedder.savings.figures import Basis, Figure
from embedder.savings.meter import Meter, Reading


class RecordingMeter:
    """Measures with another meter, and appends each reading to a JSONL file."""

    def __init__(self, meter: Meter, path: Path) -> None:
        self._meter = meter
        self._path = path

    @property
    def idle_watts(self) -> float:
        """Power of the device at rest, by the other meter."""
        return self._meter.idle_watts

    def begin(self) -> None:
        """Start a batch."""
        self._meter.begin()

    def end(self) -> Reading:
        """End the batch, and write its reading down."""
        reading = self._meter.end()
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(reading)) + "\n")
        return reading

    def description(self) -> Mapping[str, Mapping[str, str]]:
        """Return the other meter's description."""
        return self._meter.description()


class ReplayMeter:
    """Gives recorded readings in their order, whatever runs."""

    def __init__(self, readings: Iterable[Reading], *, idle_watts: float = 0.0) -> None:
        self.idle_watts = idle_watts
        self._readings = list(readings)
        self._rest: Iterator[Reading] = iter(self._readings)

    @classmethod
    def from_file(cls, path: Path) -> ReplayMeter:
        """Read what a `RecordingMeter` wrote."""
        return cls(_reading(json.loads(line)) for line in path.read_text().splitlines())

    def begin(self) -> None:
        """Start a batch; nothing is measured."""

    def end(self) -> Reading:
        """Return the next reading.

        Raises:
            RuntimeError: there were more batches than readings.
        """
        try:
            return next(self._rest)
        except StopIteration:
            raise RuntimeError(
                f"the recording holds {len(self._readings)} readings, and there was one batch more"
            ) from None

    def description(self) -> Mapping[str, Mapping[str, str]]:
        """Return what the first reading says of itself."""
        first = self._readings[0] if self._readings else None
        figures = {"device": first.device, "wall": first.wall, "energy": first.energy} if first else {}
        return {
            name: {"basis": figure.basis.value, "source": f"recorded: {figure.source}", "boundary": figure.boundary}
            for name, figure in figures.items()
            if figure
        }


def _reading(values: dict[str, Any]) -> Reading:
    figures = {name: _figure(figure) if figure else None for name, figure in values.items()}
    return Reading(**figures)  # type: ignore[arg-type]  # `device` is always there


def _figure(values: dict[str, Any]) -> Figure:
    return Figure(**{**values, "basis": Basis(values["basis"])})
