"""Taking turns: every peer beside taille, so that both meet the same disturbances of the machine."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from taille.bench.contestants import Contestant
from taille.bench.subject import Feed
from taille.measurement.turns import calls_per_turn, turn

__all__ = ["Times", "measure"]


@dataclass
class Times:
    """Seconds per call of one contestant.

    Attributes:
        samples: every timed call.
        beside: taille's calls, in the same precision, in the turns right before this contestant's.
        ratios: of each pair of turns, this contestant's median over taille's.
    """

    samples: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)


def measure(
    ours: Sequence[Contestant], peers: Sequence[Contestant], inputs: Feed, pairs: int, advance: Callable[[], None]
) -> dict[str, Times]:
    """Times by name. In each round every peer has a turn right after taille in the same precision.

    Args:
        ours: taille, in one or two precisions.
        peers: the others, all prepared.
        inputs: what all of them run on.
        pairs: how many rounds.
        advance: called after each round.
    """
    mine = {o.precision: o for o in ours}
    run = {c.name: partial(c.run, inputs) for c in (*ours, *peers)}
    calls = {name: calls_per_turn(call) for name, call in run.items()}
    times = {c.name: Times() for c in (*ours, *peers)}
    alone = [o for o in ours if all(p.precision != o.precision for p in peers)]
    for _ in range(pairs):
        for own in alone:
            times[own.name].samples += turn(run[own.name], calls[own.name])
        for peer in peers:
            own_samples: list[float] = []
            if own_now := mine.get(peer.precision):
                own_samples = turn(run[own_now.name], calls[own_now.name])
                times[own_now.name].samples += own_samples
            samples = turn(run[peer.name], calls[peer.name])
            times[peer.name].samples += samples
            if own_samples:
                times[peer.name].beside += own_samples
                times[peer.name].ratios.append(statistics.median(samples) / statistics.median(own_samples))
        advance()
    return times
