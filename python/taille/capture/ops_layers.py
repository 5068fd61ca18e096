"""Layers: linear, convolution, normalisation, pooling, reductions, embedding, attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from taille.capture.builder import Builder, Call, fake, op
from taille.capture.symbols import Unsupported, expression


@op("aten.linear.default")
def linear(b: Builder, c: Call) -> int:
    x, weight, bias = b.value(c["input"]), b.static(c["weight"]), c["bias"]
    if weight is not None and weight.dim() == 2 and (bias is None or b.static(bias) is not None):
        rank = fake(c["input"]).dim()
        if rank == 1:
            x = b.reshape(x, (1, *fake(c["input"]).shape), "row")
        y = b.emit("linear", [x, b.value(c["weight"]), b.optional(bias)])
        return b.reshape(y, c.out.shape, "vector") if rank == 1 else y
    if fake(c["weight"]).dim() != 2:
        raise Unsupported("a weight that is not a matrix")
    transposed = b.emit("permute", [b.value(c["weight"])], {"axes": [1, 0]}, "transpose")
    y = b.emit("matmul", [x, transposed])
    return y if bias is None else b.emit("add", [y, b.value(bias)])


@op("aten.matmul.default", "aten.bmm.default", "aten.mm.default", "aten.mv.default", "aten.dot.default")
def matmul(b: Builder, c: Call) -> int:
    left, right = c["self"], next(c[n] for n in ("other", "mat2", "vec", "tensor") if c.get(n) is not None)
    x, y = b.value(left), b.value(right)
    if fake(left).dim() == 1:
        x = b.reshape(x, (1, *fake(left).shape), "row")
    if fake(right).dim() == 1:
        y = b.reshape(y, (*fake(right).shape, 1), "column")
    z = b.emit("matmul", [x, y])
    return b.reshape(z, c.out.shape, "vector") if 1 in (fake(left).dim(), fake(right).dim()) else z


@op("aten.addmm.default", "aten.baddbmm.default")
def addmm(b: Builder, c: Call) -> int:
    matrices = [c[n] for n in ("mat1", "mat2", "batch1", "batch2") if c.get(n) is not None]
    z = b.emit("matmul", [b.value(m) for m in matrices])
    if c["alpha"] != 1:
        z = b.emit("mul", [z, b.value(float(c["alpha"]))], suffix="alpha")
    if c["beta"] == 0:
        return z
    bias = b.value(c["self"])
    if c["beta"] != 1:
        bias = b.emit("mul", [bias, b.value(float(c["beta"]))], suffix="beta")
    return b.emit("add", [z, bias])


def spread(values: Any, count: int) -> list[int]:
    """A list of `count` integers: one given for all axes, or one per axis."""
    given = [values] if isinstance(values, int) else list(values)
    return given * count if len(given) == 1 else given


def image(b: Builder, value: int, shape: Any, rank: int) -> int:
    """A 1-D signal [N, C, L] as an image [N, C, 1, L]; images as they are."""
    if len(shape) != rank + 2:
        raise Unsupported(f"an input without the batch dimension ({len(shape)} dimensions)")
    return b.reshape(value, (*shape[:2], 1, *shape[2:]), "image") if rank == 1 else value


def signal(b: Builder, value: int, c: Call, rank: int) -> int:
    return b.reshape(value, c.out.shape, "signal") if rank == 1 else value


@op("aten.conv2d.default", "aten.conv2d.padding", "aten.conv1d.default", "aten.conv1d.padding")
def convolution(b: Builder, c: Call) -> int:
    rank = 1 if "conv1d" in str(c.node.target) else 2
    weight, bias = b.static(c["weight"]), c["bias"]
    if weight is None or (bias is not None and b.static(bias) is None):
        raise Unsupported("weights that depend on the inputs")
    stride, dilation = spread(c["stride"], rank), spread(c["dilation"], rank)
    if isinstance(c["padding"], str):
        total = [d * (k - 1) if c["padding"] == "same" else 0 for d, k in zip(dilation, weight.shape[2:], strict=True)]
        before, after = [t // 2 for t in total], [t - t // 2 for t in total]
    else:
        before = after = spread(c["padding"], rank)
    w = b.value(c["weight"])
    if rank == 1:
        stride, dilation, before, after = [1, *stride], [1, *dilation], [0, *before], [0, *after]
        w = b.constant(weight.unsqueeze(2), "weight")
    attrs = {
        "stride": stride, "padding": [*before, *after], "dilation": dilation, "groups": c["groups"], "layout": "nchw",
    }  # fmt: skip
    x = image(b, b.value(c["input"]), fake(c["input"]).shape, rank)
    return signal(b, b.emit("conv2d", [x, w, b.optional(bias)], attrs), c, rank)


@op("aten.batch_norm.default")
def batch_norm(b: Builder, c: Call) -> int:
    if c["training"] or c["running_mean"] is None:
        raise Unsupported("statistics of the batch itself (no running statistics)")
    channels = fake(c["running_mean"]).shape[0]
    gamma = b.constant(torch.ones(channels), "gamma") if c["weight"] is None else b.value(c["weight"])
    beta = b.constant(torch.zeros(channels), "beta") if c["bias"] is None else b.value(c["bias"])
    inputs = [b.value(c["input"]), gamma, beta, b.value(c["running_mean"]), b.value(c["running_var"])]
    return b.emit("batch_norm", inputs, {"epsilon": float(c["eps"])})


def window(c: Call, rank: int, average: bool) -> dict[str, Any]:
    """Kernel, stride and padding of a pooling; ceil_mode becomes padding at the end where that is the same."""
    kernel = spread(c["kernel_size"], rank)
    stride = spread(c["stride"], rank) if c["stride"] else kernel
    before = spread(c["padding"], rank)
    dilation = [1] * rank if average else spread(c["dilation"], rank)
    after = list(before)
    if c["ceil_mode"]:
        x = fake(c["self"])
        for i in range(rank):
            extent, out = (expression(t.shape[i - rank]) for t in (x, c.out))
            if not (extent.is_Integer and out.is_Integer):
                raise Unsupported("ceil_mode over a dynamic size")
            reach = (int(out) - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1
            extra = max(0, reach - int(extent) - 2 * before[i])
            if extra and average and c["count_include_pad"] and not c["divisor_override"]:
                raise Unsupported("ceil_mode with count_include_pad")
            after[i] += extra
    if rank == 1:
        kernel, stride, before, after, dilation = [1, *kernel], [1, *stride], [0, *before], [0, *after], [1, *dilation]
    attrs = {"kernel": kernel, "stride": stride, "padding": [*before, *after], "layout": "nchw"}
    return attrs if average else {**attrs, "dilation": dilation}


@op("aten.max_pool2d.default", "aten.max_pool1d.default")
def max_pool(b: Builder, c: Call) -> int:
    rank = 1 if "pool1d" in str(c.node.target) else 2
    x = image(b, b.value(c["self"]), fake(c["self"]).shape, rank)
    return signal(b, b.emit("max_pool2d", [x], window(c, rank, average=False)), c, rank)


@op("aten.avg_pool2d.default", "aten.avg_pool1d.default")
def avg_pool(b: Builder, c: Call) -> int:
    rank = 1 if "pool1d" in str(c.node.target) else 2
    x = image(b, b.value(c["self"]), fake(c["self"]).shape, rank)
    attrs = window(c, rank, average=True)
    attrs |= {"count_include_pad": bool(c["count_include_pad"]), "divisor": int(c.get("divisor_override") or 0)}
    return signal(b, b.emit("avg_pool2d", [x], attrs), c, rank)


@op("aten.adaptive_avg_pool2d.default", "aten.adaptive_avg_pool1d.default")
def adaptive_avg_pool(b: Builder, c: Call) -> int:
    rank = 1 if "pool1d" in str(c.node.target) else 2
    size = [b.integer(s, "an output size") for s in c["output_size"]]
    x = image(b, b.value(c["self"]), fake(c["self"]).shape, rank)
    y = b.emit("adaptive_avg_pool2d", [x], {"output_size": [1, *size] if rank == 1 else size, "layout": "nchw"})
    return signal(b, y, c, rank)


def reduced_axes(c: Call, dims: Any) -> list[int]:
    """The axes a reduction runs over, non-negative and in order; all of them where none are given."""
    rank = fake(c["self"]).dim()
    given = [dims] if isinstance(dims, int) else list(dims or range(rank))
    return sorted({d % rank for d in given}) if rank else []


@op("aten.mean.dim", "aten.mean.default")
def mean(b: Builder, c: Call) -> int:
    axes = reduced_axes(c, c.get("dim"))
    x = b.value(c["self"], "float32")
    return b.emit("mean", [x], {"axes": axes, "keepdim": bool(c.get("keepdim", False))}) if axes else x


def summed(b: Builder, x: int, source: torch.Tensor, axes: list[int], out: Any) -> int:
    """A sum as a product with ones, since the reduced sizes may be dynamic."""
    rank = source.dim()
    kept = [a for a in range(rank) if a not in axes]
    order = kept + axes
    if order != list(range(rank)):
        x = b.emit("permute", [x], {"axes": order}, "sum.permute")
    count = math.prod([source.shape[a] for a in axes])
    x = b.reshape(x, [*(source.shape[a] for a in kept), 1, count], "sum.flatten")
    ones = b.emit("full", [], {"shape": b.dims([count, 1]), "value": 1.0, "dtype": "float32"}, "sum.ones")
    total = b.emit("matmul", [x, ones], suffix="sum")
    return b.reshape(total, out.shape, "sum.reshape")


@op("aten.sum.dim_IntList", "aten.sum.default")
def sum_(b: Builder, c: Call) -> int:
    axes = reduced_axes(c, c.get("dim"))
    check_counts(c)
    return summed(b, b.value(c["self"], "float32"), fake(c["self"]), axes, c.out)


def check_counts(c: Call) -> None:
    """Refuse sums of integers, which float32 holds exactly only below 2^24, other than counts of a mask."""
    node = c["self"]
    if fake(node).is_floating_point():
        return
    while isinstance(node, fx.Node) and node.meta["val"].dtype != torch.bool:
        if not str(node.target).startswith(("aten.to.", "aten._to_copy.", "aten.type_as.")):
            raise Unsupported("sums of integers other than counts of a mask")
        node = node.args[0]


@op("aten.cumsum.default")
def cumsum(b: Builder, c: Call) -> int:
    """A product with a triangle of ones, since the size may be dynamic."""
    check_counts(c)
    source, rank = fake(c["self"]), fake(c["self"]).dim()
    axis = c["dim"] % rank
    order = [*(a for a in range(rank) if a != axis), axis]
    back = [*range(axis), rank - 1, *range(axis, rank - 1)]
    (size,) = b.dims([source.shape[axis]])
    columns = b.emit("arange", [], {"length": [size]}, "columns")
    rows = b.emit("reshape", [columns], {"shape": [size, 1]}, "rows")
    ones = b.cast(b.emit("le", [rows, columns], suffix="triangle"), "float32")
    x = b.value(c["self"], "float32")
    if axis != rank - 1:
        x = b.emit("permute", [x], {"axes": order}, "front")
    x = b.reshape(x, [*(source.shape[a] for a in order[:-1]), 1, source.shape[axis]], "row")
    x = b.reshape(b.emit("matmul", [x, ones]), [source.shape[a] for a in order], "sums")
    return x if axis == rank - 1 else b.emit("permute", [x], {"axes": back}, "back")


@op("aten.linalg_vector_norm.default", "aten.norm.ScalarOpt_dim")
def vector_norm(b: Builder, c: Call) -> int:
    if (c.get("ord") if "linalg" in str(c.node.target) else c.get("p")) not in (2, 2.0, None):
        raise Unsupported("a norm other than the Euclidean")
    x = b.value(c["self"], "float32")
    squares = b.emit("mul", [x, x], suffix="square")
    return b.emit("sqrt", [summed(b, squares, fake(c["self"]), reduced_axes(c, c["dim"]), c.out)])


@op("aten.softmax.int", "aten._softmax.default")
def softmax(b: Builder, c: Call) -> int:
    return b.emit("softmax", [b.value(c["self"], "float32")], {"axis": c["dim"] % fake(c["self"]).dim()})


@op("aten.layer_norm.default")
def layer_norm(b: Builder, c: Call) -> int:
    inputs = [b.value(c["input"]), b.optional(c["weight"]), b.optional(c["bias"])]
    return b.emit("layer_norm", inputs, {"axes": len(c["normalized_shape"]), "epsilon": float(c["eps"])})


@op("aten.rms_norm.default")
def rms_norm(b: Builder, c: Call) -> int:
    epsilon = torch.finfo(torch.float32).eps if c["eps"] is None else float(c["eps"])
    inputs = [b.value(c["input"]), b.optional(c["weight"])]
    return b.emit("rms_norm", inputs, {"axes": len(c["normalized_shape"]), "epsilon": epsilon})


@op("aten.embedding.default")
def embedding(b: Builder, c: Call) -> int:
    return b.emit("embedding", [b.value(c["weight"]), b.value(c["indices"], "int64")])


@op("aten.scaled_dot_product_attention.default")
def attention(b: Builder, c: Call) -> int:
    if c["dropout_p"]:
        raise Unsupported("dropout that stays on in eval mode")
    if c.get("enable_gqa"):
        raise Unsupported("enable_gqa (keys shared by several heads)")
    depth = b.integer(fake(c["query"]).shape[-1], "a depth")
    scale = 1 / math.sqrt(depth) if c["scale"] is None else float(c["scale"])
    inputs = [b.value(c[n]) for n in ("query", "key", "value")] + [b.optional(c["attn_mask"])]
    return b.emit("sdpa", inputs, {"scale": scale, "causal": bool(c["is_causal"]), "heads_last": False})
