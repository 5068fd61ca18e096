"""Runners under random load, in forked children, as the interpreter ends, and idle."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading

import numpy as np
import pytest

from runner_models import adds_up, ragged
from support import output_of
from taille import DeadlineError, QueueFullError, Runner


class Load:
    """A thread that submits, waits, cancels and gives up, with all sizes, lengths, priorities and deadlines."""

    def __init__(self, runner, expected, seed):
        self.runner, self.expected, self.keys = runner, expected, list(expected)
        self.rng = np.random.default_rng([seed, 77])
        self.wrong, self.open = [], []
        self.counts = dict.fromkeys(COUNTED, 0)

    def run(self, requests):
        for _ in range(requests):
            self.submit()
            while len(self.open) > self.rng.integers(1, 16):
                self.settle(*self.open.pop(int(self.rng.integers(len(self.open)))))
        for one in self.open:
            self.settle(*one)

    def submit(self):
        rng, key = self.rng, self.keys[self.rng.integers(len(self.keys))]
        bad = rng.random() < 0.02
        ids = np.full(key[:2], 50) if bad else self.expected[key][0]
        deadline = None if rng.random() < 0.7 else float(rng.choice([1e-4, 2e-3, 10.0]))
        try:
            future = self.runner.submit(ids, deadline=deadline, priority=int(rng.integers(3)))
        except (QueueFullError, DeadlineError) as error:
            self.counts["refused_full" if isinstance(error, QueueFullError) else "refused_deadline"] += 1
            return
        self.open.append((future, key, bad))
        if rng.random() < 0.1:
            future.cancel()

    def settle(self, future, key, bad):
        try:
            found, what = future.result(timeout=60), "completed"
        except (concurrent.futures.CancelledError, DeadlineError, ValueError) as error:
            found, what = None, {DeadlineError: "expired", ValueError: "failed"}.get(type(error), "cancelled")
        self.counts[what] += 1
        if what == "failed" or bad:
            right = bad and what != "completed"
        else:
            right = found is None or all(map(np.array_equal, found, self.expected[key][1]))
        if not right:
            self.wrong.append((key, what))


COUNTED = ("completed", "failed", "cancelled", "expired", "refused_full", "refused_deadline")


@pytest.mark.parametrize(("streams", "timeout"), [(1, 0.1), (2, 0.0), (3, 0.01)])
def test_random_load(streams, timeout):
    model = ragged()
    expected = {}
    for key in itertools.product((1, 2, 3, 70), (1, 3, 4), range(3)):
        ids = np.random.default_rng(key).integers(0, 50, key[:2])
        expected[key] = ids, model.predict(ids)
    with Runner(model, streams=streams, threads=1, timeout=timeout, queue_size=24, max_batch=16) as runner:
        loads = [Load(runner, expected, seed) for seed in range(4)]
        threads = [threading.Thread(target=load.run, args=(120,)) for load in loads]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert [load.wrong for load in loads] == [[], [], [], []]
    stats = runner.stats()
    adds_up(stats)
    assert {what: sum(load.counts[what] for load in loads) for what in COUNTED} == {k: stats[k] for k in COUNTED}
    assert stats["submitted"] + stats["refused_full"] + stats["refused_deadline"] == 4 * 120
    assert stats["completed"] > 100


SETUP = """
import sys, os, time; sys.path.insert(0, "tests")
import numpy as np, taille
from runner_models import int8_mlp, held
model = int8_mlp()
x = np.ones((1, 32), np.float32)
"""


def test_a_forked_child_is_told():
    code = (
        SETUP
        + """
runner = taille.Runner(model, streams=2, threads=1)
wanted = runner.predict(x)
blocked = taille.Runner(model)
with held(blocked, x):
    waiting = blocked.submit(x)
    child = os.fork()
    if child == 0:
        told = 0
        for call in (lambda: runner.submit(x), lambda: runner.predict(x), runner.stats, runner.drain, runner.close,
                     waiting.result, waiting.cancel):
            try:
                call()
            except taille.ClosedError as error:
                told += "forked off" in str(error)
        own = taille.Runner(int8_mlp())
        right = np.array_equal(own.predict(x), wanted)
        own.close()
        del runner, blocked, own, waiting
        sys.exit(0 if right and told == 7 else 1)  # by way of the handlers for exits
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(np.array_equal(runner.predict(x), wanted), np.array_equal(waiting.result(), wanted))
"""
    )
    assert output_of(code).split("\n") == ["0", "True True"]


def test_the_interpreter_ends_while_requests_wait():
    code = (
        SETUP
        + """
runner = taille.Runner(model, streams=2, threads=1)
futures = [runner.submit(x) for _ in range(500)]
dropped = [taille.Runner(model).submit(x) for _ in range(3)]
print("bye")
"""
    )
    assert output_of(code, timeout=60) == "bye"


def test_idle_costs_nothing():
    # Processor time, so that what else the machine does is not counted.
    code = (
        SETUP
        + """
runner = taille.Runner(model, streams=2, threads=1)
for _ in range(50):
    runner.predict(x)
time.sleep(0.05)
before = time.process_time()
time.sleep(1.0)
print(time.process_time() - before)
"""
    )
    assert float(output_of(code)) < 0.005


def test_streams_and_threads_share_what_is_granted():
    code = (
        SETUP
        + """
model = int8_mlp(threads=2)
def of(**given):
    with taille.Runner(model, **given) as runner:
        assert np.array_equal(runner.predict(x), model.predict(x))
        return runner.streams, runner.threads
print(of(), of(streams=2), of(threads=1), of(streams=1), of(streams=3, threads=2))
"""
    )
    one = output_of(code, OMP_NUM_THREADS="1")
    assert one == "(1, 2) (2, 1) (1, 1) (1, 2) (3, 2)"
