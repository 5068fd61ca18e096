"""Mixed load on runners and response caches, each answer held against the one it must be.

Everything random comes from one seed. Which requests are late, and so refused, the machine decides.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import taille
from runner_models import int8_mlp, ragged, slow
from taille import CompiledModel, Runner

PATIENCE = 60.0  # seconds after which an answer is lost
KINDS: dict[str, Callable[..., CompiledModel]] = {"mlp": int8_mlp, "ragged": ragged, "slow": slow}
VARIANTS = 2  # of each kind, with other weights: an answer of the model that was swapped out is a wrong one
WORDS = 50  # that the ragged model knows
OUTCOMES = ("completed", "failed", "cancelled", "expired", "refused_full", "refused_deadline")

Array = np.ndarray[Any, Any]


@dataclass
class Faults:
    """What went wrong, from any thread; the first few in words."""

    count: int = 0
    texts: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.texts) < 20:
            self.texts.append(text)


def same(found: Any, wanted: Any) -> bool:
    """Whether two results are equal to the bit."""
    found, wanted = (x if isinstance(x, tuple) else (x,) for x in (found, wanted))
    return len(found) == len(wanted) and all(map(np.array_equal, found, wanted))


class Artefacts:
    """Two artefacts of each kind of model, inputs for them, and the answers that each has to give."""

    def __init__(self, folder: Path, seed: int):
        self.paths: dict[tuple[str, int], Path] = {}
        self.cases: dict[tuple[str, int], list[tuple[Array, Any]]] = {}
        for kind, make in KINDS.items():
            inputs = self._inputs(kind, np.random.default_rng([seed, len(kind)]))
            for variant in range(VARIANTS):
                key = kind, variant
                self.paths[key] = folder / f"{kind}-{variant}.safetensors"
                make(seed=variant).save(self.paths[key])
                model = taille.load(self.paths[key], threads=1)
                self.cases[key] = [(x, model.predict(x)) for x in inputs]
        self.smallest = min(path.stat().st_size for path in self.paths.values())  # bytes

    def _inputs(self, kind: str, rng: np.random.Generator) -> list[Array]:
        if kind == "ragged":
            return [rng.integers(0, WORDS, (n, length)) for n in (1, 2, 5, 40) for length in (1, 3, 4, 9)]
        width = 32 if kind == "mlp" else 256
        return [rng.standard_normal((n, width), np.float32) for n in (1, 1, 1, 2, 3, 7, 40)]

    def load(self, key: tuple[str, int]) -> CompiledModel:
        return taille.load(self.paths[key], threads=1)

    @staticmethod
    def bad(kind: str, rng: np.random.Generator) -> tuple[Array, bool]:
        """An input that must be refused, and whether that is told before it is queued."""
        if kind == "ragged" and rng.random() < 0.5:
            return np.full((2, 3), WORDS), False
        choices: list[Array] = [np.zeros((2, 5, 7), np.float32), np.zeros((0, 0), np.complex64), np.array(["text"])]
        return choices[rng.integers(3)], True


class Generation:
    """A runner from one swap to the next, with the answers it must give and what its callers saw."""

    def __init__(self, runner: Runner, cases: list[tuple[Array, Any]]):
        self.runner, self.cases = runner, cases
        self.abrupt = False  # closed without a drain, so any request that waits may be cancelled
        self.seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, outcome: str) -> None:
        with self._lock:
            self.seen[outcome] += 1

    def mismatch(self) -> str:
        """How its statistics differ from what its callers saw, once all of them have settled; empty if they do not."""
        stats = self.runner.stats()
        told = {outcome: stats[outcome] for outcome in OUTCOMES}
        seen = {outcome: self.seen[outcome] for outcome in OUTCOMES}
        accepted = sum(told[outcome] for outcome in OUTCOMES[:4])
        if told == seen and stats["submitted"] == accepted and stats["in_flight"] == 0:
            return ""
        return f"{self.runner!r} tells {stats}, and its callers saw {seen}"


class Post:
    """Where callers find the runner of one kind of model, while it is swapped for others."""

    def __init__(self, kind: str, artefacts: Artefacts, rng: np.random.Generator):
        self.kind, self._artefacts, self._rng = kind, artefacts, rng
        self._variant = 0
        self.past: list[Generation] = []  # with requests whose outcome its callers have yet to see
        self.now = self._make()

    def _make(self) -> Generation:
        rng, key = self._rng, (self.kind, self._variant)
        runner = Runner(
            self._artefacts.load(key), streams=int(rng.integers(1, 3)), threads=1,
            timeout=float(rng.choice([0.0, 0.002, 0.02])), max_batch=int(rng.choice([4, 16, 64])),
            queue_size=int(rng.choice([4, 24, 200])),
        )  # fmt: skip
        return Generation(runner, self._artefacts.cases[key])

    def swap(self) -> None:
        """Put a runner of the other weights in place, then end the old one: with a drain, or at once."""
        self._variant = (self._variant + 1) % VARIANTS
        old, self.now = self.now, self._make()
        self._end(old, abrupt=self._rng.random() < 0.3)

    def _end(self, old: Generation, *, abrupt: bool) -> None:
        old.abrupt = abrupt
        old.runner.close(0.0 if abrupt else None)
        # Those whose callers have seen all are over: kept, their models would be most of what the process holds.
        self.past = [generation for generation in [*self.past, old] if generation.mismatch()]

    def close(self) -> None:
        self._end(self.now, abrupt=False)


class Caller(threading.Thread):
    """A thread of load: works until it is told to stop. What it raises is a fault."""

    def __init__(self, faults: Faults, rng: np.random.Generator):
        super().__init__(name=type(self).__name__)
        self.faults, self.rng = faults, rng
        self.done: Counter[str] = Counter()
        self.stopping = threading.Event()

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.faults.add(f"{self.name} ended with {error!r}")

    def work(self) -> None:
        while not self.stopping.is_set():
            self.step()
        self.finish()

    def step(self) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Settle what is still open."""

    def pick(self, values: list[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]


@dataclass
class Asked:
    """A request under way, and what its outcome may be."""

    future: taille.RunnerFuture
    generation: Generation
    what: str
    wanted: Any  # None: the input was bad
    has_deadline: bool
    cancelled: bool | None = None  # what `cancel` said; None: it was not called, or nobody knows what it said


class RunnerCaller(Caller):
    """Asks runners: some inputs bad, some deadlines too near, some requests cancelled."""

    def __init__(self, posts: list[Post], faults: Faults, rng: np.random.Generator):
        super().__init__(faults, rng)
        self.posts = posts
        self.open: list[Asked] = []

    def ask(self) -> Asked | None:
        """Submit something; None where it was refused."""
        rng, post = self.rng, self.pick(self.posts)
        generation, bad = post.now, rng.random() < 0.03
        (inputs, at_once), wanted = (Artefacts.bad(post.kind, rng), None) if bad else ((None, False), None)
        if not bad:
            inputs, wanted = self.pick(generation.cases)
        deadline = None if rng.random() < 0.6 else float(rng.choice([1e-5, 5e-4, 5e-3, 10.0]))
        what = f"{post.kind} {inputs.shape} deadline {deadline}{' (bad)' if bad else ''}"
        try:
            future = generation.runner.submit(inputs, deadline=deadline, priority=int(rng.integers(-2, 3)))
        except (taille.QueueFullError, taille.DeadlineError) as error:
            full = isinstance(error, taille.QueueFullError)
            generation.count("refused_full" if full else "refused_deadline")
            if not full and deadline is None:
                self.faults.add(f"{what}: {error!r}, but it had no deadline")
        except taille.ClosedError:
            if generation is post.now:
                self.faults.add(f"{what}: the runner in place is closed")
        except (TypeError, ValueError) as error:
            self.done["refused as bad"] += 1
            if not at_once:
                self.faults.add(f"{what}: {error!r}")
        else:
            if at_once:
                self.faults.add(f"{what} was accepted")
            return Asked(future, generation, what, wanted, deadline is not None)
        return None

    def settle(self, asked: Asked) -> None:
        """Wait for the outcome, and hold it against what it may be."""
        found, wrong = None, ""
        try:
            found = asked.future.result(PATIENCE)
            outcome = "completed"
            wrong = "" if asked.wanted is not None and same(found, asked.wanted) else "another answer than its own"
        except concurrent.futures.CancelledError:
            outcome = "cancelled"
            wrong = "" if asked.cancelled is not False and self._may_be_cancelled(asked) else "nobody cancelled it"
        except taille.DeadlineError:
            outcome = "expired"
            wrong = "" if asked.has_deadline else "expired without a deadline"
        except TimeoutError:
            outcome, wrong = "lost", f"no answer in {PATIENCE} s"
        except ValueError as error:
            outcome = "failed"
            wrong = "" if asked.wanted is None else repr(error)
        if asked.cancelled and outcome != "cancelled":
            wrong = f"cancel() said that it was cancelled, and it {outcome}"
        asked.generation.count(outcome)
        self.done[outcome] += 1
        if wrong:
            self.faults.add(f"{asked.what}: {wrong}")

    @staticmethod
    def _may_be_cancelled(asked: Asked) -> bool:
        return asked.cancelled is True or asked.generation.abrupt or isinstance(asked, AwaitedAsked)

    def step(self) -> None:
        if asked := self.ask():
            self.open.append(asked)
            if self.rng.random() < 0.1:
                asked.cancelled = True if asked.future.cancel() else None
        while len(self.open) > self.rng.integers(1, 24):
            self.settle(self.open.pop(int(self.rng.integers(len(self.open)))))

    def finish(self) -> None:
        while self.open:
            self.settle(self.open.pop())


class AwaitedAsked(Asked):
    """One that a task awaited and gave up: asyncio cancels it, and does not say whether that came in time."""


class AsyncCaller(RunnerCaller):
    """The same from an event loop, where giving up after a while is what cancels."""

    def work(self) -> None:
        asyncio.run(self._work())

    async def _work(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        while not self.stopping.is_set():
            if asked := self.ask():
                tasks.add(asyncio.create_task(self._await(asked)))
            done = {task for task in tasks if task.done()}
            tasks -= done
            await asyncio.gather(*done)
            await asyncio.sleep(0 if len(tasks) < 16 else 0.002)
        await asyncio.gather(*tasks)

    async def _await(self, asked: Asked) -> None:
        seconds = PATIENCE if self.rng.random() < 0.8 else float(self.rng.choice([0.0, 1e-3, 5e-3]))
        with contextlib.suppress(ValueError, asyncio.CancelledError, TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(asked.future, seconds)
        if not asked.future.done() or asked.future.cancelled():
            asked = AwaitedAsked(**vars(asked))
        end = time.monotonic() + PATIENCE
        while not asked.future.done() and time.monotonic() < end:  # it was too late to cancel it
            await asyncio.sleep(1e-3)
        self.settle(asked)


class CacheCaller(Caller):
    """Asks models with response caches, while these are emptied, replaced, and given to other models."""

    SIZE = 60_000  # bytes: less than all answers take, so some are thrown out

    def __init__(self, place: CachePlace, faults: Faults, rng: np.random.Generator):
        super().__init__(faults, rng)
        self.place = place

    def step(self) -> None:
        model, cases = self.place.now
        if self.rng.random() < 0.02:
            try:
                model.predict(Artefacts.bad(self.place.kind, self.rng)[0])
                self.faults.add(f"{model!r} accepted what it must not")
            except (TypeError, ValueError):
                self.done["refused as bad"] += 1
            return
        x, wanted = cases[int(len(cases) * self.rng.random() ** 2)]  # some come more often
        if not same(model.predict(x), wanted):
            self.faults.add(f"{model!r} with a cache: another answer than its own for {x.shape}")
        self.done["from a model with a cache"] += 1
        held = model.cache_statistics
        if held is not None and held["bytes"] > self.SIZE:
            self.faults.add(f"{model!r}: the cache holds {held['bytes']} bytes of {self.SIZE}")


class CachePlace:
    """Where they find the model."""

    def __init__(self, kind: str, artefacts: Artefacts, rng: np.random.Generator):
        self.kind, self._artefacts, self._rng, self._variant = kind, artefacts, rng, 0
        self.hits = 0
        self.now = self._make()

    def _make(self) -> tuple[CompiledModel, list[tuple[Array, Any]]]:
        key = self.kind, self._variant
        model = self._artefacts.load(key)
        self._set_up(model)
        return model, self._artefacts.cases[key]

    def _set_up(self, model: CompiledModel) -> None:
        if model.cache_statistics is not None:
            self.hits += model.cache_statistics["hits"]
        taille.setup_caching(model, {"size": CacheCaller.SIZE, "ttl": float(self._rng.choice([0.05, 3600.0]))})

    def disturb(self) -> None:
        choice = self._rng.random()
        if choice < 0.3:
            self._set_up(self.now[0])
        elif choice < 0.6:
            taille.cleanup_resources(self.now[0])
        else:
            self._variant = (self._variant + 1) % VARIANTS
            self.now = self._make()


class Swapper(Caller):
    """Swaps runners and models, one after the other, with pauses."""

    def __init__(self, posts: list[Post], places: list[CachePlace], faults: Faults, rng: np.random.Generator):
        super().__init__(faults, rng)
        self.posts, self.places = posts, places

    def step(self) -> None:
        self.stopping.wait(float(self.rng.uniform(0.01, 0.1)))
        if self.rng.random() < 0.6:
            self.pick(self.posts).swap()
            self.done["runner swaps"] += 1
        else:
            self.pick(self.places).disturb()
            self.done["cache swaps"] += 1


def streams_of(seed: int) -> Iterator[np.random.Generator]:
    """Generators that do not depend on each other, for each part of the load one."""
    sequence = np.random.SeedSequence(seed)
    while True:
        yield np.random.default_rng(sequence.spawn(1)[0])


class RunnerLoad:
    """Runners and models with caches, and who asks them."""

    def __init__(self, artefacts: Artefacts, faults: Faults, rngs: Iterator[np.random.Generator]):
        self.faults = faults
        self.posts = [Post(kind, artefacts, next(rngs)) for kind in KINDS]
        places = [CachePlace(kind, artefacts, next(rngs)) for kind in ("mlp", "ragged")]
        self.callers: list[Caller] = [RunnerCaller(self.posts, faults, next(rngs)) for _ in range(2)]
        self.callers += [AsyncCaller(self.posts, faults, next(rngs)), Swapper(self.posts, places, faults, next(rngs))]
        self.callers += [CacheCaller(place, faults, next(rngs)) for place in places for _ in range(2)]

    def close(self) -> None:
        """Close all runners, and hold what each counted against what its callers saw."""
        for post in self.posts:
            post.close()
            for generation in post.past:
                if mismatch := generation.mismatch():
                    self.faults.add(mismatch)


def together(callers: Sequence[Caller], seconds: float) -> None:
    """Run these for that long."""
    for caller in callers:
        caller.start()
    time.sleep(seconds)
    for caller in callers:
        caller.stopping.set()
    for caller in callers:
        caller.join()
