"""Images by a library's own forward: uint8 pixels are normalized on the device, in batches of bounded size."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from embedder.encoders.base import Pixels
from embedder.encoders.towers import ImageModel, Precision

_MAX_BATCH = {"cpu": 8, "cuda": 256}


class LibraryImage:
    """The image tower of every architecture."""

    def __init__(self, model: ImageModel, device: torch.device, precision: Precision) -> None:
        """Copy the model to a device.

        Args:
            model: the loaded model; in float32 on the CPU it is used itself, not copied.
            device: where to run.
            precision: what to compute in.
        """
        moves = device.type != "cpu" or precision.dtype is not torch.float32
        self._module = copy.deepcopy(model.module).to(device, precision.dtype) if moves else model.module
        self._format = torch.channels_last if model.convolutional else torch.contiguous_format
        self._device = device
        self._dtype = precision.dtype
        self._scale = (1 / (255 * torch.tensor(model.std, device=device))).view(1, 3, 1, 1)
        self._shift = (-torch.tensor(model.mean, device=device) / torch.tensor(model.std, device=device)).view(
            1, 3, 1, 1
        )
        self.numerics = precision.name

    def embed(self, pixels: Sequence[Pixels]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        size = _MAX_BATCH[self._device.type]
        return torch.cat([self._forward(pixels[start : start + size]) for start in range(0, len(pixels), size)])

    def close(self) -> None:
        """Do nothing: there is nothing to end."""

    def _forward(self, chunk: Sequence[Pixels]) -> torch.Tensor:
        batch = torch.from_numpy(np.stack(chunk)).to(self._device)  # (n, 3, size, size) uint8
        with torch.inference_mode():
            normalized = torch.addcmul(self._shift, batch, self._scale)
            normalized = normalized.to(self._dtype).contiguous(memory_format=self._format)
            vectors: torch.Tensor = self._module(normalized)
        return vectors.float().cpu()
