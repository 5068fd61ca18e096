"""`ResourceOptimizer`: the least harmful change that makes a model fit the memory, or the time, that there is.

Each is a contract, met by the search of `taille.optimization`; what is added here is the order in which the batch, the
precision and the weights are given up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from taille.compiled import CompiledModel
from taille.config import RESOURCE_CONFIG, ResourceConfig, parse_size, resolve
from taille.errors import ConstraintError
from taille.models import BaseMLModel
from taille.optimization import ModelOptimizer
from taille.optimization.contract import TECHNIQUES

__all__ = ["ResourceOptimizer"]

log = logging.getLogger(__name__)

DEVICES = ("cpu", "cuda")


class ResourceOptimizer:
    """Fits models to a machine."""

    def __init__(self, config: Mapping[str, Any] = RESOURCE_CONFIG):
        """Take the configuration.

        Args:
            config: `memory`: `max_usage`, a ceiling on what `optimize_memory` is asked for, and `buffer_size`, of what
                a run needs beyond the weights; `compute`: `max_threads` and `batch_size` of all measurements.

        Raises:
            TypeError, ValueError: an unknown key or a value that is none; the message names the key.
        """
        self.config = resolve(ResourceConfig, config)

    def optimize_memory(
        self,
        model: BaseMLModel,
        target_size: int | str,
        *,
        journal: str | Path | None = None,
        time_budget_s: float = 600.0,
        watch: Callable[..., None] | None = None,
    ) -> CompiledModel:
        """Bring the resident bytes of weights and arena below a target, measured in a fresh process.

        What harms least goes first: weights in fewer bits; then smaller batches; then weights that are pruned.

        Args:
            model: a `TorchModel`; see `ModelOptimizer.optimize_model` for what its data allows.
            target_size: bytes, or text as "200MB"; `memory.max_usage` where that is less.
            journal: a folder that an interrupted search goes on from; by default in the user's cache.
            time_budget_s: seconds for each step of that order.
            watch: told of the search's state.

        Returns:
            The model; `metadata["resources"]` says for which batch size it fits, and how many bytes it takes.

        Raises:
            TypeError, ValueError: a target that is no size, or a model of another kind.
            taille.ConstraintError: it cannot be made to fit; the message says how near it comes.
        """
        most = min(parse_size(target_size, "target_size"), parse_size(self.config.memory.max_usage))
        failure: ConstraintError | None = None
        for batch, techniques in self._steps(model):
            constraints = self._common(batch) | {
                "max_memory": most, "techniques": techniques, "time_budget_s": time_budget_s,
            }  # fmt: skip
            folder = None if journal is None else Path(journal) / f"batch-{batch}-{len(techniques)}"
            try:
                found, metrics = ModelOptimizer().optimize_model(model, constraints, journal=folder, watch=watch)
            except ConstraintError as error:
                failure = error
                log.info("%d bytes are not reached with %s and batches of %d", most, ", ".join(techniques), batch)
                continue
            arena = metrics["peak_memory_bytes"] - metrics["size_bytes"]
            if batch > 1 and arena > parse_size(self.config.memory.buffer_size):
                log.info("batches of %d need %d bytes beyond the weights", batch, arena)
                continue
            return with_resources(found, {"batch_size": batch, "peak_memory_bytes": metrics["peak_memory_bytes"]})
        assert failure is not None
        raise failure

    def _steps(self, model: BaseMLModel) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Batch sizes and techniques, those that harm least first."""
        batch = self.config.compute.batch_size
        while batch >= 1:
            yield batch, TECHNIQUES[:1]
            batch //= 2
        if getattr(model, "eval_fn", None) is not None:  # nobody would notice what pruning costs
            yield 1, TECHNIQUES

    def _common(self, batch: int) -> dict[str, Any]:
        from taille import _native

        return {"batch_size": batch, "threads": min(self.config.compute.max_threads, _native.granted_threads()[0])}

    def optimize_compute(
        self,
        model: BaseMLModel,
        target_latency: float,
        *,
        device: str = "cpu",
        journal: str | Path | None = None,
        time_budget_s: float = 600.0,
        watch: Callable[..., None] | None = None,
    ) -> CompiledModel:
        """Bring the time of a batch below a target, on at most `compute.max_threads` threads.

        Args:
            model: a `TorchModel`; see `ModelOptimizer.optimize_model` for what its data allows.
            target_latency: seconds for `compute.batch_size` samples (the median).
            device: "cpu".
            journal: as for `optimize_memory`.
            time_budget_s: seconds for the search.
            watch: told of the search's state.

        Returns:
            The fastest form that keeps the quality; `metadata["search"]` holds what was measured.

        Raises:
            TypeError, ValueError: a target that is no time, or a model of another kind.
            NotImplementedError: `device` is "cuda", which this version does not have.
            taille.ConstraintError: the target is not reached; the message says how near it comes.
        """
        if device not in DEVICES:
            raise ValueError(f"device is '{device}'; wanted one of {', '.join(DEVICES)}")
        if device == "cuda":
            raise NotImplementedError("device='cuda' is not there in this version; wanted 'cpu'")
        if isinstance(target_latency, bool) or not isinstance(target_latency, (int, float)):
            raise TypeError(f"target_latency is {target_latency!r}; wanted seconds for a batch, as 0.05")
        if not target_latency > 0:
            raise ValueError(f"target_latency is {target_latency}; wanted seconds above 0 for a batch")
        constraints = self._common(self.config.compute.batch_size) | {
            "max_latency_ms": 1e3 * target_latency, "time_budget_s": time_budget_s,
        }  # fmt: skip
        found, _ = ModelOptimizer().optimize_model(model, constraints, journal=journal, watch=watch)
        return found


def with_resources(model: CompiledModel, found: Mapping[str, Any]) -> CompiledModel:
    """The model with what it needs in its metadata."""
    return CompiledModel(model.graph, model.metadata | {"resources": dict(found)}, threads=model.threads)
