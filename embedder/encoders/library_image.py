"""Images by a library's own forward: uint8 pixels are normalized on the device, in batches of bounded size."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from embedder.encoders.base import Pixels
from embedder.encoders.chunk_runner import ChunkRunner
from embedder.encoders.convolutions import fuse_convolutions
from embedder.encoders.towers import ImageModel, Precision

# Measured on an AMD EPYC with 1 MB of L2 a core: the activations of more images leave the caches.
_MAX_CPU_IMAGES = 4
_MAX_CUDA_IMAGES = 256


def embed_images_exactly(model: ImageModel, pixels: Sequence[Pixels]) -> torch.Tensor:
    """Embed each image alone by the library's own forward, in float32 on the CPU: the reference; returns (n, dim)."""
    scale, shift = _normalization(model, torch.device("cpu"))
    with torch.inference_mode():
        return torch.cat([model.module(torch.addcmul(shift, torch.from_numpy(image)[None], scale)) for image in pixels])


def _normalization(model: ImageModel, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what 8-bit pixels are multiplied by and what is added to them, both (1, 3, 1, 1)."""
    mean, std = torch.tensor(model.mean, device=device), torch.tensor(model.std, device=device)
    return (1 / (255 * std)).view(1, 3, 1, 1), (-mean / std).view(1, 3, 1, 1)


class LibraryImage:
    """The image tower of every architecture."""

    def __init__(self, model: ImageModel, device: torch.device, precision: Precision) -> None:
        """Copy the model to a device.

        Args:
            model: the loaded model; in float32 on the CPU it is used itself, not copied.
            device: where to run.
            precision: what to compute in.
        """
        on_cpu = device.type == "cpu"
        if on_cpu and precision.dtype is torch.float32:
            # Fused is 2 to 3 times as fast, and some roundings away (measured on EfficientNet-Lite0).
            size = model.transform.size
            self._module = fuse_convolutions(model.module, size) if model.convolutional else model.module
        else:
            self._module = copy.deepcopy(model.module).to(device, precision.dtype)
        self._convolutional = model.convolutional
        self._format = torch.channels_last if model.convolutional else torch.contiguous_format
        self._device = device
        self._dtype = precision.dtype
        self._scale, self._shift = _normalization(model, device)
        self._most = _MAX_CPU_IMAGES if on_cpu else _MAX_CUDA_IMAGES
        self._runner = ChunkRunner(device)
        self.numerics = precision.name

    def embed(self, pixels: Sequence[Pixels]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        size = self._runner.chunk_items(len(pixels), self._most)
        chunks = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        return torch.cat(self._runner.run(self._forward, chunks, small=self._convolutional))

    def close(self) -> None:
        """End the threads that run chunks."""
        self._runner.close()

    def _forward(self, chunk: Sequence[Pixels]) -> torch.Tensor:
        with torch.inference_mode():
            batch = torch.from_numpy(np.stack(chunk)).to(self._device)  # (n, 3, size, size) uint8
            normalized = torch.addcmul(self._shift, batch, self._scale)
            vectors: torch.Tensor = self._module(normalized.to(self._dtype).contiguous(memory_format=self._format))
        return vectors.float().cpu()
