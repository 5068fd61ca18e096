"""Kernels that look at one row or one element at a time: normalisation, attention, activations; all read float32."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from taille.arrays import Array
from taille.kernels.engine import Quant, check_array, run_op

__all__ = [
    "attention", "erf", "exp", "gelu", "hardsigmoid", "hardswish", "layer_norm", "relu", "rms_norm", "sigmoid", "silu",
    "softmax", "tanh",
]  # fmt: skip


def softmax(x: Array, *, axis: int = -1, threads: int | None = 1, out: Array | None = None) -> Array:
    """exp(x - max(x)) / sum(exp(x - max(x))) along `axis`; x float32 of any shape with that axis."""
    check_array("x", x, "float32")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}; x has shape {x.shape}")
    return run_op("softmax", {"x": x}, [names(x)], {"axis": axis}, threads, out)


def layer_norm(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    *,
    epsilon: float = 1e-5,
    out_quant: Quant | None = None,
    threads: int | None = 1,
    out: Array | None = None,
) -> Array:
    """(x - mean) / sqrt(variance + epsilon) * gamma + beta over the last dimension.

    Args:
        x: float32 [.., n].
        gamma: float32 [n], or None for ones.
        beta: float32 [n], or None for zeros; only with gamma.
        epsilon: added to the variance (that of the population: divided by n).
        out_quant: (scale, zero point) of a uint8 output, which is `quantize` of the float32 one.
        threads: how many; None: all that are granted.
        out: float32 (uint8 with out_quant) like x.
    """
    if beta is not None and gamma is None:
        raise ValueError("beta is given without gamma")
    return norm("layer_norm", x, {"gamma": gamma, "beta": beta}, epsilon, out_quant, threads, out)


def rms_norm(
    x: Array,
    gamma: Array | None = None,
    *,
    epsilon: float = 1e-5,
    out_quant: Quant | None = None,
    threads: int | None = 1,
    out: Array | None = None,
) -> Array:
    """X / sqrt(mean(x^2) + epsilon) * gamma over the last dimension (Zhang and Sennrich 2019, arXiv:1910.07467).

    Args:
        x: float32 [.., n].
        gamma: float32 [n], or None for ones.
        epsilon: added to the mean square.
        out_quant: (scale, zero point) of a uint8 output, which is `quantize` of the float32 one.
        threads: how many; None: all that are granted.
        out: float32 (uint8 with out_quant) like x.
    """
    return norm("rms_norm", x, {"gamma": gamma}, epsilon, out_quant, threads, out)


def norm(
    op: str,
    x: Array,
    vectors: Mapping[str, Array | None],
    epsilon: float,
    out_quant: Quant | None,
    threads: int | None,
    out: Array | None,
) -> Array:
    """A normalisation over the last dimension, with those of the vectors that are given."""
    check_array("x", x, "float32")
    if x.ndim == 0:
        raise ValueError("x has shape (); wanted at least 1 dimension")
    arrays, shapes = {"x": x}, [names(x)]
    for name, vector in vectors.items():
        if vector is not None:
            arrays[name] = check_array(name, vector, "float32", 1)
            shapes.append(names(x)[-1:])
    attributes = {"axes": 1, "epsilon": float(epsilon), "dtype": "float32" if out_quant is None else "uint8"}
    return run_op(op, arrays, shapes, attributes, threads, out, out_quant)


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    mask: Array | None = None,
    scale: float | None = None,
    causal: bool = False,
    threads: int | None = 1,
    out: Array | None = None,
) -> Array:
    """softmax(q k^T * scale + mask) v, per head.

    Args:
        q: float32 [.., S, D].
        k: float32 [.., T, D], of q's leading dimensions.
        v: float32 [.., T, E], of q's leading dimensions.
        mask: float32, added to the scores, or bool, False where a key is hidden; it broadcasts to [.., S, T].
        scale: None: 1 / sqrt(D).
        causal: query i sees the keys 0 .. i only.
        threads: how many; None: all that are granted.
        out: float32 [.., S, E].
    """
    for name, array in (("q", q), ("k", k), ("v", v)):
        check_array(name, array, "float32")
        if array.ndim != q.ndim or array.ndim < 2:
            raise ValueError(f"{name} has shape {array.shape}; wanted [.., length, size] of as many dimensions as q")
    lead = [f"b{i}" for i in range(q.ndim - 2)]
    arrays = {"q": q, "k": k, "v": v}
    shapes: list[list[int | str]] = [[*lead, "S", "D"], [*lead, "T", "D"], [*lead, "T", "E"]]
    if mask is not None:
        arrays["mask"] = check_array("mask", mask)
        full = [*lead, "S", "T"]
        if mask.dtype.name not in ("float32", "bool") or mask.ndim > len(full):
            raise TypeError(f"mask is {mask.dtype} {mask.shape}; wanted float32 or bool that broadcasts to [.., S, T]")
        shapes.append([1 if n == 1 else full[len(full) - mask.ndim + i] for i, n in enumerate(mask.shape)])
    attributes = {"scale": float(scale if scale is not None else 1 / math.sqrt(max(1, q.shape[-1]))), "causal": causal}
    return run_op("sdpa", arrays, shapes, attributes, threads, out)


def gelu(x: Array, *, approximate: str = "none", threads: int | None = 1, out: Array | None = None) -> Array:
    """Gaussian error linear unit: x * (1 + erf(x / sqrt(2))) / 2; approximate="tanh" is its tanh form, as in torch."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}; wanted 'none' or 'tanh'")
    return unary("gelu" if approximate == "none" else "gelu_tanh", x, threads, out)


def relu(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """The positive part: max(x, 0)."""
    return unary("clamp", x, threads, out, lo=0.0)


def sigmoid(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """1 / (1 + exp(-x))."""
    return unary("sigmoid", x, threads, out)


def silu(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """Sigmoid linear unit: x / (1 + exp(-x))."""
    return unary("silu", x, threads, out)


def tanh(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """The hyperbolic tangent of x."""
    return unary("tanh", x, threads, out)


def erf(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """The error function of x."""
    return unary("erf", x, threads, out)


def exp(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """The exponential function of x."""
    return unary("exp", x, threads, out)


def hardswish(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """The piecewise form of silu: x * min(max(x + 3, 0), 6) / 6."""
    return unary("hardswish", x, threads, out)


def hardsigmoid(x: Array, *, threads: int | None = 1, out: Array | None = None) -> Array:
    """The piecewise form of sigmoid: min(max(x + 3, 0), 6) / 6."""
    return unary("hardsigmoid", x, threads, out)


def unary(op: str, x: Array, threads: int | None, out: Array | None, **attributes: Any) -> Array:
    """One function of every element of a float32 array."""
    check_array("x", x, "float32")
    return run_op(op, {"x": x}, [names(x)], attributes, threads, out)


def names(x: Array) -> list[int | str]:
    """A name for each dimension."""
    return [f"d{i}" for i in range(x.ndim)]
