"""The soft loss: how far a student's outputs are from the teacher's, by what the outputs are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from taille.training.data import Batch, tensors_in
from taille.training.losses import unlikeness

__all__ = ["SOFT", "class_axis", "embedding_loss", "soft_loss", "softened_divergence"]

SOFT = {
    "classification": "KL divergence of softened logits, times the square of the temperature",
    "regression": "mean squared error",
    "embedding": "1 - cosine, and relative squared error of the cosines between samples",
}


def softened_divergence(given: torch.Tensor, wanted: torch.Tensor, temperature: float, axis: int = -1) -> torch.Tensor:
    """T^2 KL(softmax(wanted / T) || softmax(given / T)), summed over the classes, the mean over all else.

    Gradients of softened logits fall as 1 / T^2, so the factor keeps them as large as those of the hard loss, whatever
    the temperature (Hinton et al. 2015, arXiv:1503.02531, section 2).

    Args:
        given: the student's logits, any shape.
        wanted: the teacher's, the same shape.
        temperature: T, above 0.
        axis: that of the classes.
    """
    ours = functional.log_softmax(given / temperature, axis)
    theirs = functional.log_softmax(wanted / temperature, axis)
    divergence = functional.kl_div(ours, theirs, reduction="none", log_target=True)
    return divergence.sum(axis).mean() * temperature**2


def embedding_loss(batch: Batch, given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 - cosine, of each sample's embedding and of each position, and how unlike samples are to one another.

    Args:
        batch: says what is padding.
        given: the student's, [n, features], or [n, sequence, features], whose mean over the positions is the embedding.
        wanted: the teacher's, the same shape.
    """
    ours, theirs = batch.pooled(given), batch.pooled(wanted)
    if ours is None or theirs is None:
        ours, theirs = given.flatten(1), wanted.flatten(1)
        return away(ours, theirs) + unlikeness(ours, theirs)
    return away(batch.real(given), batch.real(wanted)) + away(ours, theirs) + unlikeness(ours, theirs)


def away(given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """1 - cosine along the last dimension, the mean over all others."""
    return 1 - nn.functional.cosine_similarity(given, wanted, dim=-1).mean()


def class_axis(logits: torch.Tensor, asked: int | None = None) -> int:
    """Where the classes are: [n, classes] and [n, sequence, classes] have them last, [n, classes, h, w] second."""
    rank = int(logits.dim())
    if asked is not None:
        return asked % rank
    return 1 if rank >= 4 else rank - 1


def soft_loss(
    task: str, batch: Batch, given: Any, wanted: Any, *, temperature: float, axis: int | None
) -> torch.Tensor:
    """The soft loss of a batch, the mean over the float tensors among the outputs.

    Args:
        task: "classification", "regression" or "embedding".
        batch: says what is padding.
        given: the student's outputs.
        wanted: the teacher's.
        temperature: of softened logits.
        axis: of the classes; None: see `class_axis`.
    """
    losses = []
    for ours, theirs in zip(tensors_in(given), tensors_in(wanted), strict=True):
        if task == "classification":
            where = class_axis(ours, axis)
            logits = [batch.real(t.movedim(where, -1)) for t in (ours, theirs)]
            losses.append(softened_divergence(logits[0], logits[1], temperature))
        elif task == "regression":
            losses.append(functional.mse_loss(batch.real(ours), batch.real(theirs)))
        else:
            losses.append(embedding_loss(batch, ours, theirs))
    return torch.stack(losses).mean()
