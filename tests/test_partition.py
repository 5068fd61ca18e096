"""How products are shared out over threads."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from taille._native import testing


def work_of(runs: list[int], work: list[int], grain: int) -> list[int]:
    return [sum(work[begin // grain : -(-end // grain)]) for begin, end in itertools.pairwise(runs)]


def test_skewed_work_is_shared_equally() -> None:
    work = [96] * 16 + [0] * 48  # all of it in the first quarter
    assert testing.runs_of_equal_work(work, 16, 1024, 2) == [0, 128, 1024]
    assert testing.runs_of_equal_work(work, 16, 1024, 4) == [0, 64, 128, 192, 1024]
    assert testing.runs_of_equal_work(work[::-1], 16, 1024, 2) == [0, 896, 1024]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 8), st.integers(0, 15))
def test_runs_are_whole_and_nearly_equal(work: list[int], parts: int, missing: int) -> None:
    n = 16 * len(work) - missing
    runs = testing.runs_of_equal_work(work, 16, n, parts)
    assert (runs[0], runs[-1]) == (0, n)
    assert len(runs) <= parts + 1
    assert all(begin < end for begin, end in itertools.pairwise(runs))
    assert all(begin % 16 == 0 for begin in runs[:-1])
    if parts <= len(work):
        assert max(work_of(runs, work, 16)) <= sum(work) / parts + max(work) + 1
