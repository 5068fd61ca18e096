"""What a runner answers while a number of requests is in flight all the time (a closed loop)."""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from taille.batches import Arrays
from taille.compiled import CompiledModel
from taille.runner import Runner
from taille.runner_choice import RunnerChoice

__all__ = ["Load", "Measure", "closed_loop", "merged"]

LEAST = 10  # answers that a median is of


@dataclass(frozen=True)
class Load:
    """What was measured.

    Attributes:
        latencies: seconds of each request, from `submit` until the answer was there.
        turns: requests answered per second, of each measurement.   largest_batch: samples of the largest batch.
    """

    latencies: tuple[float, ...]
    turns: tuple[float, ...]
    largest_batch: int = 1

    @property
    def throughput(self) -> float:
        """Requests answered per second: the median of the turns."""
        return statistics.median(self.turns)

    def percentile(self, percent: float) -> float:
        """Seconds that this share (in percent) of the requests took at most."""
        return float(np.percentile(self.latencies, percent))


Measure = Callable[[RunnerChoice, int, float], Load]  # with so many in flight, for so many seconds


def merged(loads: Sequence[Load]) -> Load:
    """Several measurements of the same as one."""
    return Load(
        tuple(seconds for load in loads for seconds in load.latencies),
        tuple(rate for load in loads for rate in load.turns),
        max(load.largest_batch for load in loads),
    )


def closed_loop(
    model: CompiledModel, inputs: Arrays, choice: RunnerChoice, in_flight: int, seconds: float, until: float
) -> Load:
    """Measure a runner that one thread gives requests to, so that `in_flight` of them are under way all the time.

    Args:
        model: what runs.
        inputs: of every request, by name.
        choice: the runner's options.
        in_flight: how many requests; with one, the thread waits for each answer (`Runner.predict`).
        seconds: how long; longer where fewer than 10 answers have come, or not every place was used twice.
        until: `time.perf_counter()` after which it ends as soon as there is one answer.

    Raises:
        ValueError: the model refuses the inputs.
    """
    runner = Runner(model, **choice.options(), queue_size=in_flight + 1)
    answers = one_by_one(runner, inputs) if in_flight == 1 else together(runner, inputs, in_flight)
    try:
        for _ in islice(answers, in_flight):  # plans of new shapes, and a start without anybody in the way
            pass
        began, latencies = time.perf_counter(), []
        for latency, now in answers:
            latencies.append(latency)
            enough = now - began >= seconds and len(latencies) >= max(LEAST, 2 * in_flight)
            if enough or now >= until:
                break
        rate = len(latencies) / max(now - began, 1e-9)  # a clock may not tick
        return Load(tuple(latencies), (rate,), max(runner.stats()["batch_sizes"]))
    finally:
        runner.close(0)


def failure(future: Future[Any]) -> BaseException | None:
    """What a future that is done failed by; what was cancelled, as the runner was closed, nobody waits for."""
    return None if future.cancelled() else future.exception()


def one_by_one(runner: Runner, inputs: Arrays) -> Iterator[tuple[float, float]]:
    """Seconds of each request, and when its answer came, for ever."""
    while True:
        began = time.perf_counter()
        runner.predict(inputs)
        now = time.perf_counter()
        yield now - began, now


def together(runner: Runner, inputs: Arrays, in_flight: int) -> Iterator[tuple[float, float]]:
    """The same, with so many requests under way."""
    done: queue.SimpleQueue[tuple[float, float, BaseException | None]] = queue.SimpleQueue()

    def submit() -> None:
        began = time.perf_counter()
        future = runner.submit(inputs)
        future.add_done_callback(lambda f: done.put((began, time.perf_counter(), failure(f))))

    for _ in range(in_flight):
        submit()
    while True:
        began, now, error = done.get()
        if error is not None:
            raise error
        submit()
        yield now - began, now
