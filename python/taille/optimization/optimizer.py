"""`ModelOptimizer`: the user's contract in, a model with its evidence out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taille.compiled import CompiledModel, load
from taille.config import PERFORMANCE_CONFIG, PerformanceConfig, resolve
from taille.measurement import measure_performance
from taille.measurement.memory import why_not_measured
from taille.models import BaseMLModel, check_model
from taille.optimization.contract import Contract
from taille.optimization.evaluation import FINAL_SECONDS, Evaluator
from taille.optimization.evidence import compared, evidence, layer_rows
from taille.optimization.journal import Entry, Journal, alone, default_folder, fingerprint
from taille.optimization.prediction import LatencyTable
from taille.optimization.search import Search, State, front
from taille.optimization.workshop import Executor, LocalExecutor, Progress, TimeIsUp, Workshop

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["ModelOptimizer"]

log = logging.getLogger(__name__)

EXECUTORS = ("local", "ray")


class ModelOptimizer:
    """Finds the fastest form of a model that keeps a contract."""

    def __init__(self, config: Mapping[str, Any] = PERFORMANCE_CONFIG, *, executor: str = "local"):
        """Take the configuration.

        Args:
            config: sections as in `PERFORMANCE_CONFIG`; what is not given is as there.
            executor: where pruned models and students are made and judged: "local", in this process, or "ray", on the
                Ray cluster that this process is in or that RAY_ADDRESS names, several at once (`taille[ray]`). Latency
                and memory are measured here in either case, of one candidate at a time, while the cluster is idle.

        Raises:
            TypeError, ValueError: an unknown key or a value that is none; the message names the key.
        """
        self.config = resolve(PerformanceConfig, config)
        if executor not in EXECUTORS:
            raise ValueError(f"executor is {executor!r}; wanted one of {', '.join(EXECUTORS)}")
        self._executor = executor
        self.state = State()

    def measure_performance(self, model: BaseMLModel, test_data: Mapping[str, Any]) -> dict[str, float]:
        """Measure a model; see `taille.measurement.measure_performance`."""
        return measure_performance(model, test_data)

    def optimize_model(
        self,
        model: BaseMLModel,
        constraints: Mapping[str, Any],
        *,
        journal: str | Path | None = None,
        seed: int = 0,
        watch: Callable[[State], None] | None = None,
        progress: Progress | None = None,
    ) -> tuple[CompiledModel, dict[str, float]]:
        """Search for the fastest form of the model that keeps the constraints, cheapest recipes first.

        Every candidate is compiled and timed on the real executor, judged by `model.eval_fn`, and noted in a journal
        with its artefact. So an interrupt or a crash loses nothing: call again, and the search goes on.

        Args:
            model: a `TorchModel`. `eval_fn` judges quality, on data that neither calibration nor training sees;
                `calibration_data` allows int8 and pruning, `train_data` recovery by distillation, with `loss_fn` by
                training.
            constraints: any of `max_latency_ms` (of one call with `batch_size` samples, 1, at `latency_percentile`, 50,
                with `threads`, all that are granted), `max_size` and `max_memory` (bytes, or "5MB"; of the artefact,
                and of a fresh process beyond one without the model), `max_accuracy_drop` or `min_accuracy` (of
                `eval_fn`; a drop of 0.01 where there is an `eval_fn` and nothing is said), `time_budget_s` (600) and
                `techniques` ("quantization", "pruning", "distillation").
            journal: a folder, of one search at a time; by default one in the user's cache, by the model, the contract
                and the seed.
            seed: of training. The same seed gives the same candidates, but for what measured times decide.
            watch: told of the search's state at every change.
            progress: called with a stage of the candidate in work, how much is done and of how much.

        Returns:
            The model, and for `latency_ms_p50` and `_p99`, `throughput` (samples/s), `size_bytes`,
            `peak_memory_bytes`, `accuracy` and `sparsity`: the value, `baseline_*` (the float32 model in the same
            engine) and `*_ratio` (the value over the baseline's); also `speedup`, measured in turns, and `candidates`.

        Raises:
            TypeError, ValueError: a constraint or model that is none, or an `eval_fn` that raises or gives no number.
            OSError: the contract bounds memory, and this system does not tell what a process takes.
            ImportError: the executor is "ray", and Ray is not installed.
            taille.ConstraintError: nothing meets the contract; it says what would, with the front of candidates.
        """
        model = check_model(model, "optimize_model")
        from taille.torch_model import TorchModel

        if not isinstance(model, TorchModel):
            raise TypeError(f"optimize_model takes a TorchModel, not {type(model).__name__}: what is quantised or "
                            "compiled already cannot be changed")  # fmt: skip
        contract = Contract.parse(constraints, has_eval=model.eval_fn is not None)
        why = why_not_measured() if contract.max_memory is not None else ""
        if why:
            raise OSError(f"constraints['max_memory'] cannot be judged here, as memory is not measured: {why}")
        mark = fingerprint(model, contract.record(), self.config, seed)
        folder = Path(journal) if journal is not None else default_folder(mark)
        with alone(folder):
            return self._search(model, contract, Journal(folder, mark), seed, watch or (lambda _: None), progress)

    def _search(
        self, model: TorchModel, contract: Contract, notes: Journal, seed: int, watch: Callable[[State], None],
        progress: Progress | None,
    ) -> tuple[CompiledModel, dict[str, float]]:  # fmt: skip
        """Search, and settle on the best that was found."""
        deadline = time.monotonic() + contract.time_budget_s
        workshop = Workshop(model, self.config, seed, contract.threads)
        evaluator = Evaluator(model, contract, notes, self._makes(workshop, notes, deadline, progress))
        search = Search(model, contract, self.config, evaluator, LatencyTable(), deadline, watch)
        self.state = search.state
        search.run()
        return self._settle(search, evaluator, contract, seed)

    def _makes(self, workshop: Workshop, notes: Journal, deadline: float, progress: Progress | None) -> Executor:
        """What makes the candidates, and stops at the deadline."""

        def tick(stage: str, done: int, total: int) -> None:
            if progress is not None:
                progress(stage, done, total)
            if time.monotonic() > deadline:
                raise TimeIsUp

        if self._executor == "local":
            return LocalExecutor(workshop, notes.folder, tick)
        from taille.optimization.cluster import RayExecutor

        return RayExecutor(workshop, notes.folder, tick, deadline)

    def _settle(
        self, search: Search, evaluator: Evaluator, contract: Contract, seed: int
    ) -> tuple[CompiledModel, dict[str, float]]:
        """Time the fastest once more, for longer; where it misses a bound, evidence included, take the next."""
        baseline_entry = search.state.entries[0]
        baseline = load(evaluator.journal.path(baseline_entry), threads=contract.threads)
        good = sorted(filter(search.meets, search.state.entries), key=lambda e: e.metrics["latency_ms"])
        for entry in good:
            native = load(evaluator.journal.path(entry), threads=contract.threads)
            timed, latencies = evaluator.latency(native, FINAL_SECONDS)
            final = entry.metrics | timed["chosen"]
            if search.meets(Entry(entry.key, entry.recipe, final)):
                before = baseline_entry.metrics | timed["float32"]
                for found, one in ((final, native), (before, baseline)):
                    if "peak_memory_bytes" not in found:
                        found |= evaluator.memory(one)
                best = {e.key for e in front(search.state.entries)}
                judged = [(e, e.key in best, search.meets(e)) for e in search.state.entries]
                layers = layer_rows(native, baseline, evaluator.sample)
                own = [row for row in judged if row[0] is entry]
                # Less where all of it does not fit.
                for tried, shown, rows in ((judged, latencies, layers), (judged, {}, []), (own, {}, [])):
                    search_of = {"contract": contract.record(), "seed": seed, "ended": search.state.ended}
                    tell = partial(evidence, search_of, entry, tried, latencies=shown, layers=rows)
                    model, metrics = with_evidence(native, final, before, len(judged), tell)
                    if search.meets(Entry(entry.key, entry.recipe, final | {"size_bytes": metrics["size_bytes"]})):
                        return model, metrics
                final["size_bytes"] = metrics["size_bytes"]
            log.info("%s missed the contract when it was timed again, or with its evidence", entry.key)
            entry.metrics = final
        raise search.failure("no candidate keeps the contract when it is timed again, with its evidence")


def with_evidence(
    native: CompiledModel, final: Mapping[str, float], before: Mapping[str, float], candidates: int,
    tell: Callable[..., dict[str, Any]],
) -> tuple[CompiledModel, dict[str, float]]:  # fmt: skip
    """The model with its evidence, and the metrics, whose size is that of the model with its evidence."""
    size = float(native.size_bytes)
    for _ in range(5):  # the size stands in the evidence; its digits settle at once or nearly so
        metrics = compared({**final, "size_bytes": size}, before) | {"candidates": float(candidates)}
        metadata = native.metadata | {"search": tell(metrics=metrics)}
        model = CompiledModel(native.graph, metadata, threads=native.threads)
        if model.size_bytes == size:
            break
        size = float(model.size_bytes)
    return model, metrics
