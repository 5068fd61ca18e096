"""Element-wise ops: arithmetic, activations, comparisons, logic, casts."""

from __future__ import annotations

import math
from typing import Any

import torch

from taille.capture.builder import DTYPES, Builder, Call, fake, op
from taille.capture.symbols import Unsupported

UNARY = {
    "exp": "exp", "log": "log", "sqrt": "sqrt", "rsqrt": "rsqrt", "reciprocal": "reciprocal", "tanh": "tanh",
    "sigmoid": "sigmoid", "silu": "silu", "erf": "erf", "hardswish": "hardswish", "hardsigmoid": "hardsigmoid",
    "abs": "abs",
}  # fmt: skip


def unary(b: Builder, c: Call) -> int:
    """A function of one float tensor."""
    return b.emit(UNARY[str(c.node.target).split(".")[1].rstrip("_")], [b.value(c["self"], "float32")])


op(*(f"aten.{name}.default" for name in UNARY))(unary)


@op("aten.neg.default")
def neg(b: Builder, c: Call) -> int:
    if DTYPES[c.out.dtype] == "int64":
        return b.emit("sub", [b.value(0, "int64"), b.value(c["self"])])
    return b.emit("neg", [b.value(c["self"])])


@op("aten.gelu.default")
def gelu(b: Builder, c: Call) -> int:
    return b.emit("gelu_tanh" if c["approximate"] == "tanh" else "gelu", [b.value(c["self"])])


def clamped(b: Builder, x: int, lo: Any, hi: Any) -> int:
    """`x` clamped between two numbers (None: no bound)."""
    if b.dtype(x) == "float32":
        bounds = {"lo": -math.inf if lo is None else float(lo), "hi": math.inf if hi is None else float(hi)}
        return b.emit("clamp", [x], bounds)
    for bound, compare in ((lo, "lt"), (hi, "gt")):
        if bound is not None:
            limit = b.value(int(bound), "int64")
            x = b.emit("where", [b.emit(compare, [x, limit], suffix=compare), limit, x])
    return x


@op("aten.relu.default")
def relu(b: Builder, c: Call) -> int:
    return clamped(b, b.value(c["self"]), 0, None)


@op("aten.relu6.default")
def relu6(b: Builder, c: Call) -> int:
    return clamped(b, b.value(c["self"]), 0, 6)


@op("aten.hardtanh.default")
def hardtanh(b: Builder, c: Call) -> int:
    return clamped(b, b.value(c["self"]), c["min_val"], c["max_val"])


@op("aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default")
def clamp(b: Builder, c: Call) -> int:
    return clamped(b, b.value(c["self"], DTYPES[c.out.dtype]), c.get("min"), c.get("max"))


@op("aten.clamp.Tensor", "aten.clamp_min.Tensor", "aten.clamp_max.Tensor")
def clamp_tensor(b: Builder, c: Call) -> int:
    x = b.value(c["self"], "float32")
    if c.get("min") is not None:
        x = b.emit("maximum", [x, b.value(c["min"], "float32")])
    if c.get("max") is not None:
        x = b.emit("minimum", [x, b.value(c["max"], "float32")])
    return x


@op("aten.leaky_relu.default")
def leaky_relu(b: Builder, c: Call) -> int:
    x = b.value(c["self"])
    positive = b.emit("gt", [x, b.value(0.0)], suffix="gt")
    return b.emit("where", [positive, x, b.emit("mul", [x, b.value(float(c["negative_slope"]))], suffix="mul")])


def operands(b: Builder, c: Call, dtype: str) -> tuple[int, int]:
    """Both operands of a binary op in one dtype."""
    return b.value(c["self"], dtype), b.value(c["other"], dtype)


def arithmetic_dtype(c: Call, name: str) -> str:
    """The dtype to compute in: that of the result, which must not be bool."""
    dtype = DTYPES[c.out.dtype]
    if dtype == "bool":
        raise Unsupported(f"{name} of bool tensors")
    return dtype


@op("aten.add.Tensor", "aten.add.Scalar", "aten.sub.Tensor", "aten.sub.Scalar", "aten.rsub.Tensor", "aten.rsub.Scalar")
def add_sub(b: Builder, c: Call) -> int:
    name = str(c.node.target).split(".")[1].rstrip("_")
    if name == "add" and DTYPES[c.out.dtype] == "bool":
        return b.emit("logical_or", operands(b, c, "bool"))
    dtype = arithmetic_dtype(c, name)
    x, y = operands(b, c, dtype)
    if name == "rsub":
        x, y = y, x
    alpha = c.get("alpha", 1)
    if alpha != 1:
        scaled = b.value(alpha, dtype)
        if name == "rsub":
            x, y = x, b.emit("mul", [y, scaled], suffix="mul")
        else:
            y = b.emit("mul", [y, scaled], suffix="mul")
    return b.emit("add" if name == "add" else "sub", [x, y])


@op("aten.mul.Tensor", "aten.mul.Scalar")
def mul(b: Builder, c: Call) -> int:
    if DTYPES[c.out.dtype] == "bool":
        return b.emit("logical_and", operands(b, c, "bool"))
    return b.emit("mul", operands(b, c, DTYPES[c.out.dtype]))


@op("aten.div.Tensor", "aten.div.Scalar", "aten.true_divide.Tensor")
def div(b: Builder, c: Call) -> int:
    return b.emit("div", operands(b, c, "float32"))


@op("aten.minimum.default", "aten.maximum.default", "aten.min.other", "aten.max.other")
def extremum(b: Builder, c: Call) -> int:
    smaller = ".min" in str(c.node.target)
    if DTYPES[c.out.dtype] == "float32":
        return b.emit("minimum" if smaller else "maximum", operands(b, c, "float32"))
    x, y = operands(b, c, arithmetic_dtype(c, "minimum"))
    return b.emit("where", [b.emit("lt" if smaller else "gt", [x, y], suffix="compare"), x, y])


@op("aten.pow.Tensor_Scalar", "aten.pow.Tensor_Tensor", "aten.pow.Scalar", "aten.square.default")
def power(b: Builder, c: Call) -> int:
    exponent = 2 if "square" in str(c.node.target) else c["exponent"]
    if exponent in (2, 3) and DTYPES[c.out.dtype] == "int64":
        x = b.value(c["self"])
        square = b.emit("mul", [x, x])
        return square if exponent == 2 else b.emit("mul", [square, x])
    if DTYPES[c.out.dtype] != "float32":
        raise Unsupported("powers of int64 tensors")
    x = b.value(c["self"], "float32")
    if isinstance(exponent, (int, float)):
        if exponent == 1:
            return x
        if exponent in (2, 3):
            square = b.emit("mul", [x, x])
            return square if exponent == 2 else b.emit("mul", [square, x])
        if exponent in (0.5, -0.5, -1):
            return b.emit({0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}[exponent], [x])
    return b.emit("pow", [x, b.value(exponent, "float32")])


def common_dtype(c: Call) -> str:
    """The dtype in which torch compares the operands."""
    pair = [fake(c["self"]), fake(c["other"])]
    if all(isinstance(p, (torch.Tensor, bool, int, float)) for p in pair):
        return DTYPES.get(torch.result_type(*pair), "float32")
    return "int64"


@op(*(f"aten.{name}.{kind}" for name in ("eq", "ne", "lt", "le", "gt", "ge") for kind in ("Tensor", "Scalar")))
def compare(b: Builder, c: Call) -> int:
    return b.emit(str(c.node.target).split(".")[1].rstrip("_"), operands(b, c, common_dtype(c)))


@op("aten.logical_and.default", "aten.__and__.Tensor", "aten.__and__.Scalar", "aten.bitwise_and.Tensor",
    "aten.bitwise_and.Scalar", "aten.logical_or.default", "aten.__or__.Tensor", "aten.__or__.Scalar",
    "aten.bitwise_or.Tensor", "aten.bitwise_or.Scalar")  # fmt: skip
def logical(b: Builder, c: Call) -> int:
    if DTYPES[c.out.dtype] != "bool":
        raise Unsupported("bit operations on integers")
    return b.emit("logical_and" if "and" in str(c.node.target) else "logical_or", operands(b, c, "bool"))


@op("aten.logical_not.default", "aten.bitwise_not.default", "aten.__invert__.default")
def logical_not(b: Builder, c: Call) -> int:
    if DTYPES[c.out.dtype] != "bool":
        raise Unsupported("bit operations on integers")
    return b.emit("logical_not", [b.value(c["self"], "bool")])


def choose(b: Builder, condition: int, yes: Any, no: Any, dtype: str) -> int:
    """`yes` where the condition holds, else `no`; both may be numbers."""
    if dtype != "bool":
        return b.emit("where", [condition, b.value(yes, dtype), b.value(no, dtype)])
    inverse = b.emit("logical_not", [condition], suffix="not")
    first = b.emit("logical_and", [condition, b.value(yes, dtype)], suffix="yes")
    second = b.emit("logical_and", [inverse, b.value(no, dtype)], suffix="no")
    return b.emit("logical_or", [first, second])


@op("aten.where.self", "aten.where.ScalarSelf", "aten.where.ScalarOther", "aten.where.Scalar")
def where(b: Builder, c: Call) -> int:
    return choose(b, b.value(c["condition"], "bool"), c["self"], c["other"], DTYPES[c.out.dtype])


@op("aten.masked_fill.Scalar", "aten.masked_fill.Tensor")
def masked_fill(b: Builder, c: Call) -> int:
    return choose(b, b.value(c["mask"], "bool"), c["value"], c["self"], DTYPES[c.out.dtype])


@op("aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten.to.other", "aten._to_copy.default",
    "aten.type_as.default")  # fmt: skip
def to(b: Builder, c: Call) -> int:
    return b.value(c["self"], DTYPES[c.out.dtype])


@op("aten.contiguous.default", "aten.clone.default", "aten.alias.default", "aten.detach.default",
    "aten.positive.default", "aten.lift_fresh.default", "aten.lift_fresh_copy.default", "aten.resolve_conj.default",
    "aten.resolve_neg.default")  # fmt: skip
def identity(b: Builder, c: Call) -> int:
    return b.value(c["self"])


@op("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default")
def dropout(b: Builder, c: Call) -> int:
    if c["train"] and c["p"] != 0:
        raise Unsupported("dropout that stays on in eval mode")
    return b.value(c["input"] if "input" in c else c["self"])  # the in-place form has another schema
