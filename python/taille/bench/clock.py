"""Clock cycles, so that rates can be held against what the execution units allow whatever the clock is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from taille import _native

__all__ = ["clock_under"]

CYCLES_PER_LINK = 3  # latency of a 64-bit multiplication on current x86-64


def clock_under(work: Callable[[], object], *, rounds: int = 15) -> float:
    """Cycles per second while `work` runs.

    Wide vector code lowers the clock, until about a millisecond past its end: so each round runs the work for two
    milliseconds and then times a short chain of dependent multiplications.
    """
    rates = []
    for _ in range(rounds):
        end = time.perf_counter() + 0.002
        while time.perf_counter() < end:
            work()
        links = 2000
        rates.append(CYCLES_PER_LINK * links / _native.kernels.multiply_chain(links))
    return statistics.median(rates)
