"""What a runner brings with 64 requests in flight, and what it adds to a request that comes alone, on the MLP.

Run by itself on a quiet machine, with `pip install '.[test]'`:

    pytest -n 0 -s -p no:logging benchmarks/test_runner.py

PAIRS in the environment sets the number of pairs. Times of a pair are neighbours, and their ratios are what counts.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import taille
from taille.bench.models import build

PAIRS = int(os.environ.get("PAIRS", "30"))
IN_FLIGHT = 64
REQUESTS = 640  # of each side of a pair
RATIO = 2.0  # through Python; the C API has less to do for each request
ADDED = 20e-6  # seconds


@pytest.fixture(scope="module", params=["int8", "float32"])
def model(request: pytest.FixtureRequest) -> taille.CompiledModel:
    mlp = build("mlp", 1, None)
    chosen = taille.quantize_model(mlp, "int8") if request.param == "int8" else mlp
    return taille.compile_model(chosen, threads=1)


def sample() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((1, 256)).astype(np.float32)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def a_few(run: Callable[[], object], count: int = 16) -> float:
    """Seconds of one of a few in a row, which find what they need in the caches."""
    return seconds(lambda: [run() for _ in range(count)]) / count


def in_turns(a: Callable[[], object], b: Callable[[], object]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The seconds of each, in pairs whose order changes."""
    found = []
    for i in range(PAIRS + 2):  # two to warm up
        times = {f: seconds(f) for f in ((a, b) if i % 2 else (b, a))}
        found.append((times[a], times[b]))
    one, other = np.array(found[2:]).T
    return one, other


def test_64_in_flight_against_single_calls(model: taille.CompiledModel) -> None:
    x = sample()
    wanted = model.predict(x)

    def single() -> None:
        for _ in range(REQUESTS):
            model.predict(x)

    def in_flight() -> None:
        waiting: deque[taille.RunnerFuture] = deque()
        for _ in range(REQUESTS):
            if len(waiting) == IN_FLIGHT:
                waiting.popleft().result()
            waiting.append(runner.submit(x))
        while waiting:
            np.testing.assert_array_equal(waiting.popleft().result(), wanted)

    with taille.Runner(model) as runner:
        alone, together = in_turns(single, in_flight)
        stats = runner.stats()
    ratios = alone / together
    low, middle, high = np.quantile(ratios, [0.1, 0.5, 0.9])
    text = (
        f"64 in flight: {REQUESTS / np.median(together):,.0f} requests/s, {middle:.2f} ({low:.2f}-{high:.2f}) times "
        f"single calls ({np.median(alone) / REQUESTS * 1e6:.1f} us each); "
        f"{stats['samples'] / stats['batches']:.1f} samples in a batch"
    )
    print(f"\n{text}", end="")
    assert middle >= RATIO, text


def test_what_is_added_to_a_lone_request(model: taille.CompiledModel) -> None:
    x = sample()
    with taille.Runner(model) as runner:
        calls = (lambda: model.predict(x), lambda: runner.predict(x))
        times = []
        for i in range(10 * PAIRS):
            pair = {call: a_few(call) for call in (calls if i % 2 else calls[::-1])}
            times.append([pair[call] for call in calls])
    alone, through = np.array(times[len(times) // 10 :]).T
    added = np.quantile(through - alone, [0.1, 0.5, 0.9]) * 1e6
    text = (
        f"a lone request of {np.median(alone) * 1e6:.1f} us takes {added[1]:.1f} us more "
        f"({added[0]:.1f} to {added[2]:.1f})"
    )
    print(f"\n{text}", end="")
    assert added[1] <= ADDED * 1e6, text
