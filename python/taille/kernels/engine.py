"""Single ops through the engine: a graph of one node, kept for the next call."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taille import _native
from taille.arrays import Array
from taille.compiled import thread_count

__all__ = ["Quant", "check_array", "run", "run_op"]

Quant = tuple[float, int]  # scale, zero point
Described = tuple[str, str, tuple[int | str, ...]]  # name, dtype, shape
Attributes = tuple[tuple[str, Any], ...]
KEPT = 128  # models of single ops; each holds a plan for its last 32 shapes


@functools.lru_cache(maxsize=KEPT)
def model_of(
    op: str, inputs: tuple[Described, ...], attributes: Attributes, threads: int, quant: Quant | None
) -> _native.Model:
    """A model of one node, whose inputs are all given at run time."""
    graph = _native.Graph()
    ids = [graph.add_input(name, dtype, list(shape)) for name, dtype, shape in inputs]
    graph.add_output("out", graph.add_node(op, ids, dict(attributes), op, quant=quant))
    return _native.Model(graph, threads)


def run_op(
    op: str,
    arrays: Mapping[str, Array],
    shapes: Sequence[Sequence[int | str]],
    attributes: Mapping[str, Any],
    threads: int | None,
    out: Array | None,
    quant: Quant | None = None,
) -> Array:
    """Run one op.

    Args:
        op: its name in the graph.
        arrays: the inputs by name, in the op's order.
        shapes: a shape for each, of sizes and of names for sizes that vary.
        attributes: of the node.
        threads: how many; None: all that are granted.
        out: where the result goes; None: a new array.
        quant: scale and zero point of a uint8 output.
    """
    described = tuple(
        (name, check_array(name, array).dtype.name, tuple(shape))
        for (name, array), shape in zip(arrays.items(), shapes, strict=True)
    )
    return run(model_of(op, described, tuple(attributes.items()), thread_count(threads, 1), quant), arrays, out)


def run(model: _native.Model, arrays: Mapping[str, Array], out: Array | None) -> Array:
    """Run a model with one output, into `out` if it is given."""
    if out is None:
        return model.run(dict(arrays))[0]
    check_array("out", out)
    for name, array in arrays.items():
        if np.may_share_memory(array, out):
            raise ValueError(f"out shares memory with {name}; wanted an array of its own")
    return model.run(dict(arrays), [out])[0]


def check_array(name: str, value: object, dtype: str | None = None, rank: int | None = None) -> Array:
    """Give `value` back where it is a numpy array of that dtype and rank; the error names the argument."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} is {type(value).__name__}; wanted a numpy array")
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{name} is {value.dtype}; wanted {dtype}")
    if rank is not None and value.ndim != rank:
        raise ValueError(f"{name} has shape {value.shape}; wanted {rank} dimensions")
    return value
