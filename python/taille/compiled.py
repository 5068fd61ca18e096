"""A native artefact that runs without torch, and `load`, which reads one."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from taille.arrays import InputBinder, give_back
from taille.errors import ArtefactError
from taille.models import BaseMLModel, TensorSpec
from taille.profile import NodeTime, Profile

if TYPE_CHECKING:
    from taille import _native

__all__ = ["CompiledModel", "load"]

log = logging.getLogger(__name__)


def specs(values: list[tuple[str, str, list[int | str]]]) -> tuple[TensorSpec, ...]:
    """Specs of what the native graph lists as its inputs or outputs."""
    return tuple(TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in values)


def thread_count(threads: int | None, streams: int) -> int:
    """Check `threads` and `streams`; give the native engine's count, where 0 means as many as are granted."""
    if isinstance(threads, bool) or not (threads is None or isinstance(threads, int)):
        raise TypeError(f"threads is {type(threads).__name__}; wanted an int, or None for all that are granted")
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}; wanted at least 1, or None for all that are granted")
    if streams != 1:
        raise ValueError(f"streams is {streams}; only 1 exists in this version")
    return threads or 0


class CompiledModel(BaseMLModel):
    """A native graph with its kernels chosen and weights packed. Made by `compile_model` and `load`.

    One model may be called from several threads at once; `predict` releases the interpreter lock.

    Attributes:
        path: the file it was read from or last saved to, which a pickled `Runner` reads; None before.
        fixed_threads: whether the caller said how many threads it has.

    Shapes may vary from call to call. A shape is planned at its first call and known at the next; the plans of the last
    32 shapes are kept. Memory stays bounded whatever comes: the weights; one arena for each `predict` that runs at the
    same time as others, as large as its largest shape so far needed; and those plans, some 60 kB each for BERT-base
    (a convolution's holds 4 bytes for each tap of each output pixel of one image).
    """

    def __init__(self, graph: _native.Graph, metadata: dict[str, Any], *, threads: int | None = None, streams: int = 1):
        """Prepare `graph` to run.

        Args:
            graph: an optimised native graph.
            metadata: JSON-compatible provenance, stored with the artefact.
            threads: how many threads one `predict` uses; None: all that this process is granted.
            streams: 1.
        """
        from taille import _native

        self.graph = graph
        self._metadata = metadata
        self.fixed_threads = threads is not None
        self._model = _native.Model(graph, thread_count(threads, streams))
        self._inputs = specs(graph.inputs)
        self._outputs = specs(graph.outputs)
        self._structure = graph.output_structure
        self._output_names = [s.name for s in self._outputs]
        self._binder = InputBinder(self._inputs, metadata.get("limits") or {})
        self._size_bytes: int | None = None
        self.path: Path | None = None

    def predict(self, inputs: Any) -> Any:
        """Run on one batch; see `BaseMLModel.predict`. Ids outside an embedding or gather are a ValueError."""
        tensors = False
        outputs = self._model.run_again(inputs)
        if outputs is None:
            arrays, tensors = self.bind(inputs)
            outputs = self._model.run(arrays)
        return self.arrange(outputs, tensors)

    def bind(self, inputs: Any) -> tuple[dict[str, npt.NDArray[Any]], bool]:
        """The inputs of a `predict` as arrays by name, checked, and whether they came as torch tensors."""
        return self._binder.bind(inputs)

    def arrange(self, outputs: Sequence[npt.NDArray[Any]], tensors: bool) -> Any:
        """What `predict` gives back, of the native outputs."""
        return give_back(outputs, self._output_names, self._structure, tensors)

    def arena_bytes(self, inputs: Any) -> int:
        """Bytes of buffers that one run on such inputs (as for `predict`) needs beyond weights, inputs and outputs.

        They are planned, not measured; nothing runs.
        """
        arrays, _ = self._binder.bind(inputs)
        return self._model.plan(arrays)

    def profile(self, inputs: Any) -> Profile:
        """Run once (inputs as for `predict`) and time every node."""
        arrays, _ = self._binder.bind(inputs)
        times = [
            NodeTime(**{**row, "shape": tuple(row["shape"]), "why": self._why(row["name"])})
            for row in self._model.profile(arrays)
        ]
        return Profile(tuple(times))

    @property
    def input_spec(self) -> tuple[TensorSpec, ...]:
        """The inputs, in order."""
        return self._inputs

    @property
    def output_spec(self) -> tuple[TensorSpec, ...]:
        """The outputs, in order."""
        return self._outputs

    @property
    def size_bytes(self) -> int:
        """Bytes of the artefact that `save` writes."""
        if self._size_bytes is None:
            from taille import _native

            self._size_bytes = len(_native.serialize(self.graph, json.dumps(self._metadata)))
        return self._size_bytes

    @property
    def parameter_count(self) -> int:
        """How many numbers the graph's constants hold."""
        return self.graph.parameter_count()

    @property
    def sparsity(self) -> float:
        """The share of the matrix and convolution weights that were zero at capture."""
        return float(self._metadata.get("sparsity") or 0.0)

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, recipe, lineage and metrics: a fresh copy."""
        return copy.deepcopy(self._metadata)

    @property
    def threads(self) -> int:
        """How many threads one `predict` uses."""
        return self._model.threads

    @property
    def native(self) -> _native.Model:
        """The native executor, whose packed weights runners share."""
        return self._model

    @property
    def most_samples(self) -> int | None:
        """How large dimension 0 of the inputs may be, where that is bounded."""
        dim = self._inputs[0].shape[0] if self._inputs and self._inputs[0].shape else None
        limits = (self._metadata.get("limits") or {}).get(dim) if isinstance(dim, str) else None
        return limits[1] if limits else None

    def set_cache(self, cache: _native.ResponseCache | None) -> None:
        """Keep the answers of `predict` there from now on; None: nowhere. `taille.setup_caching` makes one."""
        self._model.set_cache(cache)

    @property
    def cache_statistics(self) -> dict[str, Any] | None:
        """What the response cache has done so far; None where there is none.

        `hits`, `misses` (computed and kept), `shared` (waited for an equal request in flight), `no_room` (computed and
        not kept), `bypassed` (while it was off), `evictions`, `expired`, `entries`, `bytes`, `waiting` (now, for equal
        requests in flight), `on`, and how often it was `switched_off`.
        """
        cache = self._model.cache
        return None if cache is None else cache.statistics()

    def release(self) -> None:
        """Give back arenas, plans, cached responses and threads; the next `predict` makes new ones."""
        self._model.release()

    def nodes(self) -> list[dict[str, str]]:
        """Each node of the graph: name, op, kernel, precision, shape, and why that precision, where that is said."""
        return [{**node, "why": self._why(node["name"])} for node in self._model.describe()]

    def _why(self, node: str) -> str:
        return str((self._metadata.get("why") or {}).get(node, ""))

    def dump(self) -> str:
        """The graph as text, a line per input, node and output."""
        return self.graph.dump()

    def summary(self) -> str:
        """A few lines of text: inputs, outputs, bytes, and every node with its kernel, precision and why."""
        nodes = self.nodes()
        counts = {p: sum(n["precision"] == p for n in nodes) for p in dict.fromkeys(n["precision"] for n in nodes)}
        head = [
            f"{self._metadata.get('name') or 'model'}: {self.parameter_count:,} parameters, {self.size_bytes:,} bytes",
            "inputs:  " + "; ".join(map(str, self._inputs)),
            "outputs: " + "; ".join(map(str, self._outputs)),
            f"{len(nodes)} nodes: " + ", ".join(f"{n} {p}" for p, n in counts.items()) + f"; threads: {self.threads}",
        ]
        width = max((len(n["name"]) for n in nodes), default=0)
        body = [
            f"  {n['name']:<{width}}  {n['op']:<20} {n['precision']:<8} {n['kernel']:<28} {n['why']}".rstrip()
            for n in nodes
        ]
        return "\n".join(head + body)

    def save(self, path: str | Path) -> int:
        """Write the artefact atomically; gives the bytes written."""
        from taille import _native

        written = _native.save_artefact(str(path), self.graph, json.dumps(self._metadata))
        log.info("saved %s (%d bytes)", path, written)
        self.path = Path(path).absolute()
        return written

    def __repr__(self) -> str:
        name = self._metadata.get("name") or "model"
        return f"<CompiledModel {name}: {'; '.join(map(str, self._inputs))} -> {'; '.join(map(str, self._outputs))}>"


def check_metadata(path: str | Path, metadata: Any) -> None:
    """Raise an ArtefactError unless the metadata of a file has the form that this module reads."""
    if not isinstance(metadata, dict):
        raise ArtefactError(f"{path}: the metadata is not a JSON object")
    limits, why, sparsity = (metadata.get(k) for k in ("limits", "why", "sparsity"))
    if limits is not None:
        pairs = list(limits.values()) if isinstance(limits, dict) else [None]
        if not all(isinstance(p, list) and len(p) == 2 and all(v is None or type(v) is int for v in p) for p in pairs):
            raise ArtefactError(f"{path}: the metadata's limits are not [least, most] by dimension")
    if why is not None and not isinstance(why, dict):
        raise ArtefactError(f"{path}: the metadata's why is not an object")
    if sparsity is not None and type(sparsity) not in (int, float):
        raise ArtefactError(f"{path}: the metadata's sparsity is not a number")


def load(path: str | Path, *, threads: int | None = None, streams: int = 1) -> CompiledModel:
    """Read an artefact and prepare it to run on this CPU. Needs no torch.

    Args:
        path: a file that `save` wrote.
        threads: how many threads one `predict` uses; None: all that this process is granted (`taille doctor`).
        streams: 1.

    Raises:
        taille.ArtefactError: the file is not an artefact, or is damaged; the message says how.
        taille.IsaError: TAILLE_ISA names a level that does not exist or that this CPU lacks.
        FileNotFoundError: there is no such file.
    """
    from taille import _native

    thread_count(threads, streams)
    if not Path(path).exists():
        raise FileNotFoundError(f"no artefact at {path}")
    graph, text = _native.load_artefact(str(path))
    try:
        metadata = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: the metadata is not JSON: {error}") from None
    check_metadata(path, metadata)
    model = CompiledModel(graph, metadata, threads=threads, streams=streams)
    model.path = Path(path).absolute()
    return model
