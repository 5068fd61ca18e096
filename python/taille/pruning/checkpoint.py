"""Where pruning stands, in one file: interrupt it, call it again with the same arguments, and it goes on.

It holds the weights, masks and the optimiser's moments, and is removed at the end; see `taille.training.checkpoint`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from taille.pruning.options import Options
from taille.training.checkpoint import CheckpointFile, checksum

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Checkpoint", "State"]

log = logging.getLogger(__name__)

FORMAT = 2
TENSORS = {"mask": "masks", "optimizer": "optimizer", "order": "order"}  # in the file -> in the state


@dataclass
class State:
    """Where pruning stands.

    Attributes:
        shares: of each layer that remain; empty before they are chosen.
        groups: how many groups of layers are reconstructed.   errors: what reconstruction left of each layer.
        step: how many training steps are done.   steps: of how many; 0 before training.
        masks: by layer; empty before they are made.
        optimizer: "index.key" -> tensor of the optimiser's state.
        order: of the channels that changed places; see `taille.pruning.permute`.
        moves: the rows of its report, JSON-compatible; None before it is done.
    """

    shares: dict[str, float] = field(default_factory=dict)
    groups: int = 0
    errors: dict[str, float] = field(default_factory=dict)
    step: int = 0
    steps: int = 0
    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, torch.Tensor] = field(default_factory=dict)
    order: dict[str, torch.Tensor] = field(default_factory=dict)
    moves: list[dict[str, Any]] | None = None


class Checkpoint:
    """The file, if there shall be one."""

    def __init__(self, model: TorchModel, options: Options):
        self._file = CheckpointFile(options.checkpoint, "prune_model")
        if self._file.path is not None:
            self._file.key = {**fingerprint(model, options), "format": FORMAT}

    @property
    def path(self) -> Path | None:
        """Of the file; None where there is none."""
        return self._file.path

    def load(self, module: nn.Module) -> State:
        """What the file says, with its weights put into `module`; a fresh state where there is no file.

        Raises:
            ValueError: the file is no checkpoint, or one of another model or of other options.
        """
        found = self._file.load()
        if found is None:
            return State()
        parts, state = found
        module.load_state_dict(parts.get("module", {}))
        log.info("going on from checkpoint %s: %d groups, step %d", self.path, state["groups"], state["step"])
        return State(**state | {name: parts.get(kind, {}) for kind, name in TENSORS.items()})

    def save(self, module: nn.Module, state: State) -> None:
        """Write where pruning stands, atomically; nothing where no file was asked for."""
        parts = {"module": module.state_dict()} | {kind: getattr(state, name) for kind, name in TENSORS.items()}
        self._file.save(parts, {k: v for k, v in vars(state).items() if k not in TENSORS.values()})

    def remove(self) -> None:
        """Pruning is done: the file is needed no more."""
        self._file.remove()


def fingerprint(model: TorchModel, options: Options) -> dict[str, Any]:
    """What must be the same for the work to go on: the options and the dense weights."""
    asked = {"calibration_samples", "steps", "epochs", "lr"}
    step = options.step() | {name: getattr(options, name) for name in asked}
    if options.start is not None:
        step["start"] = checksum(options.start.module.state_dict())
    return {**json.loads(json.dumps(step)), "weights": checksum(model.module.state_dict())}
