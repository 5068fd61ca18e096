"""Candidates made on a Ray cluster: pruned, trained, quantised and judged there, several at once.

What the machine has a part in stays with the machine that searches, as that is the one the contract is about: dense
models are made here, and latency and memory are measured here, of one candidate at a time, while the cluster is idle.
Quality is not the machine's: results are the same bits on every CPU. A candidate comes back as an artefact's bytes.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import taille
from taille.compiled import CompiledModel
from taille.optimization.recipes import Recipe
from taille.optimization.workshop import LocalExecutor, Made, Progress, TimeIsUp, Workshop

__all__ = ["RayExecutor", "Sent", "work"]

log = logging.getLogger(__name__)

RETRIES = 2  # of a candidate whose worker was lost
LOOK_SECONDS = 0.5  # between looks at the time


@dataclass(frozen=True)
class Sent:
    """What a worker gives back.

    Attributes:
        artefact: bytes; empty where the candidate could not be made.   accuracy, seconds, error: see `Made`.
        in_time: False where the time was up.   passing: see `Made`.
    """

    artefact: bytes = b""
    accuracy: float | None = None
    seconds: float = 0.0
    error: str = ""
    in_time: bool = True
    passing: bool = False


@dataclass(frozen=True)
class Searcher:
    """What layers' times and precisions are chosen for: the machine that searches."""

    cpu: str
    isa: str
    version: str

    @classmethod
    def here(cls) -> Searcher:
        """This machine."""
        from taille import _native

        return cls(_native.cpu_name(), _native.active_isa(), taille.__version__)


def work(workshop: Workshop, recipe: Recipe, drop: float | None, seconds: float, searcher: Searcher) -> Sent:
    """Make a candidate on a worker.

    Args:
        workshop: a copy of the searcher's.
        recipe: what to do.
        drop: see `Workshop.make`.
        seconds: after which it is broken off.
        searcher: the machine that the candidate is for. Layers are only timed on a CPU of the same kind.
    """
    from taille import _native
    from taille.quantization.options import clipping_for

    here = Searcher.here()
    if here.version != searcher.version:
        text = f"a worker has taille {here.version}; the search has {searcher.version}"
        return Sent(error=f"RuntimeError: {text}", passing=True)
    options = {
        "weight_clipping": clipping_for(searcher.isa),
        "never_slower": (here.cpu, here.isa) == (searcher.cpu, searcher.isa),
    }
    end = time.monotonic() + seconds

    def tick(*_: object) -> None:
        if time.monotonic() > end:
            raise TimeIsUp

    with tempfile.TemporaryDirectory(prefix="taille-") as folder:
        try:
            made = workshop.make(recipe, Path(folder), drop, tick, options)
        except TimeIsUp:
            return Sent(in_time=False)
    if made.native is None:
        return Sent(seconds=made.seconds, error=made.error)
    artefact = _native.serialize(made.native.graph, json.dumps(made.native.metadata))
    return Sent(artefact, made.accuracy, made.seconds)


class RayExecutor:
    """Candidates made by the workers of a Ray cluster."""

    def __init__(self, workshop: Workshop, folder: Path, tick: Progress, deadline: float):
        """Connect to the cluster: the one this process is in or RAY_ADDRESS names, else one on this machine.

        Args:
            workshop: sent to each worker once; its model, data and `eval_fn` must be what Ray can send.
            folder: of checkpoints, of what is made here.
            tick: told of progress; may raise TimeIsUp.
            deadline: `time.monotonic` at which workers break off.

        Raises:
            ImportError: Ray is not installed; the message has the pip line.
        """
        try:
            import ray
        except ImportError:
            raise ImportError("executor='ray' needs Ray: pip install 'taille[ray]'") from None
        from taille import _native

        self._ray: Any = ray
        self._here = LocalExecutor(workshop, folder, tick)
        self._workshop, self._tick, self._deadline = workshop, tick, deadline
        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        counts = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        granted = workshop.threads or _native.granted_threads()[0]
        self._cpus = max(1, min(granted, max(counts, default=1)))
        self.width = max(1, sum(count // self._cpus for count in counts))
        self._model: Any = None
        log.info("Ray: %d nodes, %d candidates at a time, %d CPUs each", len(counts), self.width, self._cpus)

    def make(self, recipes: Sequence[Recipe], drop: float | None) -> Iterator[Made]:
        """See `taille.optimization.workshop.Executor`; all are there before the first is given."""
        far = [r for r in recipes if r.made_key]
        sent = dict(zip(far, self._gather(far, drop), strict=True)) if far else {}
        for recipe in recipes:
            if recipe not in sent:
                yield from self._here.make([recipe], drop)
                continue
            found = sent[recipe]
            if found is None or not found.in_time:
                raise TimeIsUp
            yield self._made(recipe, found)

    def _made(self, recipe: Recipe, found: Sent) -> Made:
        """What a worker sent, as a model of this process."""
        if not found.artefact:
            log.info("%s failed on a worker: %s", recipe.key, found.error)
            return Made(None, seconds=found.seconds, error=found.error, passing=found.passing)
        from taille import _native

        graph, text = _native.deserialize(found.artefact, f"<{recipe.key}, from a worker>")
        native = CompiledModel(graph, json.loads(text), threads=self._workshop.threads)
        return Made(native, found.accuracy, found.seconds)

    def _gather(self, recipes: Sequence[Recipe], drop: float | None) -> list[Sent | None]:
        """What the workers made; None of those that were not ready when the time was up."""
        ray = self._ray
        if self._model is None:
            self._model = ray.put(self._workshop)
        task = ray.remote(num_cpus=self._cpus, max_retries=RETRIES)(work)
        seconds = max(0.0, self._deadline - time.monotonic())
        left = [task.remote(self._model, recipe, drop, seconds, Searcher.here()) for recipe in recipes]
        refs = list(left)
        found: list[Sent | None] = [None] * len(refs)
        try:
            while left:
                done, left = ray.wait(left, timeout=LOOK_SECONDS)
                for ref in done:
                    found[refs.index(ref)] = self._result(ref)
                self._tick("candidates on the cluster", len(refs) - len(left), len(refs))
        except TimeIsUp:
            log.info("the time is up; %d candidates on the cluster are given up", len(left))
        finally:  # an interrupt too
            for ref in left:
                ray.cancel(ref, force=True)
        return found

    def _result(self, ref: Any) -> Sent:
        """What a task gave, or that its worker was lost again and again."""
        errors = self._ray.exceptions
        try:
            found = self._ray.get(ref)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.ObjectLostError,
                errors.OutOfMemoryError) as error:  # fmt: skip
            return Sent(error=f"its worker was lost {RETRIES + 1} times ({type(error).__name__})", passing=True)
        assert isinstance(found, Sent)
        return found
