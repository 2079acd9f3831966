"""All linear heads of a call as one stacked matrix: T heads are one product, so head T+1 is almost free."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import numpy as np

from embedder_heads.classification import activate
from embedder_heads.head_file import Head
from embedder_heads.kinds import Floats, Task

# So many multiplications take about 2 ms on one core (measured, AVX512). Half as many gained nothing from a second thread, which
# started up to 0.5 ms late (Intel Xeon, 2 virtual cores); twice as many took 2.4 ms in place of 4.3.
_SHARED_PRODUCTS = 200_000_000
_MOST_THREADS = 4


class LinearStack:
    """Linear heads of one space, scored by a single matrix product.

    Heads of one task and number of labels lie side by side: softmax and sigmoid run once a group, not once a head.
    Temperature is folded into the weights.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        """Stack heads.

        Args:
            heads: linear heads of one space and one dim, at least one.
        """
        groups: dict[tuple[Task, int], list[int]] = {}
        for number, head in enumerate(heads):
            groups.setdefault((head.manifest.task, len(head.manifest.labels)), []).append(number)
        self._rows: list[slice] = [slice(0)] * len(heads)
        self._groups: list[tuple[slice, Task, int]] = []
        weights: list[Floats] = []
        biases: list[Floats] = []
        row = 0
        for (task, labels), members in groups.items():
            start = row
            for number in members:
                self._rows[number] = slice(row, row + labels)
                row += labels
                temperature = np.float32(heads[number].manifest.temperature)
                weights.append(heads[number].tensors["weight"] / temperature)
                biases.append(heads[number].tensors["bias"] / temperature)
            self._groups.append((slice(start, row), task, labels))
        self._weight: Floats = np.concatenate(weights)  # (rows, dim)
        self._bias: Floats = np.concatenate(biases)[:, None]  # (rows, 1)

    @property
    def rows(self) -> int:
        """Outputs of all heads together."""
        return len(self._weight)

    def rows_of(self, number: int) -> slice:
        """Return where a head's labels stand in `block`, by the head's place in the order given."""
        return self._rows[number]

    def scores(self, vectors: Floats) -> list[Floats]:
        """Score vectors by every head.

        Args:
            vectors: (n, dim) float32.
        Returns:
            Per head, in the order given, (n, labels) float32; views into one array that is the caller's.
        """
        block = self.block(vectors)
        return [block[rows].T for rows in self._rows]

    def block(self, vectors: Floats) -> Floats:
        """Score (n, dim) float32 vectors by every head: (rows, n) float32, the caller's; `rows_of` finds a head in it."""
        logits = self._product(np.ascontiguousarray(vectors.T))  # (rows, n): a head's rows lie together in memory
        logits += self._bias
        for rows, task, labels in self._groups:
            heads = (rows.stop - rows.start) // labels
            activate(logits[rows].reshape(heads, labels, len(vectors)), task)
        return logits

    def _product(self, columns: Floats) -> Floats:
        """Multiply with (dim, n) float32; what takes milliseconds is shared by threads, since BLAS is kept to the one that asks."""
        logits: Floats = np.empty((self.rows, columns.shape[1]), np.float32)
        wanted = self._weight.size * columns.shape[1] // _SHARED_PRODUCTS + 1
        parts = min(wanted, _MOST_THREADS, len(os.sched_getaffinity(0)))
        bounds = np.linspace(0, self.rows, parts + 1).astype(int).tolist()

        def multiply(part: int) -> None:
            rows = slice(bounds[part], bounds[part + 1])
            np.matmul(self._weight[rows], columns, out=logits[rows])

        threads = [threading.Thread(target=multiply, args=(part,)) for part in range(1, parts)]
        for thread in threads:
            thread.start()
        multiply(0)
        for thread in threads:
            thread.join()
        return logits
