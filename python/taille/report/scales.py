"""From values to pixels, and the round numbers between that axes are labelled with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Scale", "fit"]


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map of [low, high] to [start, end]; start may be the larger (y grows downwards)."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round numbers inside, at most so many."""
        found = log_ticks(self.low, self.high, most) if self.log else []
        return found if len(found) > 1 else linear_ticks(self.low, self.high, most)


def fit(values: Sequence[float], start: float, end: float, *, log: bool = False, margin: float = 0.08) -> Scale:
    """A scale that holds all the values, with a share of it free at either end; `log` wants positive values."""
    low, high = min(values), max(values)
    if log:
        room = max(math.log(high / low), 0.2) * margin
        return Scale(low * math.exp(-room), high * math.exp(room), start, end, log=True)
    room = (high - low or max(abs(high) * 0.1, 1e-6)) * margin
    return Scale(low - room, high + room, start, end)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Powers of ten; where they are few, with their multiples by 2 and 5, or by more."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for mantissas in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in mantissas if low <= m * 10.0**d <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]
