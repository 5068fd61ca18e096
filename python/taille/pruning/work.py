"""One pruning under way: what all of its steps read and change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn

from taille.arrays import Array
from taille.pruning.checkpoint import Checkpoint, State
from taille.pruning.layers import Layer
from taille.pruning.options import Options

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Work"]


@dataclass
class Work:
    """What is pruned, how, and how far that is.

    Attributes:
        model: the dense model, its channels in the order of those of the copy; never changed.
        module: the copy that is pruned.
        layers: those that are pruned, in the order of execution.
        options: settled ones.
        checkpoint: where the state is written.   state: where pruning stands.
        factors: of the scores, see `taille.pruning.scores.importance`.
    """

    model: TorchModel
    module: nn.Module
    layers: list[Layer]
    options: Options
    checkpoint: Checkpoint
    state: State
    factors: dict[str, Array] = field(default_factory=dict)

    @property
    def progress(self) -> Callable[[str, int, int], None]:
        """The user's `progress`, or one that does nothing."""
        return self.options.progress or (lambda _stage, _done, _total: None)

    def save(self) -> None:
        """Write where pruning stands."""
        self.checkpoint.save(self.module, self.state)
