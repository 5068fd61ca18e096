"""Hidden features: what a student's module gives, projected, is pulled to what a teacher's module gives.

Source: the regressors of FitNets, Romero et al. 2015, arXiv:1412.6550.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from taille.pruning.layers import hooked
from taille.training.data import Batch, tensors_in
from taille.training.losses import relative_error

__all__ = ["Projections", "Watch"]


class Watch:
    """Notes what modules of these names give, each at its last call."""

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self.seen: dict[str, torch.Tensor] = {}

    @contextmanager
    def on(self, root: nn.Module) -> Iterator[None]:
        """Note calls of submodules of `root` for as long as the context lasts."""
        self.seen.clear()

        def noting(name: str) -> Any:
            def hook(_module: nn.Module, _args: Any, output: Any) -> None:
                for tensor in tensors_in(output)[:1]:
                    self.seen[name] = tensor

            return hook

        with hooked(root, {name: noting(name) for name in self.names}):
            yield


def channel_axis(value: torch.Tensor) -> int:
    """The dimension of features: [n, c, h, w] has it second, [n, c] and [n, sequence, c] last."""
    return 1 if value.dim() == 4 else value.dim() - 1


class Projections:
    """A learned linear map without bias per pair, from the student's channels to the teacher's.

    Attributes:
        weights: [teacher's channels, student's channels] each; the identity at first where these are equal.
    """

    def __init__(self, teacher: Watch, student: Watch):
        """Make them for what two watches saw on the same inputs.

        Raises:
            ValueError: a module was not called, or two features differ in more than their channels.
        """
        self.pairs = list(zip(teacher.names, student.names, strict=True))
        self.weights: list[nn.Parameter] = []
        for names in self.pairs:
            seen = []
            for who, watch, name in (("teacher", teacher, names[0]), ("student", student, names[1])):
                if name not in watch.seen:
                    raise ValueError(f"features: the {who}'s module {name!r} gives no float tensor, or is never called")
                seen.append(watch.seen[name])
            wanted, given = seen
            axis = channel_axis(wanted)
            shapes = [[s for i, s in enumerate(v.shape) if i != axis] for v in seen]
            if wanted.dim() < 2 or shapes[0] != shapes[1]:
                raise ValueError(
                    f"features: the teacher's {names[0]!r} gives {list(wanted.shape)} and the student's {names[1]!r} "
                    f"{list(given.shape)}; wanted shapes that differ in dimension {axis} alone, which is projected"
                )
            weight = torch.empty(wanted.shape[axis], given.shape[axis])
            equal = weight.shape[0] == weight.shape[1]
            self.weights.append(nn.Parameter(nn.init.eye_(weight) if equal else nn.init.orthogonal_(weight)))

    def loss(self, batch: Batch, wanted: Watch, given: Watch) -> torch.Tensor:
        """The mean over the pairs of the relative squared error, padding left out."""
        errors = []
        for (theirs, ours), weight in zip(self.pairs, self.weights, strict=True):
            axis = channel_axis(wanted.seen[theirs])
            projected = (given.seen[ours].movedim(axis, -1) @ weight.T).movedim(-1, axis)
            errors.append(relative_error(batch.real(projected), batch.real(wanted.seen[theirs])))
        return torch.stack(errors).mean()
