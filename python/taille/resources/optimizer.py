"""`ResourceOptimizer`: the least harmful change that makes a model fit the memory, or the time, that there is.

Each is a contract, met by the search of `taille.optimization`; what is added here is the order in which the batch, the
precision and the weights are given up. Storage and network are `taille.transport`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from taille.compiled import CompiledModel
from taille.config import RESOURCE_CONFIG, ResourceConfig, format_size, parse_size, resolve
from taille.errors import ConstraintError
from taille.models import BaseMLModel
from taille.optimization import ModelOptimizer
from taille.optimization.contract import TECHNIQUES
from taille.optimization.evaluation import sample_of
from taille.transport import Delta, Packed, apply_delta, make_delta, pack, unpack

__all__ = ["ResourceOptimizer"]

log = logging.getLogger(__name__)

DEVICES = ("cpu", "cuda")


class ResourceOptimizer:
    """Fits models to a machine."""

    def __init__(self, config: Mapping[str, Any] = RESOURCE_CONFIG):
        """Take the configuration.

        Args:
            config: `memory`: `max_usage`, a ceiling on what `optimize_memory` is asked for, and `buffer_size`, of the
                arena, which is what a run needs beyond weights, inputs and outputs; `compute`: `max_threads` and
                `batch_size` of all measurements, and `gpu_memory`, of what `optimize_compute` may take on a GPU.

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
            The model; `metadata["resources"]` says for which batch size it fits, and the bytes it and its arena take.

        Raises:
            TypeError, ValueError: a target that is no size, or a model of another kind.
            taille.ConstraintError: it cannot be made to fit; the message says how near it comes.
        """
        from taille.torch_model import TorchModel

        most = min(parse_size(target_size, "target_size"), parse_size(self.config.memory.max_usage))
        buffers = parse_size(self.config.memory.buffer_size)
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
            assert isinstance(model, TorchModel)  # optimize_model takes no other
            arena = found.arena_bytes(sample_of(model, batch))
            if arena > buffers:
                failure = ConstraintError(f"memory.buffer_size is {format_size(buffers)}; the buffers of a batch of "
                                          f"{batch} take {format_size(arena)}")  # fmt: skip
                log.info("%s", failure)
                continue
            resources = {"batch_size": batch, "peak_memory_bytes": metrics["peak_memory_bytes"], "arena_bytes": arena}
            return with_resources(found, resources)
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
    ) -> BaseMLModel:
        """Bring the time of a batch below a target, on at most `compute.max_threads` threads, or on a GPU.

        Args:
            model: a `TorchModel`; see `ModelOptimizer.optimize_model` for what its data allows.
            target_latency: seconds for `compute.batch_size` samples (the median).
            device: "cpu": taille's engine. "cuda": torch on the GPU, within `compute.gpu_memory`: half precision,
                `torch.compile` and, where there is an `eval_fn`, half of the weights as 2:4, whichever is fastest.
            journal: as for `optimize_memory`; of no use on a GPU, where a search takes a minute.
            time_budget_s: seconds for the search.
            watch: told of the search's state, on the CPU.

        Returns:
            The fastest form that keeps the quality; `metadata["search"]` holds what was measured. On a GPU it runs in
            torch, and copies to and from the GPU are part of its time.

        Raises:
            TypeError, ValueError: a target that is no time, or a model of another kind.
            RuntimeError: `device` is "cuda", and there is none; the message says what is missing.
            taille.ConstraintError: the target is not reached; the message says how near it comes.
        """
        if device not in DEVICES:
            raise ValueError(f"device is '{device}'; wanted one of {', '.join(DEVICES)}")
        if isinstance(target_latency, bool) or not isinstance(target_latency, (int, float)):
            raise TypeError(f"target_latency is {target_latency!r}; wanted seconds for a batch, as 0.05")
        if not target_latency > 0:
            raise ValueError(f"target_latency is {target_latency}; wanted seconds above 0 for a batch")
        if device == "cuda":
            from taille.resources.gpu import optimize_on_gpu

            compute = self.config.compute
            return optimize_on_gpu(
                model, target_latency, compute.batch_size, parse_size(compute.gpu_memory), time_budget_s
            )
        constraints = self._common(self.config.compute.batch_size) | {
            "max_latency_ms": 1e3 * target_latency, "time_budget_s": time_budget_s,
        }  # fmt: skip
        found, _ = ModelOptimizer().optimize_model(model, constraints, journal=journal, watch=watch)
        return found

    def pack(self, artefact: str | Path, path: str | Path) -> Packed:
        """Write an artefact in fewer bytes, to be stored or sent; see `taille.transport.pack`."""
        return pack(artefact, path)

    def unpack(self, path: str | Path, artefact: str | Path) -> int:
        """Write the artefact that a packed one holds, if it is no larger than `memory.max_usage`; its bytes."""
        return unpack(path, artefact, max_size=self.config.memory.max_usage)

    def make_delta(self, base: str | Path, artefact: str | Path, path: str | Path) -> Delta:
        """Write what turns one artefact into another, to be sent in its place; see `taille.transport.make_delta`."""
        return make_delta(base, artefact, path)

    def apply_delta(self, base: str | Path, delta: str | Path, artefact: str | Path) -> int:
        """Write the new artefact, if it is no larger than `memory.max_usage`; its bytes.

        Raises:
            taille.ArtefactError: see `taille.transport.apply_delta`.
        """
        return apply_delta(base, delta, artefact, max_size=self.config.memory.max_usage)


def with_resources(model: CompiledModel, found: Mapping[str, Any]) -> CompiledModel:
    """The model with what it needs in its metadata."""
    return CompiledModel(model.graph, model.metadata | {"resources": dict(found)}, threads=model.threads)
