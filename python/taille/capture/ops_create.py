"""Ops that make tensors from sizes alone: arange, full and their relatives, triangles."""

from __future__ import annotations

from typing import Any

from taille.capture.builder import DTYPES, Builder, Call, fake, op
from taille.capture.symbols import Unsupported


def filled(b: Builder, c: Call, value: Any) -> int:
    """A tensor of the traced shape and dtype, full of one number."""
    if not isinstance(value, (bool, int, float)):
        raise Unsupported("a fill value that depends on data")
    attrs = {"shape": b.dims(c.out.shape), "value": float(value), "dtype": DTYPES[c.out.dtype]}
    return b.emit("full", [], attrs)


@op("aten.zeros.default", "aten.zeros_like.default", "aten.new_zeros.default", "aten.zero.default")
def zeros(b: Builder, c: Call) -> int:
    return filled(b, c, 0)


@op("aten.ones.default", "aten.ones_like.default", "aten.new_ones.default")
def ones(b: Builder, c: Call) -> int:
    return filled(b, c, 1)


@op("aten.full.default", "aten.full_like.default", "aten.new_full.default")
def full(b: Builder, c: Call) -> int:
    return filled(b, c, c["fill_value"])


@op("aten.fill.Scalar")
def fill(b: Builder, c: Call) -> int:
    return filled(b, c, c["value"])


@op("aten.arange.default", "aten.arange.start", "aten.arange.start_step")
def arange(b: Builder, c: Call) -> int:
    start, step = fake(c.get("start", 0)), fake(c.get("step", 1))
    length = b.dims(c.out.shape)
    whole = all(isinstance(v, int) or (isinstance(v, float) and v.is_integer()) for v in (start, step))
    if whole:
        counted = b.emit("arange", [], {"start": int(start), "step": int(step), "length": length})
        return b.cast(counted, DTYPES[c.out.dtype])
    if not isinstance(start, (int, float)) or not isinstance(step, (int, float)):
        raise Unsupported("an arange whose start or step is a dynamic size")
    counted = b.emit("arange", [], {"start": 0, "step": 1, "length": length}, "index")
    scaled = b.emit("mul", [b.cast(counted, "float32"), b.value(float(step))], suffix="mul")
    return b.emit("add", [scaled, b.value(float(start))])


@op("aten.tril.default", "aten.triu.default")
def triangle(b: Builder, c: Call) -> int:
    lower = "tril" in str(c.node.target)
    height, width = b.dims(c.out.shape[-2:])
    rows = b.emit("arange", [], {"start": int(c["diagonal"]), "step": 1, "length": [height]}, "rows")
    columns = b.emit("arange", [], {"start": 0, "step": 1, "length": [width]}, "columns")
    rows = b.emit("reshape", [rows], {"shape": [height, 1]}, "rows.reshape")
    kept = b.emit("le" if lower else "ge", [columns, rows], suffix="kept")
    x, dtype = b.value(c["self"]), DTYPES[c.out.dtype]
    if dtype == "bool":
        return b.emit("logical_and", [x, kept])
    return b.emit("where", [kept, x, b.value(0, dtype)])
