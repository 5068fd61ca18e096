"""Ops that move, select or join data."""

from __future__ import annotations

import operator
from typing import Any

import sympy
import torch

from taille.capture.builder import DTYPES, Builder, Call, fake, op
from taille.capture.symbols import Unsupported, dim, expression


@op("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.view_as.default",
    "aten.reshape_as.default", "aten.flatten.using_ints", "aten.ravel.default", "aten.unflatten.int",
    "aten.unsqueeze.default", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")  # fmt: skip
def reshape(b: Builder, c: Call) -> int:
    return b.reshape(b.value(c["self"]), c.out.shape)


def permuted(b: Builder, value: int, axes: list[int], suffix: str = "") -> int:
    """`value` with its axes in another order; itself where nothing moves."""
    return value if axes == sorted(axes) else b.emit("permute", [value], {"axes": axes}, suffix)


@op("aten.permute.default")
def permute(b: Builder, c: Call) -> int:
    rank = fake(c["self"]).dim()
    return permuted(b, b.value(c["self"]), [d % rank for d in c["dims"]])


@op("aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default", "aten.t.default", "aten.numpy_T.default",
    "aten.mT.default")  # fmt: skip
def transpose(b: Builder, c: Call) -> int:
    rank = fake(c["self"]).dim()
    axes = list(range(rank))
    if "numpy_T" in str(c.node.target):
        axes.reverse()
    elif rank > 1:
        first = next((c[n] for n in ("dim0", "axis0") if c.get(n) is not None), rank - 2) % rank
        second = next((c[n] for n in ("dim1", "axis1") if c.get(n) is not None), rank - 1) % rank
        axes[first], axes[second] = axes[second], axes[first]
    return permuted(b, b.value(c["self"]), axes)


@op("aten.movedim.int", "aten.movedim.intlist")
def movedim(b: Builder, c: Call) -> int:
    rank = fake(c["self"]).dim()
    source, destination = ([d % rank for d in ([v] if isinstance(v, int) else v)]
                           for v in (c["source"], c["destination"]))  # fmt: skip
    placed = dict(zip(destination, source, strict=True))
    rest = iter(a for a in range(rank) if a not in source)
    return permuted(b, b.value(c["self"]), [placed[i] if i in placed else next(rest) for i in range(rank)])


def expanded(b: Builder, value: int, shape: Any, suffix: str = "") -> int:
    """`value` broadcast to a shape; itself where it has that shape already."""
    dims = b.dims(shape)
    if list(b.graph.value(value)[2]) == dims:
        return value
    return b.emit("expand", [value], {"shape": dims}, suffix)


@op("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default")
def expand(b: Builder, c: Call) -> int:
    return expanded(b, b.value(c["self"]), c.out.shape)


def tiled(b: Builder, c: Call, between: list[Any], widened: list[Any]) -> int:
    """Repeat by way of extra axes of size 1: reshape, expand, reshape."""
    x = b.reshape(b.value(c["self"]), between, "split")
    return b.reshape(expanded(b, x, widened, "expand"), c.out.shape)


@op("aten.repeat.default", "aten.tile.default")
def repeat(b: Builder, c: Call) -> int:
    times = [b.integer(r, "a repetition") if not isinstance(r, torch.fx.Node) else fake(r)
             for r in c.get("repeats") or c["dims"]]  # fmt: skip
    shape = list(fake(c["self"]).shape)
    times = [1] * (len(shape) - len(times)) + times
    shape = [1] * (len(times) - len(shape)) + shape
    between = [d for s in shape for d in (1, s)]
    return tiled(b, c, between, [d for r, s in zip(times, shape, strict=True) for d in (r, s)])


@op("aten.repeat_interleave.self_int")
def repeat_interleave(b: Builder, c: Call) -> int:
    shape, times = list(fake(c["self"]).shape), b.integer(c["repeats"], "a repetition")
    if c["dim"] is None:
        raise Unsupported("repeat_interleave without dim")
    axis = c["dim"] % len(shape)
    return tiled(b, c, [*shape[: axis + 1], 1, *shape[axis + 1 :]], [*shape[: axis + 1], times, *shape[axis + 1 :]])


def sliced(b: Builder, value: int, axis: int, start: Any, length: Any, *, step: int = 1, suffix: str = "") -> int:
    """`length` entries of an axis from `start` on; sizes may be symbolic."""
    names = b.exported.symbols
    first, count = dim(start, names), dim(length, names)
    if step == 1 and first == 0 and b.graph.value(value)[2][axis] == count:
        return value
    attrs = {"axis": axis, "start": [first], "length": [count], "step": step}
    return b.emit("slice", [value], attrs, suffix)


def from_start(start: Any, extent: Any) -> sympy.Expr:
    """A start or index of Python (negative from the end, clipped) as an expression from the beginning."""
    size, expr = expression(extent), sympy.Integer(0) if start is None else expression(start)
    if not expr.is_Integer:
        return expr  # torch.export has guarded that it lies inside
    if expr < 0:
        expr = size + expr
    if expr.is_Integer and size.is_Integer:
        return sympy.Integer(min(max(int(expr), 0), int(size)))
    return expr


@op("aten.slice.Tensor")
def slice_(b: Builder, c: Call) -> int:
    x = fake(c["self"])
    axis = c["dim"] % x.dim()
    length = c.out.shape[axis]
    start = from_start(c["start"], x.shape[axis])
    return sliced(b, b.value(c["self"]), axis, start, length, step=b.integer(c["step"], "a step"))


@op("aten.narrow.default")
def narrow(b: Builder, c: Call) -> int:
    x = fake(c["self"])
    axis = c["dim"] % x.dim()
    return sliced(b, b.value(c["self"]), axis, from_start(c["start"], x.shape[axis]), c.out.shape[axis])


@op("aten.select.int")
def select(b: Builder, c: Call) -> int:
    x = fake(c["self"])
    axis = c["dim"] % x.dim()
    start = from_start(c["index"], x.shape[axis])
    return b.reshape(sliced(b, b.value(c["self"]), axis, start, 1, suffix="slice"), c.out.shape)


@op("aten.split.Tensor", "aten.split_with_sizes.default", "aten.chunk.default", "aten.split.sizes",
    "aten.tensor_split.sections", "aten.tensor_split.indices", "aten.unbind.int")  # fmt: skip
def split(b: Builder, c: Call) -> list[int]:
    x = b.value(c["self"])
    axis = c["dim"] % fake(c["self"]).dim()
    unbind = "unbind" in str(c.node.target)
    used = {user.args[1] for user in c.node.users if user.target is operator.getitem}
    parts, start = [], sympy.Integer(0)
    for i, out in enumerate(c.out):
        length = 1 if unbind else out.shape[axis]
        part = -1
        if i in used or not used:
            part = sliced(b, x, axis, start, length)
            part = b.reshape(part, out.shape, "part") if unbind else part
        parts.append(part)
        start = start + expression(length)
    return parts


@op("aten.gather.default")
def gather(b: Builder, c: Call) -> int:
    x, index = fake(c["self"]), fake(c["index"])
    axis = c["dim"] % x.dim()
    value = b.value(c["self"])
    for a in range(x.dim()):
        if a != axis and expression(x.shape[a]) != expression(index.shape[a]):
            value = sliced(b, value, a, 0, index.shape[a], suffix="slice")
    return b.emit("gather", [value, b.value(c["index"], "int64")], {"axis": axis})


def indexed(b: Builder, value: int, rank: int, axis: int, index: Any) -> int:
    """`value` indexed along one axis by an int64 tensor of any rank; its dimensions take the axis' place."""
    front = [axis, *(a for a in range(rank) if a != axis)]
    picked = b.emit("index", [permuted(b, value, front, "front"), b.value(index, "int64")])
    size = fake(index).dim()
    back = [*range(size, size + axis), *range(size), *range(size + axis, size + rank - 1)]
    return permuted(b, picked, back, "back")


@op("aten.index_select.default")
def index_select(b: Builder, c: Call) -> int:
    rank = fake(c["self"]).dim()
    return indexed(b, b.value(c["self"]), rank, c["dim"] % rank, c["index"])


@op("aten.index.Tensor")
def index(b: Builder, c: Call) -> int:
    indices = list(c["indices"])
    while indices and indices[-1] is None:
        indices.pop()
    given = [i for i in indices if i is not None]
    if any(fake(i).dtype == torch.bool for i in given):
        raise Unsupported("a boolean index, whose result has a size that depends on data")
    x = b.value(c["self"])
    if len(given) == len(indices):
        return b.emit("index", [x, *(b.value(i, "int64") for i in indices)])
    if len(given) == 1:
        return indexed(b, x, fake(c["self"]).dim(), len(indices) - 1, given[0])
    raise Unsupported("index tensors that do not stand for the leading dimensions")


@op("aten.cat.default", "aten.concat.default")
def cat(b: Builder, c: Call) -> int:
    dtype = DTYPES[c.out.dtype]
    parts = [t for t in c["tensors"] if fake(t).dim() == c.out.dim()]  # torch skips empty 1-D tensors
    values = [b.value(t, dtype) for t in parts]
    return values[0] if len(values) == 1 else b.emit("concat", values, {"axis": c["dim"] % c.out.dim()})


@op("aten.stack.default")
def stack(b: Builder, c: Call) -> int:
    axis = c["dim"] % c.out.dim()
    shape = [*c.out.shape[:axis], 1, *c.out.shape[axis + 1 :]]
    values = [b.reshape(b.value(t, DTYPES[c.out.dtype]), shape, "part") for t in c["tensors"]]
    return values[0] if len(values) == 1 else b.emit("concat", values, {"axis": axis})


@op("aten.constant_pad_nd.default", "aten.pad.default")
def pad(b: Builder, c: Call) -> int:
    if c.get("mode", "constant") != "constant":
        raise Unsupported(f"padding of mode '{c['mode']}'")
    x = fake(c["self"])
    value = b.value(c["self"], "float32")
    amounts = [b.integer(p, "a padding") for p in c["pad"]]
    before, after = [0] * x.dim(), [0] * x.dim()
    for i in range(len(amounts) // 2):
        axis = x.dim() - 1 - i
        before[axis], after[axis] = amounts[2 * i], amounts[2 * i + 1]
        if before[axis] < 0 or after[axis] < 0:  # negative padding crops
            start, rest = max(0, -before[axis]), x.shape[axis] + min(0, before[axis]) + min(0, after[axis])
            value = sliced(b, value, axis, start, rest, suffix="crop")
            before[axis], after[axis] = max(0, before[axis]), max(0, after[axis])
    if not any(before + after):
        return value
    fill = float(c.get("value") or 0.0)
    return b.emit("pad", [value], {"before": before, "after": after, "value": fill})
