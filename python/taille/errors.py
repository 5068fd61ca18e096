"""The exceptions taille raises beyond Python's own; each derives from `Error`, but for an interrupt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taille.models import BaseMLModel

__all__ = [
    "ArtefactError",
    "CaptureError",
    "ClosedError",
    "ConstraintError",
    "DeadlineError",
    "Error",
    "IsaError",
    "QueueFullError",
    "TrainingError",
    "TrainingInterrupt",
]


class Error(Exception):
    """The base of every exception that is taille's own."""


class ArtefactError(Error, ValueError):
    """The file is not a taille artefact, or it is damaged, hostile or newer than this version."""


class IsaError(Error, ValueError):
    """The CPU level asked for (by TAILLE_ISA or an argument) does not exist, or this CPU lacks it."""


class CaptureError(Error):
    """The model cannot be captured; the message lists every unsupported node, with its shapes."""


class QueueFullError(Error):
    """A runner refuses a request, as `queue_size` of them are waiting."""


class DeadlineError(Error, TimeoutError):
    """A runner refuses a request, or gives it up: it cannot be answered by its deadline."""


class ClosedError(Error, RuntimeError):
    """The runner takes no requests: it was drained or closed, or it belongs to the process this one was forked off."""


class TrainingError(Error, ValueError):
    """Training cannot go on: a loss or a quality is NaN or infinite.

    Attributes:
        best: the best model so far; None where there is none yet.
    """

    def __init__(self, message: str, *, best: BaseMLModel | None = None):
        super().__init__(message)
        self.best = best


class TrainingInterrupt(KeyboardInterrupt):
    """An interrupt from the keyboard came while training; no `Error`, so that it ends a program as any interrupt does.

    Attributes:
        best: the best model so far; None where there is none yet.
    """

    def __init__(self, message: str, *, best: BaseMLModel | None = None):
        super().__init__(message)
        self.best = best


class ConstraintError(Error, ValueError):
    """No candidate meets the contract; the message says which bound failed, by how much, and what would be met.

    Attributes:
        front: the candidates that no other beats in latency, bytes and quality at once; a dict each, with "key" (the
            recipe, or how it was run, in words), "metrics" and, of `ModelOptimizer`, "recipe" and "file".
        nearest: the one that misses the contract by least, or None.
    """

    def __init__(
        self, message: str, *, front: list[dict[str, Any]] | None = None, nearest: dict[str, Any] | None = None
    ):
        super().__init__(message)
        self.front = front or []
        self.nearest = nearest
