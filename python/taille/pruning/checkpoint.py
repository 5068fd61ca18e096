"""Where pruning stands, in one file: interrupt it, call it again with the same arguments, and it goes on.

A safetensors file with the tensors (weights, masks, the optimiser's moments) and, as metadata, JSON of the rest. It is
written beside, flushed to disk and renamed, so that an interrupt never leaves half a file, and is removed at the end.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from taille.pruning.options import Options

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
        self.path = None if options.checkpoint is None else Path(options.checkpoint)
        if self.path is not None and not self.path.absolute().parent.is_dir():
            raise ValueError(f"checkpoint is '{self.path}', in a folder that does not exist")
        self._key = {} if self.path is None else {**fingerprint(model, options), "format": FORMAT}

    def load(self, module: nn.Module) -> State:
        """What the file says, with its weights put into `module`; a fresh state where there is no file.

        Raises:
            ValueError: the file is no checkpoint, or one of another model or of other options.
        """
        if self.path is None or not self.path.exists():
            return State()
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.path), framework="pt") as file:
                facts = json.loads((file.metadata() or {})["taille.pruning"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            key, state = facts["key"], facts["state"]
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"checkpoint '{self.path}' is not one of prune_model: {error!r}") from None
        other = [name for name, value in self._key.items() if key.get(name) != value]
        if other:
            raise ValueError(
                f"checkpoint '{self.path}' was made with another {', '.join(other)}; wanted the same arguments, or the "
                "path of a file that does not exist yet"
            )
        module.load_state_dict(part("module", tensors))
        log.info("going on from checkpoint %s: %d groups, step %d", self.path, state["groups"], state["step"])
        return State(**state | {name: part(kind, tensors) for kind, name in TENSORS.items()})

    def save(self, module: nn.Module, state: State) -> None:
        """Write where pruning stands, atomically; nothing where no file was asked for."""
        if self.path is None:
            return
        from safetensors.torch import save

        parts = {"module": module.state_dict()} | {kind: getattr(state, name) for kind, name in TENSORS.items()}
        tensors = {f"{kind}/{n}": t.detach().clone().contiguous() for kind, p in parts.items() for n, t in p.items()}
        facts = {k: v for k, v in vars(state).items() if k not in TENSORS.values()}
        text = json.dumps({"key": self._key, "state": facts})
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with beside.open("wb") as file:
                file.write(save(tensors, metadata={"taille.pruning": text}))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        finally:
            beside.unlink(missing_ok=True)

    def remove(self) -> None:
        """Pruning is done: the file is needed no more."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def part(kind: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of one kind, by their names."""
    return {n.removeprefix(f"{kind}/"): t for n, t in tensors.items() if n.startswith(f"{kind}/")}


def fingerprint(model: TorchModel, options: Options) -> dict[str, Any]:
    """What must be the same for the work to go on: the options and the dense weights."""
    crc = 0
    for name, tensor in model.module.state_dict().items():
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy(), crc)
    asked = {"calibration_samples", "steps", "epochs", "lr"}
    step = options.step() | {k: v for k, v in asdict(options).items() if k in asked}
    return {**json.loads(json.dumps(step)), "weights": crc}
