"""Copies from the host to a device that overlap with what the device computes."""

from __future__ import annotations

import torch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a host tensor on a device; for CUDA from page-locked memory, without waiting for the copy.

    torch keeps the page-locked block until the stream has read it, so the caller may forget it at once.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
