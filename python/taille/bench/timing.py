"""Taking turns: every peer beside taille, so that both meet the same disturbances of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from taille.bench.contestants import Contestant
from taille.bench.subject import Feed

__all__ = ["Times", "measure"]

TURN_SECONDS = 0.03  # quick models run several times in a turn: clocks and caches need some ms to come back
MOST_CALLS = 20
LOOK_SECONDS = 0.012  # longer than a tick of the kernel


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
    calls = {c.name: calls_per_turn(c, inputs) for c in (*ours, *peers)}
    times = {c.name: Times() for c in (*ours, *peers)}
    alone = [o for o in ours if all(p.precision != o.precision for p in peers)]
    for _ in range(pairs):
        for own in alone:
            times[own.name].samples += turn(own, inputs, calls[own.name])
        for peer in peers:
            own_samples: list[float] = []
            if own_now := mine.get(peer.precision):
                own_samples = turn(own_now, inputs, calls[own_now.name])
                times[own_now.name].samples += own_samples
            samples = turn(peer, inputs, calls[peer.name])
            times[peer.name].samples += samples
            if own_samples:
                times[peer.name].beside += own_samples
                times[peer.name].ratios.append(statistics.median(samples) / statistics.median(own_samples))
        advance()
    return times


def calls_per_turn(contestant: Contestant, inputs: Feed) -> int:
    """Warm up, and find how many calls fill a turn."""
    contestant.run(inputs)
    best = min(turn(contestant, inputs, 3))
    return max(1, min(MOST_CALLS, int(TURN_SECONDS / best)))


def turn(contestant: Contestant, inputs: Feed, calls: int) -> list[float]:
    """Seconds of each of `calls` calls, after one that is not timed: it brings caches and threads back."""
    settle()
    contestant.run(inputs)
    samples = []
    for _ in range(calls):
        start = time.perf_counter()
        contestant.run(inputs)
        samples.append(time.perf_counter() - start)
    return samples


def settle(limit: float = 0.2) -> None:
    """Wait until the threads of whoever ran before no longer spin for work.

    Other threads' processor time is only brought up to date at the kernel's ticks (every 10 ms at 100 Hz), so a shorter
    look would find a spinning thread idle.
    """
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(LOOK_SECONDS)
        if time.process_time() - before < 0.1 * LOOK_SECONDS:
            return
