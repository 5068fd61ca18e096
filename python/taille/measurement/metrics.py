"""How good outputs are: accuracy, RMSE, R2, macro F1 and Spearman's rank correlation, in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from taille.arrays import Array

__all__ = ["METRICS", "accuracy", "check_shapes", "f1", "mean_ranks", "r2", "rmse", "spearman"]

Floats = npt.NDArray[np.float64]


def accuracy(outputs: Array, targets: Array) -> float:
    """The share of predictions that are right.

    Args:
        outputs: class scores (samples, classes, ...), of which the largest along dimension 1 is the prediction; or
            integer predictions of the targets' shape.
        targets: integer or bool classes (samples, ...).

    Raises:
        ValueError: other shapes or types.
    """
    return float(np.mean(predictions("accuracy", outputs, targets) == targets))


def f1(outputs: Array, targets: Array) -> float:
    """Macro F1: the mean over classes of 2 TP / (2 TP + FP + FN).

    Classes are those that occur among targets or predictions. Arguments and errors as `accuracy`.
    """
    predicted = predictions("f1", outputs, targets)
    right = predicted == targets
    scores = []
    for label in np.union1d(predicted, targets):  # each occurs, so that no denominator is 0
        both = 2 * int(np.count_nonzero(right & (targets == label)))
        scores.append(both / (int(np.count_nonzero(predicted == label)) + int(np.count_nonzero(targets == label))))
    return float(np.mean(scores))


def rmse(outputs: Array, targets: Array) -> float:
    """Root mean squared error: sqrt(mean((output - target)^2)) over all elements; lower is better.

    Args:
        outputs: real numbers (samples, ...).
        targets: of the same shape; sizes of 1 at the end may be missing on either side.

    Raises:
        ValueError: other shapes or types.
    """
    values, wanted = numbers("rmse", outputs, targets)
    return float(np.sqrt(np.mean((values - wanted) ** 2)))


def r2(outputs: Array, targets: Array) -> float:
    """Coefficient of determination: 1 - sum((output - target)^2) / sum((target - mean target)^2).

    With several columns it is the mean of each one's. Arguments as `rmse`.

    Raises:
        ValueError: other shapes or types, or a column of targets that is constant, for which it is not defined.
    """
    values, wanted = numbers("r2", outputs, targets)
    values, wanted = values.reshape(len(values), -1), wanted.reshape(len(wanted), -1)
    if np.any(wanted.min(axis=0) == wanted.max(axis=0)):
        raise ValueError("r2 is not defined where all targets of a column are the same")
    total = ((wanted - wanted.mean(axis=0)) ** 2).sum(axis=0)
    return float(np.mean(1 - ((values - wanted) ** 2).sum(axis=0) / total))


def spearman(outputs: Array, targets: Array) -> float:
    """Spearman's rank correlation: Pearson's correlation of the ranks; equal values share their mean rank.

    Args:
        outputs: a real number per sample, (samples,) or (samples, 1).
        targets: likewise.

    Raises:
        ValueError: other shapes or types, or all outputs or all targets are the same: it is not defined then.
    """
    values, wanted = numbers("spearman", outputs, targets)
    if values.size != len(values):
        raise ValueError(f"spearman takes one number per sample; outputs have shape {list(outputs.shape)}")
    a, b = mean_ranks(values.ravel()), mean_ranks(wanted.ravel())
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    if scale == 0:
        raise ValueError("spearman is not defined where all outputs or all targets are the same")
    return float(a @ b) / scale


def mean_ranks(values: Array) -> Floats:
    """The rank of each value from 1; equal values have the mean of the ranks they take up."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # rank of the last of each group of equals
    ranks: Floats = (last - (counts - 1) / 2)[which.reshape(-1)]
    return ranks


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "rmse": rmse,
    "r2": r2,
    "f1": f1,
    "spearman": spearman,
}


def check_shapes(metric: str, outputs: Array, targets: Array) -> None:
    """Raise a ValueError unless the named metric takes outputs and targets of these shapes and types."""
    (predictions if metric in ("accuracy", "f1") else numbers)(metric, outputs, targets)


def predictions(metric: str, outputs: Array, targets: Array) -> Array:
    """The class that each output stands for, in the targets' shape."""
    if targets.dtype.kind not in "iub":
        raise ValueError(f"{metric} takes integer classes; targets are {targets.dtype}")
    if outputs.shape == targets.shape and outputs.dtype.kind in "iub":
        return outputs
    scores = outputs.ndim == targets.ndim + 1 and outputs.shape[:1] + outputs.shape[2:] == targets.shape
    if not scores or outputs.shape[1] < 2:
        raise ValueError(
            f"{metric} takes scores of shape (samples, classes, ...) or integer predictions of the targets' shape; "
            f"outputs are {outputs.dtype}{list(outputs.shape)}, targets {list(targets.shape)}: pass a callable"
        )
    return np.asarray(outputs.argmax(axis=1))


def numbers(metric: str, outputs: Array, targets: Array) -> tuple[Floats, Floats]:
    """Both as float64 of one shape, so that nothing is broadcast."""
    if outputs.dtype.kind not in "fiub" or targets.dtype.kind not in "fiub":
        raise ValueError(f"{metric} takes real numbers; outputs are {outputs.dtype}, targets {targets.dtype}")
    shapes = [tuple(a.shape) for a in (outputs, targets)]
    for i, shape in enumerate(shapes):
        while len(shape) > 1 and shape[-1] == 1:
            shape = shape[:-1]
        shapes[i] = shape
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{metric} takes outputs and targets of one shape; outputs are {list(outputs.shape)}, "
            f"targets {list(targets.shape)}"
        )
    return outputs.astype(np.float64).reshape(shapes[0]), targets.astype(np.float64).reshape(shapes[0])
