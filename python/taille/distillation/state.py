"""Where a distillation stands, and the file it is kept in."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from taille.distillation.options import Options
from taille.distillation.student import Student
from taille.torch_model import TorchModel
from taille.training.checkpoint import CheckpointFile, checksum

__all__ = ["Checkpoint", "State"]

log = logging.getLogger(__name__)

FORMAT = 1
TENSORS = ("best", "optimizer", "projections")


@dataclass
class State:
    """Where it stands.

    Attributes:
        step: training steps done.   epoch: whole epochs done.   within: steps done of the one under way.
        sums: of the losses of that epoch's steps, by their names.
        history: a row per epoch; row 0, where quality is measured, is the student before training.
        best_epoch: whose weights are in `best`; None: there are none yet.   best_quality: None: not measured.
        reference: the quality that the next must exceed by min_delta.   stale: epochs in a row that did not.
        held: CRC-32 of what is held out.
        best: the module's tensors.   optimizer: "index.key" -> tensor.   projections: index -> weight.
    """

    step: int = 0
    epoch: int = 0
    within: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    best_quality: float | None = None
    reference: float | None = None
    stale: int = 0
    held: int | None = None
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    projections: dict[str, torch.Tensor] = field(default_factory=dict)


class Checkpoint:
    """The file, if there shall be one; see `taille.training.checkpoint`."""

    def __init__(self, path: str | Path | None, teacher: TorchModel, student: Student, options: Options):
        self._file = CheckpointFile(path, "distill_model")
        if self._file.path is not None:
            self._file.key = fingerprint(teacher, student, options)

    def load(self, module: nn.Module) -> State:
        """What the file says, with its weights put into `module`; a fresh state where there is no file.

        Raises:
            ValueError: the file is no checkpoint, or one of other models or another configuration.
        """
        found = self._file.load()
        if found is None:
            return State()
        parts, state = found
        module.load_state_dict(parts.get("module", {}))
        log.info("going on from checkpoint %s: epoch %d, step %d", self._file.path, state["epoch"], state["step"])
        return State(**state | {name: parts.get(name, {}) for name in TENSORS})

    def save(self, module: nn.Module, state: State) -> None:
        """Write where it stands, atomically; nothing where no file was asked for."""
        parts = {"module": module.state_dict()} | {name: getattr(state, name) for name in TENSORS}
        self._file.save(parts, {k: v for k, v in vars(state).items() if k not in TENSORS})

    def remove(self) -> None:
        """It is done: the file is needed no more."""
        self._file.remove()


def fingerprint(teacher: TorchModel, student: Student, options: Options) -> dict[str, Any]:
    """What must be the same for the work to go on: configuration, the teacher's weights and the student's form.

    The first weights of a student that the user gives may differ: a random one is another in each process, and its
    weights are in the file.
    """
    shapes = {n: [str(t.dtype), *t.shape] for n, t in student.module.state_dict().items()}
    key = {**options.record(), "teacher": checksum(teacher.module.state_dict()), "student": shapes, "format": FORMAT}
    return dict(json.loads(json.dumps(key)))
