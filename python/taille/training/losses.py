"""How far one network's outputs or hidden states are from another's."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["likeness", "relative_error", "unlikeness"]

TINY = 1e-12


def relative_error(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The mean squared error over the mean square of what is wanted."""
    return (given - wanted).square().mean() / (wanted.square().mean() + TINY)


def likeness(pooled: torch.Tensor) -> torch.Tensor:
    """The cosines between the samples of a batch, [samples, samples]: what embeddings are compared by.

    As the distances of Park et al. 2019, arXiv:1904.05068.
    """
    unit = nn.functional.normalize(pooled, dim=1)
    return unit @ unit.T


def unlikeness(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The relative error of the cosines between samples; embeddings [samples, features], of any two widths."""
    return relative_error(likeness(given), likeness(wanted))
