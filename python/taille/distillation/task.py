"""What a model's outputs are: logits of classes, values, or embeddings."""

from __future__ import annotations

from typing import Any

import torch

from taille.distillation.losses import class_axis
from taille.distillation.options import Options
from taille.torch_model import TorchModel
from taille.training.data import MASK, Batch, tensors_in

__all__ = ["check_logits", "find_task", "loss_name"]

# Losses of torch.nn and torch.nn.functional, by name.
LOSSES = {
    "classification": ("CrossEntropyLoss", "NLLLoss", "cross_entropy", "nll_loss"),
    "regression": ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "mse_loss", "l1_loss", "smooth_l1_loss",
                   "huber_loss"),
    "embedding": ("CosineEmbeddingLoss", "TripletMarginLoss", "TripletMarginWithDistanceLoss", "cosine_embedding_loss",
                  "triplet_margin_loss"),
}  # fmt: skip
CLOSE = 1e-3  # of a sum or a norm to 1


def find_task(teacher: TorchModel, options: Options, outputs: Any, batch: Batch | None) -> tuple[str, str]:
    """The kind of task, and why.

    Args:
        teacher: whose `loss_fn` tells most.
        options: whose `task` comes first.
        outputs: of the teacher on its example inputs.
        batch: of labelled data; None where there are no labels.

    Raises:
        ValueError: nothing tells.
    """
    floats = tensors_in(outputs)
    if not floats:
        raise ValueError(f"{teacher.name} gives no float outputs; there is nothing to learn from")
    if options.task is not None:
        return options.task, "asked for"
    loss = loss_name(teacher.loss_fn)
    named = next((task for task, names in LOSSES.items() if loss in names), None)
    if named is not None:
        return named, f"loss_fn is {loss}"
    target = batch.targets[0] if batch is not None else None
    first = floats[0]
    if isinstance(target, torch.Tensor) and first.dim() > 1:
        if not target.is_floating_point() and target.dtype != torch.bool and target.dim() < first.dim():
            return "classification", "labels are whole numbers"
        if target.is_floating_point() and target.shape[1:] == first.shape[1:]:
            return "regression", "labels are floats in the shape of the outputs"
    if first.dim() == 1 or first.shape[-1] == 1:
        return "regression", "the outputs are single values"
    norms = first.square().sum(-1)
    if first.dim() == 2 and bool(((norms - 1).abs() < CLOSE).all()):
        return "embedding", "the outputs have length 1"
    if first.dim() == 3 and MASK in teacher.examples:
        return "embedding", f"the outputs are hidden states of inputs with an {MASK}"
    raise ValueError(
        f"what the outputs of {teacher.name} are, {list(first.shape)}, cannot be told from its loss_fn and labels; "
        'wanted task: "classification" for logits, "regression" for values, or "embedding"'
    )


def loss_name(loss: Any) -> str:
    """The name of a loss function, or of its class."""
    return str(getattr(loss, "__name__", type(loss).__name__))


def check_logits(outputs: Any, options: Options, name: str) -> None:
    """Raise a ValueError where the outputs cannot be logits of two or more classes."""
    for value in tensors_in(outputs):
        if options.class_axis is not None and not -value.dim() <= options.class_axis < value.dim():
            raise ValueError(f"class_axis is {options.class_axis}; the outputs have rank {value.dim()}")
        axis = class_axis(value, options.class_axis) if value.dim() else 0
        if value.dim() < 2 or value.shape[axis] < 2:
            raise ValueError(
                f"task is \"classification\", but {name} gives {list(value.shape)}; wanted logits of two or more "
                'classes: task "regression" learns single logits as values'
            )  # fmt: skip
        if bool((value >= 0).all()) and bool(((value.sum(axis) - 1).abs() < CLOSE).all()):
            raise ValueError(
                f"the outputs of {name} are probabilities, which sum to 1; a temperature softens logits: wanted a "
                "module without the softmax at its end"
            )
