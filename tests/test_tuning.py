"""Which streams, threads, batches and waits are chosen, on a machine of formulas."""

from __future__ import annotations

from dataclasses import replace

import pytest

import taille
from made_up_machine import Machine
from taille.inference import tuning
from taille.inference.load import Load
from taille.inference.tuning import Tuning, layouts
from taille.runner_choice import RunnerChoice


def test_layouts_fill_the_threads_or_half_of_them() -> None:
    assert layouts(1) == [(1, 1)]
    assert layouts(4) == [(1, 4), (2, 2), (1, 2), (4, 1), (2, 1)]
    for granted in (2, 3, 6, 7, 64):
        found = layouts(granted)
        assert {(1, granted), (granted, 1)} <= set(found)
        assert all(1 <= s * t <= granted for s, t in found)
        assert len(found) == len(set(found)) <= 2 * granted.bit_length() + 2


def test_streams_where_the_target_is_lax_and_threads_where_it_is_tight() -> None:
    machine = Machine(fixed=0.0, each=1e-3)  # a request takes 1 ms, 0.57 ms on two threads, 0.33 ms on four
    for target, wanted in ((1e-3, (4, 1)), (6e-4, (2, 2)), (5e-4, (1, 4))):
        best = machine.best(target)
        assert (best.streams, best.threads) == wanted


def test_a_load_is_as_high_as_the_target_allows() -> None:
    for target in (2e-3, 5e-3, 2e-2):
        best = Machine().tuned(target, granted=1).best
        assert best is not None
        assert best.median <= target
        doubled = Machine().measure(best.choice, 2 * best.in_flight, 0).percentile(50)
        assert doubled > target or best.load.largest_batch == 64  # more would only wait
    assert best.in_flight == 64


def test_a_request_alone_is_all_that_a_tight_target_allows() -> None:
    best = Machine().tuned(1.15e-3, granted=1).best  # two take 1.2 ms
    assert best is not None
    assert (best.in_flight, best.choice.streams, best.choice.threads) == (1, 1, 1)


class TestEveryFieldOfBatchHasAnEffect:
    def test_size(self) -> None:
        machine = Machine()
        assert machine.best(1.0).max_batch == taille.INFERENCE_CONFIG.batch.size
        assert machine.best(1.0, size=5).max_batch == 5
        assert {choice.max_batch for choice, _ in machine.asked} == {64, 5, 32, 16, 8, 4, 2, 1}
        # Batches larger than 16 are slower: they would come up under more load than the best one.
        assert Machine(cache=16).best(1.0).max_batch == 16
        assert Machine(cache=16).best(1.0, size=8).max_batch == 8

        class Odd(Machine):
            def measure(self, choice: RunnerChoice, in_flight: int, seconds: float) -> Load:
                load = super().measure(choice, in_flight, seconds)
                return replace(load, turns=(4 * load.turns[0],)) if choice.max_batch == 8 else load

        assert Odd().best(1.0).max_batch == 8  # and smaller ones than come up then are tried

    def test_timeout(self) -> None:
        machine = Machine()
        assert machine.best(1.0, timeout=0.02).timeout == 0.02
        assert {choice.timeout for choice, _ in machine.asked} == {0.02, 0.002, 0.0002, 0.0}
        assert Machine(lag=5.0).best(1.0, timeout=0.02).timeout == 0.0  # waiting costs
        assert Machine(lag=0.01).best(1.0, timeout=0.02).timeout == 0.02  # too little to be sure
        assert Machine().best(1.0, timeout=0).timeout == 0.0

    def test_max_latency(self) -> None:
        for most in (0.002, 0.01):
            best = Machine(spike=1e-3).tuned(1.0, max_latency=most).best
            assert best is not None
            assert best.choice.max_latency == most
            assert best.tail <= most
        missed = Machine(spike=1.0).tuned(1.0)
        assert missed.best is None
        assert missed.nearest is not None


def test_nothing_meets_and_the_nearest_is_told() -> None:
    machine = Machine()
    tuned = machine.tuned(1e-6)
    assert tuned.best is None
    assert tuned.nearest is not None
    assert (tuned.nearest.choice.threads, tuned.nearest.in_flight) == (4, 1)
    assert len(machine.asked) == 4  # three numbers of threads, and the quickest once more: that is soon known
    assert (tuned.why, tuned.ended) == ("", tuning.ALL)


def test_the_same_machine_gives_the_same_choice() -> None:
    one, other = Machine(cache=16), Machine(cache=16)
    assert one.tuned(5e-3).best == other.tuned(5e-3).best
    assert one.asked == other.asked


def test_what_was_fast_once_is_not_believed() -> None:
    """The first measurement of eight in flight is by chance ten times as fast, and misses the target ever after."""

    class Lucky(Machine):
        def measure(self, choice: RunnerChoice, in_flight: int, seconds: float) -> Load:
            again = (choice, in_flight) in self.asked
            load = super().measure(choice, in_flight, seconds)
            return load if again or in_flight != 8 else Load((1e-5,), (1e9,), 8)

    machine = Lucky()
    best = machine.tuned(1.5e-3, granted=1).best  # 4 take 1.4 ms, 8 take 1.8 ms
    assert best is not None
    assert best.in_flight == 4


def test_load_counts_for_more_than_a_request_alone_and_may_dip() -> None:
    class Uneven(Machine):
        def measure(self, choice: RunnerChoice, in_flight: int, seconds: float) -> Load:
            load = super().measure(choice, in_flight, seconds)
            share = {1: 100.0, 4: 0.1, 8: 0.2}.get(in_flight, 1.0)  # alone it is quicker than under any load
            return replace(load, turns=(share * load.turns[0],))

    best = Uneven().tuned(1.0, granted=1).best
    assert best is not None
    assert best.in_flight == 64


@pytest.mark.parametrize("budget", [0.0, 0.2, 1.0, 3.0, 5.5])
def test_the_time_budget_ends_it_with_the_best_so_far(budget: float) -> None:
    machine = Machine()
    tuned = machine.tuned(1.0, budget=budget)
    assert machine.now <= budget + tuning.SECONDS
    assert tuned.ended == "the time budget ran out"
    assert (tuned.best is None) == (budget == 0)
    assert bool(tuned.why) == (budget == 0)


def test_progress_names_every_stage() -> None:
    told: list[tuple[str, int, int]] = []
    batch = taille.INFERENCE_CONFIG.batch
    Tuning(Machine().measure, 2, batch, 1.0, 1e9, progress=lambda *a: told.append(a), clock=lambda: 0.0).run()
    stages = ["a request alone", "threads x streams", "the best again", "batches", "waiting"]
    assert list(dict.fromkeys(stage for stage, *_ in told)) == stages
    assert all(0 <= done < total for _, done, total in told)
