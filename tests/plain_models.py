"""Native models whose outputs are known beforehand: made without torch, so they are quick to make."""

from __future__ import annotations

from typing import Any

import numpy as np

from taille import CompiledModel, _native


def echo(width: int = 3, *, outputs: int = 1, batch: int | str = "batch", metadata: dict[str, Any] | None = None):
    """A model that gives back its input, (batch, width), as each of its outputs."""
    g = _native.Graph()
    x = g.add_input("x", "float32", [batch, width])
    for i in range(outputs):
        w = g.add_constant(f"w{i}", np.eye(width, dtype=np.float32))
        g.add_output(f"y{i}", g.add_node("linear", [x, w], {}, f"echo{i}"))
    g.output_structure = "single" if outputs == 1 else "tuple"
    return CompiledModel(_native.optimize(g)[0], metadata or {"name": "echo"}, threads=1)


def wide(inputs: int, width: int, *, threads: int = 1, seed: int = 0):
    """A model of two linear layers with 4 * width * (inputs + 1) bytes of seeded weights."""
    rng = np.random.default_rng(seed)
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", inputs])
    w = g.add_constant("w", rng.standard_normal((width, inputs), np.float32))
    y = g.add_node("linear", [x, w], {}, "wide")
    g.add_output("y", g.add_node("linear", [y, g.add_constant("v", np.ones((1, width), np.float32))], {}, "sum"))
    return CompiledModel(_native.optimize(g)[0], {"name": "wide"}, threads=threads)


def scaled(factor: float, width: int = 3):
    """A model that gives back its input, (batch, width), times a factor."""
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", width])
    w = g.add_constant("w", np.eye(width, dtype=np.float32) * np.float32(factor))
    g.add_output("y", g.add_node("linear", [x, w], {}, "scale"))
    return CompiledModel(_native.optimize(g)[0], {"name": "scaled"}, threads=1)


def kinds(width: int = 4):
    """A model of several dtypes: ids (int64) give rows of a table of 5 x width, flags (bool) their opposite."""
    g = _native.Graph()
    ids = g.add_input("ids", "int64", ["batch", "sequence"])
    flags = g.add_input("flags", "bool", ["batch", 2])
    table = g.add_constant("table", np.arange(5 * width, dtype=np.float32).reshape(5, width))
    g.add_output("rows", g.add_node("embedding", [table, ids], {}, "rows"))
    g.add_output("opposite", g.add_node("logical_not", [flags], {}, "opposite"))
    g.output_structure = "dict"
    return CompiledModel(_native.optimize(g)[0], {"name": "kinds"}, threads=1)
