"""How long a pruned model will take, before it is made: its layers' times, measured on zeroed weights of their shapes.

A layer's time hangs on how many blocks are left, not on which. So the dense graph's weights are zeroed at random to the
share in question, and the executor's own profile of both, in turns, gives each layer's time over its dense time. These
ratios are kept per CPU, level, thread count and shape, so that another model with such layers, or another search, need
not measure them again.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import taille
from taille.arrays import Array
from taille.files import write_atomically

if TYPE_CHECKING:
    from taille import _native

__all__ = ["LatencyTable", "Predictor", "default_table"]

log = logging.getLogger(__name__)

INDEX_BYTES = 2  # of a block, in the artefact
ROUNDS = 9  # that times are medians of
BLOCKS = {"block4x4": (4, 4), "block2x4": (2, 4), "block1x4": (1, 4), "block4x16": (16, 4)}


def default_table() -> Path:
    """Where the table lies if nobody says: the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "taille" / "layer-ratios.json"


class LatencyTable:
    """Times of pruned layers over their dense times on this CPU, by a text that says all they hang on; a JSON file."""

    def __init__(self, path: Path | None = None):
        """Read the file, where there is one; a damaged one is measured anew."""
        from taille import _native

        self.path = path or default_table()
        self.cpu = f"{_native.cpu_name()} {_native.active_isa()} taille {taille.__version__}"
        self.ratios: dict[str, float] = {}
        try:
            stored = json.loads(self.path.read_text()).get(self.cpu, {})
            self.ratios = {str(k): float(v) for k, v in stored.items()}
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, AttributeError, OSError) as error:
            log.warning("%s cannot be read (%s); layers are timed anew", self.path, error)

    def save(self) -> None:
        """Write it beside, and rename; other CPUs' times in the file stay."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            stored = json.loads(self.path.read_text())
        except (ValueError, OSError):
            stored = {}
        stored = stored if isinstance(stored, dict) else {}
        stored[self.cpu] = self.ratios
        write_atomically(self.path, json.dumps(stored).encode())


class Predictor:
    """Times of one dense graph's pruned forms."""

    def __init__(
        self, graph: _native.Graph, layers: Collection[str], sample: Mapping[str, Array], threads: int,
        table: LatencyTable,
    ):  # fmt: skip
        """Profile the dense graph.

        Args:
            graph: as the executor runs it.
            layers: names of the nodes whose weights would be pruned.
            sample: inputs, by name.
            threads: of the executor.
            table: to look times up in, and to add to.
        """
        self._graph, self._sample, self._threads, self._table = graph, dict(sample), threads, table
        self._weights = {
            node["name"]: node["inputs"][1]
            for node in graph.nodes
            if node["name"] in layers and node["op"] in ("linear", "conv2d") and len(node["inputs"]) > 1
        }
        self._rows: dict[str, dict[str, Any]] = {}
        (self._dense,) = self._profiles([graph])

    def seconds_saved(self, pattern: str, share: float) -> float:
        """How much faster than the dense form a run of the pruned one is.

        Args:
            pattern: of blocks; of others nothing is known to be saved: 0.
            share: of the blocks that remain in each layer.
        """
        if pattern not in BLOCKS or share >= 1 or not self._weights:
            return 0.0
        keys = {name: self._key(name, pattern, share) for name in self._weights}
        if any(key not in self._table.ratios for key in keys.values()):
            dense, pruned = self._profiles([self._graph, self.pruned(pattern, share)])
            self._table.ratios |= {key: pruned[name] / max(dense[name], 1e-9) for name, key in keys.items()}
            self._table.save()
        return sum(self._dense[name] * (1 - self._table.ratios[key]) for name, key in keys.items())

    def bytes_saved(self, pattern: str, share: float) -> float:
        """Bytes that the artefact has less: of blocks that go, less the indices of those that stay."""
        if pattern not in BLOCKS or share >= 1:
            return 0.0
        saved = 0.0
        for value in self._weights.values():
            _, dtype, shape = self._graph.value(value)
            item, (rows, columns) = np.dtype(dtype).itemsize, BLOCKS[pattern]
            if int(shape[0]) % rows == 0 and int(shape[-1]) % columns == 0:
                block = rows * columns * item
                saved += math.prod(map(int, shape)) * item * (1 - share * (block + INDEX_BYTES) / block)
        return saved

    def pruned(self, pattern: str, share: float) -> _native.Graph:
        """The graph with blocks of its weights zeroed at random; its results mean nothing."""
        graph = self._graph.copy()
        constants = graph.constants()
        rng = np.random.default_rng(0)
        for value in self._weights.values():
            weight = constants[graph.value(value)[0]]
            graph.set_constant(value, zeroed(weight, BLOCKS[pattern], share, rng))
        return graph

    def _profiles(self, graphs: Sequence[_native.Graph]) -> list[dict[str, float]]:
        """The median seconds of each node of each graph; the graphs run in turns."""
        from taille import _native

        models = [_native.Model(graph, self._threads) for graph in graphs]
        rows = [model.profile(self._sample) for model in models]
        self._rows = self._rows or {row["name"]: row for row in rows[0]}
        runs = [[model.profile(self._sample) for model in models] for _ in range(ROUNDS)]
        times = [np.median([[float(r["seconds"]) for r in run[i]] for run in runs], axis=0) for i in range(len(models))]
        return [
            {row["name"]: float(t) for row, t in zip(own, found, strict=True)}
            for own, found in zip(rows, times, strict=True)
        ]

    def _key(self, name: str, pattern: str, share: float) -> str:
        row = self._rows[name]
        weight = "x".join(map(str, self._graph.value(self._weights[name])[2]))
        output = "x".join(map(str, row["shape"]))
        kind = f"{row['op']} {row['precision']}"
        return f"{kind} {weight} to {output}, {pattern} {share:g}, {self._threads} threads"


def zeroed(weight: Array, block: tuple[int, int], share: float, rng: np.random.Generator) -> Array:
    """A copy of w[outputs, ..., inputs] in which that share of its blocks remains; unchanged where they do not fit."""
    rows, columns = block
    outputs, inputs = weight.shape[0], weight.shape[-1]
    if outputs % rows or inputs % columns or weight.ndim < 2:
        return weight.copy()
    flat = weight.reshape(outputs, -1)
    blocks = (outputs // rows) * (flat.shape[1] // columns)
    mask = np.zeros(blocks, bool)
    mask[rng.permutation(blocks)[: round(share * blocks)]] = True
    grid = mask.reshape(outputs // rows, -1).repeat(rows, 0).repeat(columns, 1)
    return np.ascontiguousarray(np.where(grid, flat, np.zeros((), flat.dtype)).reshape(weight.shape))
