"""Device time by CUDA events: what the GPU's stream spent, not what the host waited."""

from __future__ import annotations

import torch


class CudaClock:
    """Marks moments in the current stream of one GPU; the structure that `embedder.savings.meter` asks for."""

    source = "CUDA events around the forward pass"
    boundary = "from the stream's reaching the first to its reaching the last; gaps in which the host prepared kernels counted in"

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)

    def start(self) -> torch.cuda.Event:
        """Mark a moment."""
        return self._mark()

    def stop(self, mark: torch.cuda.Event) -> float:
        """Wait for the stream to get here, and return seconds since a mark."""
        end = self._mark()
        end.synchronize()
        return float(mark.elapsed_time(end)) * 1e-3

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch ships it untyped
        event.record(torch.cuda.current_stream(self._device))
        return event


def device_name(device: str) -> str:
    """Return a device's name by its driver, such as `NVIDIA H100 80GB HBM3`; empty for a processor."""
    return torch.cuda.get_device_name(torch.device(device)) if device.startswith("cuda") else ""
