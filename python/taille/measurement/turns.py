"""Taking turns: contestants run one after the other again and again, so that all meet the same disturbances."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

__all__ = ["Latency", "calls_per_turn", "settle", "take_turns", "turn"]

TURN_SECONDS = 0.03  # quick models run several times in a turn: clocks and caches need some ms to come back
MOST_CALLS = 20
LOOK_SECONDS = 0.012  # longer than a tick of the kernel
LEAST_TURNS = 5  # below which a spread says nothing
MOST_TURNS = 100

Call = Callable[[], object]


class Latency:
    """Seconds per call of one contestant, in turns."""

    def __init__(self, turns: list[list[float]]):
        """Hold the seconds of every timed call, a list per turn."""
        self.turns = turns
        self.samples = [seconds for one in turns for seconds in one]
        self.medians = [statistics.median(one) for one in turns]

    def percentile(self, percent: float) -> float:
        """Seconds that this share (in percent) of all calls took at most."""
        return float(np.percentile(self.samples, percent))

    @property
    def spread(self) -> tuple[float, float]:
        """The 10th and 90th percentile of the turns' medians over their median: how sure the median is (1, 1: fully).

        Single calls scatter more than this, but a turn's median is what would differ if it were measured again.
        """
        low, middle, high = np.percentile(self.medians, [10, 50, 90])
        return float(low / middle), float(high / middle)


def take_turns(calls: list[Call], seconds: float) -> list[Latency]:
    """Time several contestants in turns, each after a warm-up.

    Args:
        calls: one call of each contestant.
        seconds: about how long to measure, of all together; there are 5 to 100 turns of each.
    """
    counts = [calls_per_turn(call) for call in calls]
    turns: list[list[list[float]]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    while len(turns[0]) < LEAST_TURNS or (len(turns[0]) < MOST_TURNS and time.perf_counter() < end):
        for call, count, own in zip(calls, counts, turns, strict=True):
            own.append(turn(call, count))
    return [Latency(own) for own in turns]


def calls_per_turn(call: Call) -> int:
    """Warm up, and find how many calls fill a turn."""
    call()
    best = max(min(turn(call, 3)), 1e-9)  # a clock may not tick
    return max(1, min(MOST_CALLS, int(TURN_SECONDS / best)))


def turn(call: Call, calls: int) -> list[float]:
    """Seconds of each of `calls` calls, after one that is not timed: it brings caches and threads back."""
    settle()
    call()
    samples = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
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
