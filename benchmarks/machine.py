"""Clock cycles, so that rates can be held against what the execution units allow whatever the clock is."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from taille import _native

CYCLES_PER_LINK = 3  # latency of a 64-bit multiplication on current x86-64


def clock_under(work: Callable[[], object], *, rounds: int = 30) -> float:
    """Cycles per second while `work` runs.

    Wide vector code lowers the clock for about a millisecond past its end, so each round times a short chain of
    dependent multiplications straight after the work.
    """
    rates = []
    for _ in range(rounds):
        work()
        links = 4000
        rates.append(CYCLES_PER_LINK * links / _native.kernels.multiply_chain(links))
    return statistics.median(rates)
