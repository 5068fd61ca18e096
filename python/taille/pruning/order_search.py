"""Which order of channels lets masks keep most of the scores.

Channels side by side in groups of so many share a block, or compete in N:M. What a group lets a layer keep depends on
its members alone once the level is fixed above which blocks stay. So one channel of each group is taken out, what every
one of them would bring to every group is worked out at once, and pairs of groups exchange them where that brings more;
and again with others. The exchanges are those of Pool & Yu 2021 ("Channel Permutations for N:M Sparsity", NeurIPS),
made for many pairs of groups at a time, and for blocks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from taille.arrays import Array
from taille.pruning.channel_labels import Indices

__all__ = ["Reader", "best_order"]

WORK = 1_500_000_000  # additions spent on the channels of one group at most: some seconds
ROUNDS = 400  # at most
PATIENCE = 24  # rounds without an exchange, after which none is expected
LEAST_GAIN = 1e-8  # of a layer's score


@dataclass(frozen=True)
class Reader:
    """What one layer loses or keeps of the channels that it reads, or makes.

    Attributes:
        scores: float32, [channels, features]: what each channel adds to the score of each block that it may share,
            over the whole score of the layer. With N:M a feature is an output.
        keep: N of N:M; 0 for blocks.
        blocks: how many blocks of the layer stay; without meaning for N:M.
        rest: float32, the scores of the layer's blocks that none of these channels are in.
    """

    scores: torch.Tensor
    keep: int
    blocks: int
    rest: torch.Tensor

    def kept(self, groups: torch.Tensor) -> float:
        """The share of the layer's score that stays with the channels in these groups, [groups, size]."""
        members = self.scores[groups]
        if self.keep:
            return float(members.topk(self.keep, dim=1).values.sum(dtype=torch.float64))
        units = torch.cat([members.sum(1).flatten(), self.rest])
        return float(units.topk(self.blocks).values.sum(dtype=torch.float64))

    def hurdles(self, groups: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """What a channel has to score to bring something to a group without its member `out`: [groups, features]."""
        members = self.scores[groups]
        if self.keep:
            others = torch.ones_like(groups, dtype=torch.bool).scatter_(1, out[:, None], False)
            left = members[others].reshape(len(groups), -1, members.shape[2])
            return left.topk(self.keep, dim=1).values[:, -1]
        totals = members.sum(1)
        units = torch.cat([totals.flatten(), self.rest])
        level = units.kthvalue(len(units) - self.blocks + 1).values
        return level - (totals - members[torch.arange(len(groups)), out])


def best_order(readers: Sequence[Reader], size: int, seed: int) -> Indices:
    """The order of the channels that lets the readers keep most; the order that they have where none is better.

    Args:
        readers: the layers that read or make the channels; one at least.
        size: how many channels, side by side, share blocks; it divides their number.
        seed: of the choice of exchanges that are tried.

    Returns:
        int64, [channels]: which channel comes to each place.
    """
    channels = len(readers[0].scores)
    features = sum(r.scores.shape[1] for r in readers)
    rng = np.random.default_rng(seed)
    ranked = torch.stack([r.scores.sum(1) for r in readers]).sum(0).argsort(descending=True, stable=True)
    starts = [order.reshape(-1, size) for order in (torch.arange(channels), ranked)]
    groups = max(starts, key=lambda g: kept_by(readers, g))  # the first where both are alike
    best, most, idle = groups, kept_by(readers, groups), 0
    for _ in range(max(1, min(ROUNDS, WORK // (len(groups) ** 2 * features)))):
        out = torch.from_numpy(rng.integers(size, size=len(groups)))
        groups, changed = exchanged(readers, groups, out)
        idle = 0 if changed else idle + 1
        if idle == PATIENCE:
            break
        if changed and (now := kept_by(readers, groups)) > most:
            best, most = groups, now
    return np.asarray(best.flatten().numpy())


def kept_by(readers: Sequence[Reader], groups: torch.Tensor) -> float:
    """The sum over the readers of the share of their scores that stays."""
    return sum(r.kept(groups) for r in readers)


def exchanged(readers: Sequence[Reader], groups: torch.Tensor, out: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The groups after pairs of them exchanged their members `out`, [groups], and whether any did."""
    leaving = groups[torch.arange(len(groups)), out]
    given = torch.cat([r.scores[leaving] for r in readers], 1)
    hurdles = torch.cat([r.hurdles(groups, out) for r in readers], 1)
    # A channel x brings sum(max(0, x - h)) = (sum(x) - sum(h) + sum(|x - h|)) / 2 to a group; the first two cancel.
    brings = torch.cdist(given, hurdles, p=1.0).numpy() / 2
    own = brings.diagonal()
    pairs = disjoint_pairs((brings + brings.T) - (own[:, None] + own[None]))  # symmetric to the last bit
    if not len(pairs):
        return groups, False
    groups = groups.clone()
    first, second = torch.from_numpy(pairs).T
    groups[first, out[first]], groups[second, out[second]] = leaving[second], leaving[first]
    return groups, True


def disjoint_pairs(gains: Array) -> Indices:
    """Pairs [n, 2] of indices with a gain, no index twice: time and again those that are each other's best.

    Args:
        gains: [n, n], symmetric to the last bit, so that there is such a pair wherever one gains; 0 on the diagonal. It
            is changed.
    """
    found = [np.empty((0, 2), np.int64)]
    places = np.arange(len(gains))
    while True:
        best = gains.argmax(1)  # the first of several: the least index with the largest gain of all is in a pair
        mutual = (best[best] == places) & (gains[places, best] > LEAST_GAIN) & (places < best)
        if not mutual.any():
            return np.concatenate(found)
        pairs = np.stack([places[mutual], best[mutual]], 1)
        found.append(pairs)
        gains[pairs.ravel()] = -np.inf
        gains[:, pairs.ravel()] = -np.inf
