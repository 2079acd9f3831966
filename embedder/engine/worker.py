"""The device's thread, which takes batches and encodes them, and the one behind it that gives every content exactly one answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import numpy as np
import numpy.typing as npt
import structlog

from embedder.encoders.base import Encoder
from embedder.encoders.thread_priority import yield_to_callers
from embedder.engine.contents import BatchShape, DeviceUsage
from embedder.engine.cost_model import CostModel
from embedder.engine.forward import Forward, Row
from embedder.engine.ready_queue import ReadyQueue
from embedder.engine.single_flight import Flight, FlightTable
from embedder.engine.ticket import Delivery
from embedder.errors import DeadlineExpired, EmbedderError, EncoderError
from embedder.savings.meter import Meter, Reading
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)

_PACKED = "packed"  # in the numerics class of encoders that lay texts end to end


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What one batch came to.

    Attributes:
        flights: the contents that were computed.
        vectors: (n, dim) float16, one row a flight.
        device_seconds: (n,) each content's share of the device time, by cost units.
        reading: what the meter says of the whole batch.
        encode_s: wall seconds of the batch on the device.
        started_at: `time.monotonic()` seconds when it started.
        shape: its size, failed contents included.
    """

    flights: Sequence[Flight]
    vectors: npt.NDArray[np.float16]
    device_seconds: npt.NDArray[np.float64]
    reading: Reading
    encode_s: float
    started_at: float
    shape: BatchShape

    def usage(self, rows: Sequence[int]) -> DeviceUsage:
        """Return what some of the contents took, by their share of the device time."""
        device_s, reading = float(self.device_seconds[rows].sum()), self.reading
        share = device_s / reading.device.value if reading.device.value else 0.0
        return DeviceUsage(
            device_s=device_s,
            wall_s=reading.wall.value * share,
            joules=reading.energy.value * share if reading.energy else 0.0,
        )


@dataclass(frozen=True, slots=True)
class _Ended:
    """A batch as it left the device: each flight's row, or why it has none."""

    flights: Sequence[Flight]
    rows: Sequence[Row]
    reading: Reading
    encode_s: float
    started_at: float


class DeviceWorker:
    """Runs batches on one device, one after the other, in a thread of its own.

    A second thread answers what has ended: the device starts the next batch meanwhile (measured: a twentieth of a batch of short
    texts went by while the callers of the last one were answered).
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        queue: ReadyQueue,
        table: FlightTable,
        cost_model: CostModel,
        meter: Meter,
        on_batch: Callable[[EncodedBatch], None],
    ) -> None:
        self._encoder = encoder
        self._queue = queue
        self._table = table
        self._cost_model = cost_model
        self._meter = meter
        self._on_batch = on_batch
        self._ended: SimpleQueue[_Ended | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name="device", daemon=True),
            threading.Thread(target=self._answer_ended, name="device-answers", daemon=True),
        ]

    def start(self) -> None:
        """Start taking batches."""
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until all is answered, after the queue was closed."""
        for thread in self._threads:
            thread.join(timeout_s)

    def _run(self) -> None:
        yield_to_callers()
        while batch := self._queue.take():
            if wanted := self._wanted(batch):
                with self._answering_all(wanted):
                    self._ended.put(self._run_batch(wanted))
        self._ended.put(None)

    def _answer_ended(self) -> None:
        while ended := self._ended.get():
            with self._answering_all(ended.flights):
                self._answer(ended)

    @contextmanager
    def _answering_all(self, flights: Sequence[Flight]) -> Iterator[None]:
        """Outlive any defect, and answer every waiter with it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as it says
            _log.exception("batch failed outside the encoder", items=len(flights))
            for flight in flights:
                self._table.fail(flight, EncoderError(f"internal error while encoding: {error!r}"))

    def _wanted(self, batch: Sequence[Flight]) -> list[Flight]:
        """Drop what nobody waits for any more, and what can't be there in time.

        A batch of nothing but the latter is run: were the estimates wrong, they would be learned anew.
        """
        awaited = [flight for flight in batch if not self._table.drop_unwanted(flight, _expired)]
        in_time = [flight for flight in awaited if self._table.is_wanted(flight, needed_s=self._alone_s(flight))]
        if not in_time:
            return awaited
        kept = set(map(id, in_time))
        late = [flight for flight in awaited if id(flight) not in kept]
        return in_time + [
            flight for flight in late if not self._table.drop_unwanted(flight, _expired, needed_s=self._alone_s(flight))
        ]

    def _alone_s(self, flight: Flight) -> float:
        """Estimate the least time until a content's vector is there."""
        assert flight.item.modality is not None
        return self._cost_model.batch_seconds(flight.item.modality, flight.units)

    def _run_batch(self, flights: list[Flight]) -> _Ended:
        started_at = time.monotonic()
        start = time.perf_counter()
        self._meter.begin()
        modality = flights[0].item.modality
        assert modality is not None
        rows = self._encode(modality, flights)
        reading = self._meter.end()
        encode_s = time.perf_counter() - start
        if not any(isinstance(row, EmbedderError) for row in rows):
            # A bisected batch ran more than once: its time says nothing of the next.
            self._cost_model.learn_batch(
                modality,
                seconds=encode_s,
                device_s=reading.device.value,
                units=float(sum(flight.units for flight in flights)),
                items=len(flights),
            )
        return _Ended(flights, rows, reading, encode_s, started_at)

    def _answer(self, ended: _Ended) -> None:
        computed: list[tuple[Flight, npt.NDArray[np.float32]]] = []
        for flight, row in zip(ended.flights, ended.rows, strict=True):
            if isinstance(row, EmbedderError):
                self._table.fail(flight, row)
            else:
                computed.append((flight, row))
        if not computed:
            return
        units = np.array([flight.units for flight, _ in computed])
        self._on_batch(
            EncodedBatch(
                flights=[flight for flight, _ in computed],
                vectors=np.stack([row for _, row in computed]).astype(np.float16),  # (n, dim)
                device_seconds=ended.reading.device.value * units / units.sum(),
                reading=ended.reading,
                encode_s=ended.encode_s,
                started_at=ended.started_at,
                shape=self._shape(ended.flights),
            )
        )

    def _encode(self, modality: Modality, flights: Sequence[Flight]) -> list[Row]:
        def shrink(first: int, last: int) -> None:
            self._shrink_batches(flights[first:last])

        prepared = [flight.prepared for flight in flights]
        return Forward(self._encoder, on_out_of_memory=shrink).rows(modality, prepared)  # type: ignore[arg-type]  # all are

    def _shape(self, flights: Sequence[Flight]) -> BatchShape:
        units = [flight.units for flight in flights]
        is_packed = flights[0].item.modality is not Modality.TEXT or _PACKED in self._encoder.info.numerics
        padded = sum(units) if is_packed else len(units) * max(units)
        return BatchShape(items=len(units), units=sum(units), padded_units=padded)

    def _shrink_batches(self, flights: Sequence[Flight]) -> None:
        modality = flights[0].item.modality
        assert modality is not None
        limit = self._queue.limit_batch(modality, sum(flight.units for flight in flights) / 2)
        _log.warning("device out of memory; batches are smaller from now on", modality=modality, max_batch_units=limit)


def _expired() -> EmbedderError:
    return DeadlineExpired("the call's deadline passed before the content reached the device")


def deliveries(batch: EncodedBatch) -> list[Delivery]:
    """Return what each content of a batch is answered with, one a flight."""
    return [
        Delivery(
            vector=batch.vectors[row],
            device_seconds=float(batch.device_seconds[row]),
            prepare_s=flight.prepare_s,
            queue_s=batch.started_at - flight.ready_at,
            encode_s=batch.encode_s,
            batch=batch.shape,
        )
        for row, flight in enumerate(batch.flights)
    ]
