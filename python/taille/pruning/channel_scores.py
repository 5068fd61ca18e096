"""Which channels go: scores, and the greedy choice over all groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from taille.pruning.channel_groups import ChannelGroup
from taille.pruning.channel_labels import Axis, Indices

__all__ = ["SCORES", "Choice", "choose", "choose_evenly", "least_units"]

SCORES = ("magnitude",)
Tensors = Mapping[str, torch.Tensor]
Scores = npt.NDArray[np.float64]


@dataclass
class Choice:
    """What goes.

    Attributes:
        removed: per group, in the order given, the units that go, ascending.
        before: how many numbers the prunable weights hold.   after: how many will remain.
    """

    removed: list[Indices]
    before: int
    after: int

    @property
    def share(self) -> float:
        """The share of the prunable weights that remains."""
        return self.after / self.before if self.before else 1.0


def least_units(group: ChannelGroup, round_to: int) -> int:
    """The smallest number of units that may remain: at least one, a multiple of `round_to` channels."""
    return round_to // math.gcd(round_to, group.width)


def magnitudes(group: ChannelGroup, tensors: Tensors, cache: dict[Axis, Scores]) -> Scores:
    """The L2 norm of each unit over all weights of two or more dimensions that go with it; float64, [units].

    Scales and offsets of norms are left out: they are of another size than weights.
    """
    total = np.zeros(group.units)
    for axis, indices in group.slices.items():
        weight = tensors[axis.name]
        if weight.dim() < 2 or not weight.is_floating_point():
            continue
        if axis not in cache:
            others = [d for d in range(weight.dim()) if d != axis.dim]
            cache[axis] = weight.detach().double().square().sum(others).numpy()
        total += cache[axis][indices].sum(axis=1)
    return np.asarray(np.sqrt(total), dtype=np.float64)


@dataclass
class Ledger:
    """How many numbers the weights hold while channels are removed."""

    sizes: dict[str, list[int]] = field(default_factory=dict)

    def count(self) -> int:
        """All of them."""
        return sum(math.prod(s) for s in self.sizes.values())

    def remove(self, group: ChannelGroup, units: int) -> int:
        """Take `units` off a group (put them back, where negative); gives by how much the count falls."""
        axes = [a for a in group.slices if a.name in self.sizes]
        names = {a.name for a in axes}
        before = sum(math.prod(self.sizes[n]) for n in names)
        for axis in axes:
            self.sizes[axis.name][axis.dim] -= units * group.slices[axis].shape[1]
        return before - sum(math.prod(self.sizes[n]) for n in names)


def rank(score: Scores) -> Indices:
    """The units from the least score to the largest; of equal ones the higher index first."""
    order: Indices = np.lexsort((-np.arange(len(score)), score))
    return order


def ledger_of(groups: Sequence[ChannelGroup], tensors: Tensors) -> Ledger:
    """The weights of these groups, whole."""
    axes = [a for g in groups for a in g.slices if tensors[a.name].dim() >= 2]
    return Ledger({a.name: list(tensors[a.name].shape) for a in axes})


def choose(groups: Sequence[ChannelGroup], tensors: Tensors, target: float, round_to: int) -> Choice:
    """Remove the channels of least score until about `target` of the groups' weights remains.

    Scores are divided by their group's mean, so that groups compete on equal terms; within a group, as many channels
    go at a time as leave a multiple of `round_to`. The last step is taken if it brings the share nearer to the target.
    Ties go to the earlier group, and there to the higher channel.
    """
    cache: dict[Axis, Scores] = {}
    steps: list[tuple[float, int, int, int]] = []  # score, group, number of the step, units that go
    ranked: list[Indices] = []
    for g, group in enumerate(groups):
        score = magnitudes(group, tensors, cache)
        mean = float(score.mean())
        score = score / mean if mean > 0 else score
        ascending = rank(score)
        ranked.append(ascending)
        gone = 0
        least = least_units(group, round_to)
        for left in range((len(score) - 1) // least * least, 0, -least):
            count = len(score) - gone - left
            steps.append((float(score[ascending[gone : gone + count]].mean()), g, len(steps), count))
            gone += count
    ledger = ledger_of(groups, tensors)
    before = left_now = ledger.count()
    taken = [0] * len(groups)
    for _, g, _, count in sorted(steps):
        freed = ledger.remove(groups[g], count)
        if abs(left_now - freed - target * before) >= abs(left_now - target * before):
            break
        left_now -= freed
        taken[g] += count
        if left_now <= target * before:
            break
    return Choice([np.sort(r[:n]) for r, n in zip(ranked, taken, strict=True)], before, left_now)


def choose_evenly(groups: Sequence[ChannelGroup], tensors: Tensors, target: float, round_to: int) -> Choice:
    """Remove the channels of least score until `target` of the channels of each group remain, to the nearest number."""
    cache: dict[Axis, Scores] = {}
    ledger = ledger_of(groups, tensors)
    before, removed = ledger.count(), []
    for group in groups:
        least = least_units(group, round_to)
        left = min(group.units, max(1, round(target * group.units / least)) * least)
        gone = np.sort(rank(magnitudes(group, tensors, cache))[: group.units - left])
        ledger.remove(group, len(gone))
        removed.append(gone)
    return Choice(removed, before, ledger.count())
