"""A machine of formulas, for tests of what is chosen on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from taille.config import InferenceConfig, resolve
from taille.inference.load import Load
from taille.inference.tuning import Tuning
from taille.runner_choice import RunnerChoice


@dataclass
class Machine:
    """Formulas instead of a runner: a batch of b on t threads takes (fixed + each * b) / t**efficiency seconds.

    Batches of more than `cache` samples take twice as long for each of them, and `lag` shares of the wait are lost.
    """

    fixed: float = 1e-3
    each: float = 1e-4
    efficiency: float = 0.8
    cache: int = 1 << 20
    lag: float = 0.0
    spike: float = 0.0  # seconds that one of twenty requests takes more
    asked: list[tuple[RunnerChoice, int]] = field(default_factory=list)
    now: float = 0.0

    def measure(self, choice: RunnerChoice, in_flight: int, seconds: float) -> Load:
        self.asked.append((choice, in_flight))
        self.now += seconds
        batch = min(choice.max_batch, max(1, in_flight // choice.streams))
        each = self.each * (2 if batch > self.cache else 1)
        run = (self.fixed + each * batch) / choice.threads**self.efficiency + self.lag * choice.timeout
        streams = min(choice.streams, in_flight)
        rate = batch * streams / run
        usual = in_flight / rate
        return Load((usual,) * 19 + (usual + self.spike,), (rate,), batch)

    def tuned(self, target: float, granted: int = 4, budget: float = 1e9, **batch: Any) -> Tuning:
        config = resolve(InferenceConfig, {"batch": batch}, environ={}).batch
        self.tuning = Tuning(self.measure, granted, config, target, budget, clock=lambda: self.now)
        self.tuning.run()
        return self.tuning

    def best(self, *args: Any, **kwargs: Any) -> RunnerChoice:
        best = self.tuned(*args, **kwargs).best
        assert best is not None
        return best.choice
