"""The learning rate of a training of a known number of steps."""

from __future__ import annotations

import torch

# torch divides by zero where the warm-up takes exactly one step; shorter trainings leave the cycle early.
_LEAST_STEPS = 20


def one_cycle(
    optimizer: torch.optim.Optimizer, highest_rate: float, *, steps: int
) -> torch.optim.lr_scheduler.OneCycleLR:
    """Return a schedule that rises for a tenth of the steps and falls for the rest.

    Source: Smith & Topin 2018, "Super-Convergence".
    """
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, highest_rate, total_steps=max(steps, _LEAST_STEPS), pct_start=0.1
    )
