"""Images by a library's own forward: uint8 pixels are normalized on the device, in batches of bounded size."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from embedder.encoders.base import Pixels
from embedder.encoders.chunk_runner import ChunkRunner
from embedder.encoders.convolutions import fuse_convolutions
from embedder.encoders.host_copies import to_device
from embedder.encoders.towers import DETERMINISTIC, ImageModel, Precision

# Measured on an AMD EPYC with 1 MB of L2 a core: the activations of more images leave the caches.
_MAX_CPU_IMAGES = 4
_MAX_CUDA_IMAGES = 256
# Deterministic batches on an accelerator always hold so many; what is missing is filled up and cut off again.
_FIXED_IMAGES = 16


def embed_images_exactly(model: ImageModel, pixels: Sequence[Pixels]) -> torch.Tensor:
    """Embed each image alone by the library's own forward, in float32 on the CPU: the reference; returns (n, dim)."""
    scale, shift = _normalization(model, torch.device("cpu"))
    with torch.inference_mode():
        return torch.cat([model.module(_normalize(torch.from_numpy(image)[None], scale, shift)) for image in pixels])


def _normalization(model: ImageModel, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what 8-bit pixels are multiplied by and what is added to them, both (1, 3, 1, 1)."""
    mean, std = torch.tensor(model.mean, device=device), torch.tensor(model.std, device=device)
    return (1 / (255 * std)).view(1, 3, 1, 1), (-mean / std).view(1, 3, 1, 1)


def _normalize(pixels: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels times `scale` plus `shift`, in float32."""
    if pixels.device.type != "cpu":
        return torch.addcmul(shift, pixels, scale)
    # Three passes over one type: three times as fast as one pass that mixes them (measured on an AMD EPYC).
    return pixels.float().mul_(scale).add_(shift)


class LibraryImage:
    """The image tower of every architecture."""

    def __init__(
        self,
        model: ImageModel,
        device: torch.device,
        precision: Precision,
        *,
        deterministic: bool = False,
        module: nn.Module | None = None,
    ) -> None:
        """Copy the model to a device.

        Args:
            model: the loaded model; in float32 on the CPU it is used itself, not copied.
            device: where to run.
            precision: what to compute in.
            deterministic: every batch has the same shape, so an image's bits do not change with its neighbours.
            module: what runs in the place of the model's own, prepared and on the device.
        """
        on_cpu = device.type == "cpu"
        if module is not None:
            self._module = module
        elif on_cpu and precision.dtype is torch.float32:
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
        self._deterministic = deterministic
        self._most = _MAX_CPU_IMAGES if on_cpu else _MAX_CUDA_IMAGES
        if deterministic:
            self._most = 1 if on_cpu else _FIXED_IMAGES
        self._runner = ChunkRunner(device)
        self.numerics = precision.name + (DETERMINISTIC if deterministic else "")

    def embed(self, pixels: Sequence[Pixels]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        size = self._runner.chunk_items(len(pixels), self._most)
        chunks = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        small = self._deterministic or self._convolutional
        return torch.cat(self._runner.run(self._forward, chunks, small=small)).cpu()

    def close(self) -> None:
        """End the threads that run chunks."""
        self._runner.close()

    def _forward(self, chunk: Sequence[Pixels]) -> torch.Tensor:
        images = list(chunk)
        if self._deterministic and self._most > 1:
            images += [chunk[0]] * (self._most - len(chunk))
        with torch.inference_mode():
            batch = to_device(torch.from_numpy(np.stack(images)), self._device)  # (n, 3, size, size) uint8
            normalized = _normalize(batch, self._scale, self._shift)
            vectors: torch.Tensor = self._module(normalized.to(self._dtype).contiguous(memory_format=self._format))
        return vectors[: len(chunk)].float()
