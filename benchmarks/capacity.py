"""The highest rate of requests that each engine keeps up with, at a bounded latency, behind a batcher.

    python benchmarks/capacity.py minilm resnet50      # 5 to 8 minutes a model on a quiet machine; needs taille[peers]
    python benchmarks/capacity.py mlp --requests 50 --rounds 1 --steps 2    # to see it work

Requests of one sample come at random (a Poisson process) at a fixed rate, whether or not others are answered, and the
latency of each counts from when it was due, so a request that is sent late because the engine was slow is not timed as
quick. The capacity is the highest rate, found by bisection, at which 99 of 100 latencies are at most 5 times that of a
lone request through the same batcher (--bound own), or of one through taille's (--bound ours), so that all are held to
the same. taille's int8 model runs behind `taille.Runner`, told to aim at that latency, the peers behind the simple
batcher below: workers that take what waits when they are free. All have as many threads as the machine grants. How
these are split (workers x threads) and whether batches are made is chosen for each engine by its throughput when
saturated. In a round each step of the bisection is taken by all engines in turn; ratios are between those of one round.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

import taille
from taille import _native
from taille.bench.compare import check
from taille.bench.contestants import Ours
from taille.bench.models import MODELS, build
from taille.bench.peers_onnxruntime import OrtDynamic, OrtStatic
from taille.bench.peers_openvino import OpenVinoInt8
from taille.bench.subject import Subject, quiet

TIMES_LONE = 5.0  # what the 99th percentile may be
MAX_BATCH = 8
SHARE = 0.8  # of the capacity, at which p99 / p50 is told
LEAST_SECONDS = 2.0  # of a run
Feed = dict[str, np.ndarray]
Run = Callable[[Feed], Sequence[np.ndarray]]


class BatchedSubject(Subject):
    """The model as an ONNX file whose batch is free."""

    @cached_property
    def onnx(self) -> Path:
        import torch

        path = self.folder / "batched.onnx"
        tensors = {n: torch.from_numpy(np.concatenate([a, a])) for n, a in self.inputs.items()}
        by_keyword = self.model.by_keyword
        axes = {n: {0: torch.export.Dim("batch", min=1, max=1024)} for n in tensors}
        with quiet():
            torch.onnx.export(
                self.model.module.eval(), () if by_keyword else tuple(tensors.values()),
                kwargs=tensors if by_keyword else None, input_names=list(tensors), dynamo=True, verbose=False,
                dynamic_shapes=axes if by_keyword else tuple(axes.values()),
            ).save(str(path), external_data=False)  # fmt: skip
        return path


class Batcher:
    """Workers that run what waits when they are free, `most` requests together at most."""

    def __init__(self, runs: Sequence[Run], most: int):
        self._most = most
        self._waiting: queue.SimpleQueue[tuple[Feed, Future[Any]] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, args=(run,)) for run in runs]
        for thread in self._threads:
            thread.start()

    def submit(self, inputs: Feed) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.put((inputs, future))
        return future

    def _work(self, run: Run) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while len(batch) < self._most:
                    if (other := self._waiting.get_nowait()) is None:
                        self._waiting.put(None)
                        break
                    batch.append(other)
            try:
                joined = {n: np.concatenate([feed[n] for feed, _ in batch]) for n in first[0]}
                outputs = [np.array(a) for a in run(joined if len(batch) > 1 else first[0])]
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)
                continue
            for i, (_, future) in enumerate(batch):
                future.set_result([a[i : i + 1] for a in outputs])

    def close(self) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()


class OpenVinoThroughput(OpenVinoInt8):
    hint = "THROUGHPUT"


@dataclass
class Engine:
    """One engine in one configuration, and what was measured of it: requests per second and seconds."""

    name: str
    how: str
    submit: Callable[[Feed], Future[Any]]
    close: Callable[[], None]
    saturated: float = 0.0
    lone: float = 0.0
    bound: float = 0.0  # of the 99th percentile
    low: float = 0.0
    high: float = 0.0
    capacities: list[float] = field(default_factory=list)


def ours(subject: Subject, threads: int) -> Iterator[Engine]:
    contestant = Ours("int8")
    contestant.prepare(subject, threads)
    told(contestant, subject)
    model = contestant._model
    for streams, each in splits(threads):
        make = partial(taille.Runner, model, streams=streams, threads=each, max_batch=MAX_BATCH, queue_size=100_000)
        with make() as runner:
            aim = TIMES_LONE * lone(Engine("", "", runner.submit, runner.close), subject.inputs)
        runner = make(max_latency=aim)
        yield Engine("taille int8", f"{streams} x {each} threads", runner.submit, runner.close)


def onnxruntime(subject: Subject, batched: Subject, threads: int) -> Iterator[Engine]:
    kind = OrtStatic if subject.has_convolutions else OrtDynamic  # what is quicker
    for workers, each in splits(threads):
        for of, most in ((subject, 1), (batched, MAX_BATCH)):
            contestant = kind()
            contestant.prepare(of, each)
            told(contestant, of)
            batcher = Batcher([contestant.run] * workers, most)  # a session may run in several threads
            yield Engine(contestant.name, f"{workers} x {each} threads, batch {most}", batcher.submit, batcher.close)


def openvino(subject: Subject, batched: Subject, threads: int) -> Iterator[Engine]:
    for of, most in ((subject, 1), (batched, MAX_BATCH)):
        contestant = OpenVinoThroughput()
        contestant.prepare(of, threads)
        told(contestant, of)
        count = contestant.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        requests = [contestant.compiled.create_infer_request() for _ in range(count)]
        runs = [lambda feed, r=r: list(r.infer(feed, share_inputs=True, share_outputs=True).values()) for r in requests]
        batcher = Batcher(runs, most)
        how = f"throughput hint: {count} requests on {threads} threads, batch {most}"
        yield Engine(contestant.name, how, batcher.submit, batcher.close)


def splits(threads: int) -> list[tuple[int, int]]:
    """Workers and threads of each."""
    return [(1, threads), (threads, 1)] if threads > 1 else [(1, 1)]


def told(contestant: Any, subject: Subject) -> None:
    """Say how good its answers are."""
    contestant.run(subject.inputs)
    found = check(contestant, subject)
    print(f"  {contestant.name}: SQNR {found['sqnr_db']} dB {found['wrong']}", flush=True)


def chosen(engines: Iterator[Engine], feed: Feed) -> Engine:
    """The configuration with the highest throughput when requests always wait; the others are closed."""
    best: Engine | None = None
    try:
        for engine in engines:
            saturate(engine, feed, 0.2)  # to warm up
            engine.saturated = saturate(engine, feed, LEAST_SECONDS)
            print(f"  {engine.name}, {engine.how}: {engine.saturated:.1f} /s saturated", flush=True)
            worse, best = (engine, best) if best is not None and engine.saturated <= best.saturated else (best, engine)
            if worse is not None:
                worse.close()
    except BaseException:
        if best is not None:
            best.close()  # whose threads would keep the process
        raise
    assert best is not None
    return best


def saturate(engine: Engine, feed: Feed, seconds: float) -> float:
    """Requests per second with some always waiting, for that long."""
    start = time.perf_counter()
    waiting: deque[Future[Any]] = deque()
    count = 0
    while time.perf_counter() < start + seconds or waiting:
        while len(waiting) < 4 * MAX_BATCH and time.perf_counter() < start + seconds:
            waiting.append(engine.submit(feed))
        waiting.popleft().result()
        count += 1
    return count / (time.perf_counter() - start)


def open_loop(engine: Engine, feed: Feed, rate: float, requests: int, rng: np.random.Generator) -> np.ndarray:
    """Seconds from when each request was due until its answer was there."""
    count = max(requests, round(rate * LEAST_SECONDS))
    due = np.cumsum(rng.exponential(1 / rate, count)) + time.perf_counter() + 0.05
    done = np.zeros(count)
    futures = []
    for i, at in enumerate(due):
        while (left := at - time.perf_counter()) > 0:
            time.sleep(left)
        future = engine.submit(feed)
        future.add_done_callback(lambda _, i=i: done.__setitem__(i, time.perf_counter()))
        futures.append(future)
    for future in futures:
        future.result()
    while not done.all():  # the callback of a result that is there may still run
        time.sleep(1e-4)
    return done - due


def lone(engine: Engine, feed: Feed) -> float:
    """Seconds of a request that nothing else is beside."""
    times = []
    for _ in range(30):
        time.sleep(0.002)
        start = time.perf_counter()
        engine.submit(feed).result()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def one_round(engines: list[Engine], feed: Feed, options: argparse.Namespace, rng: np.random.Generator) -> None:
    """Bisect, all engines in turn."""
    for engine in engines:
        engine.lone = lone(engine, feed)
        engine.bound = TIMES_LONE * (engine if options.bound == "own" else engines[0]).lone
        engine.low, engine.high = 0.0, 1.2 * engine.saturated
    for step in range(options.steps):
        for engine in engines:
            rate = 0.6 * engine.high if step == 0 else (engine.low + engine.high) / 2
            p99 = np.percentile(open_loop(engine, feed, rate, options.requests, rng), 99)
            if p99 <= engine.bound:
                engine.low = rate
            else:
                engine.high = rate
            print(f"  {engine.name}: {rate:.1f} /s: p99 {1e3 * p99:.2f} ms, {p99 / engine.lone:.1f} x lone", flush=True)
    for engine in engines:
        engine.capacities.append(engine.low)


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def measure(name: str, options: argparse.Namespace) -> None:
    threads = options.threads
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        sequence = options.sequence if MODELS[name][1] else None
        model = build(name, 1, sequence)
        subject = Subject(model, 1, sequence, Path(one))
        batched = BatchedSubject(model, 1, sequence, Path(other))
        feed = subject.inputs
        kinds = (ours(subject, threads), onnxruntime(subject, batched, threads), openvino(subject, batched, threads))
        engines: list[Engine] = []
        try:
            for kind in kinds:
                engines.append(chosen(kind, feed))
            for number in range(options.rounds):
                print(f"round {number + 1} of {options.rounds}", flush=True)
                one_round(engines, feed, options, rng)
            tell(name, engines, feed, options, rng)
        finally:
            for engine in engines:
                engine.close()


def tell(name: str, engines: list[Engine], feed: Feed, options: argparse.Namespace, rng: np.random.Generator) -> None:
    """The table, and the tail at a share of each one's capacity."""
    how = f"{options.threads} threads, {_native.cpu_name()}, {options.rounds} rounds, --bound {options.bound}"
    print(f"\n{name}, {how}; medians, ranges\n")
    print(f"| engine | how | lone, ms | saturated, /s | capacity, /s | p99 / p50 at {SHARE:.0%} of its capacity |")
    print("|---|---|---|---|---|---|")
    for engine in engines:
        rate = SHARE * statistics.median(engine.capacities)
        tail = "-"
        if rate > 0:
            times = open_loop(engine, feed, rate, 3 * options.requests, rng)
            p50, p99 = np.percentile(times, [50, 99])
            tail = f"{p99 / p50:.2f} ({1e3 * p99:.2f} / {1e3 * p50:.2f} ms)"
        print(
            f"| {engine.name} | {engine.how} | {1e3 * engine.lone:.2f} | {engine.saturated:.1f} | "
            f"{spread(engine.capacities)} | {tail} |"
        )
    mine, *peers = engines
    best = max(peers, key=lambda p: statistics.median(p.capacities))
    ratios = [a / b for a, b in zip(mine.capacities, best.capacities, strict=True) if b > 0]
    print(
        f"\ncapacity over that of {best.name}: {spread(ratios) if ratios else 'it kept up with no rate'}\n", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=sorted(MODELS))
    parser.add_argument("--threads", type=int, default=_native.granted_threads()[0])
    parser.add_argument("--sequence", type=int, default=128, help="tokens of a request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5, help="of each bisection")
    parser.add_argument("--requests", type=int, default=200, help="of a run, at least")
    parser.add_argument("--bound", choices=["own", "ours"], default="own")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name in options.models:
        measure(name, options)


if __name__ == "__main__":
    main()
