"""Between float32 and what is smaller: int8, uint8, float16, bfloat16; and the statistics that choose the scales."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from taille import _native
from taille.arrays import Array
from taille.kernels.engine import check_array
from taille.kernels.table import chosen

__all__ = [
    "Statistics", "dequantize", "lookup", "observe", "quantize", "quantize_per_channel", "to_bfloat16", "to_float16",
    "to_float32",
]  # fmt: skip

KERNELS = _native.kernels


def quantize_per_channel(w: Array, *, clipping: str = "none") -> tuple[Array, Array]:
    """Quantise weights as `quantize_model` does: q = round(clamp(w / scale, -127, 127)).

    Args:
        w: float32 [N, ..]; one scale per index of the first dimension.
        clipping: "none": scale[n] = max|w[n]| / 127; "mse", as `quantize_model` does by default: of 40 % to 100 % of
            that, the scale of least squared error, so that a few large weights are clipped and the others are finer.

    Returns:
        q int8 like w, in [-127, 127], rounded to nearest even; scale float32 [N] (1 where all of w[n] is 0).
    """
    check_array("w", w, "float32")
    if w.ndim < 2:
        raise ValueError(f"w has shape {w.shape}; wanted [channels, ..]")
    if not np.isfinite(w).all():
        raise ValueError("w holds a NaN or an infinity")
    q, scale, _ = _native.quantize_weight(np.ascontiguousarray(w), clipping)
    return q, scale


def quantize(x: Array, scale: float, zero_point: int, *, out: Array | None = None) -> Array:
    """float32 to uint8: round(clamp(x * (1 / scale) + zero_point, 0, 255)), to nearest even; a NaN gives 0.

    Args:
        x: float32 of any shape.
        scale: what a step stands for; above 0.
        zero_point: 0 .. 255, the byte that stands for 0.
        out: uint8 like x.
    """
    check_array("x", x, "float32")
    check_scale(scale, zero_point)
    inverse = float(np.float32(1) / np.float32(scale))
    contiguous = np.ascontiguousarray(x)
    return KERNELS.quantize(contiguous, inverse, zero_point, variant=chosen("quantize"), out=given(out, "uint8"))


def dequantize(q: Array, scale: float | Array, zero_point: int = 0, *, out: Array | None = None) -> Array:
    """(q - zero_point) * scale in float32.

    Args:
        q: uint8 of any shape with one scale; or int8 [N, ..] with a scale per channel (then zero_point is 0).
        scale: a number for uint8; float32 [N] for int8, as `quantize_per_channel` gives.
        zero_point: 0 .. 255.
        out: float32 like q.
    """
    check_array("q", q)
    if q.dtype == np.int8:
        check_array("scale", scale, "float32", 1)
        scales = np.asarray(scale)
        if zero_point != 0 or q.ndim < 1 or scales.shape != q.shape[:1]:
            raise ValueError(f"q is int8 {q.shape}; wanted scale of shape {q.shape[:1]} and zero_point 0")
        per_channel: Array = scales.reshape(-1, *[1] * (q.ndim - 1))
        result: Array = np.multiply(q, per_channel, out=given(out, "float32"), dtype=np.float32)
        return result
    check_array("q", q, "uint8")
    if not isinstance(scale, (int, float, np.floating)):
        raise TypeError(f"scale is {type(scale).__name__}; wanted a number for uint8")
    check_scale(float(scale), zero_point)
    return KERNELS.dequantize(
        np.ascontiguousarray(q), float(scale), zero_point, variant=chosen("dequantize"), out=given(out, "float32")
    )


def lookup(x: Array, table: Array, *, out: Array | None = None) -> Array:
    """table[x]: x uint8 of any shape, table uint8 [256], out uint8 like x."""
    check_array("x", x, "uint8")
    if check_array("table", table, "uint8", 1).shape != (256,):
        raise ValueError(f"table has shape {table.shape}; wanted (256,)")
    return KERNELS.lookup(
        np.ascontiguousarray(x), np.ascontiguousarray(table), variant=chosen("lookup"), out=given(out, "uint8")
    )


def to_float16(x: Array) -> Array:
    """float32 to float16, to nearest even; beyond 65504 (from 65520 on) infinity."""
    check_array("x", x, "float32")
    return KERNELS.narrow(np.ascontiguousarray(x), "float16", variant=chosen("narrow")).view(np.float16)


def to_bfloat16(x: Array) -> Array:
    """float32 to bfloat16, to nearest even. numpy has no such dtype: gives the bits, uint16."""
    check_array("x", x, "float32")
    return KERNELS.narrow(np.ascontiguousarray(x), "bfloat16", variant=chosen("narrow"))


def to_float32(x: Array, *, out: Array | None = None) -> Array:
    """float16, or bfloat16 as its bits in uint16, to float32; exact. out: float32 like x."""
    check_array("x", x)
    if x.dtype not in (np.float16, np.uint16):
        raise TypeError(f"x is {x.dtype}; wanted float16, or uint16 for bfloat16")
    kind = "float16" if x.dtype == np.float16 else "bfloat16"
    bits = np.ascontiguousarray(x).view(np.uint16)
    return KERNELS.widen(bits, kind, variant=chosen("widen"), out=given(out, "float32"))


@dataclass(frozen=True)
class Statistics:
    """What `observe` has seen.

    Attributes:
        minimum: of the finite values; infinity before there is one.   maximum: likewise.
        count: how many values.   bad: how many of them were NaN or infinite.
    """

    minimum: float = math.inf
    maximum: float = -math.inf
    count: int = 0
    bad: int = 0


def observe(x: Array, so_far: Statistics | None = None) -> Statistics:
    """Widen the statistics by a batch, as calibration does; `Statistics` does not grow with the data.

    Args:
        x: float32 of any shape.
        so_far: what earlier batches gave; None: this is the first.
    """
    check_array("x", x, "float32")
    s = so_far or Statistics()
    low, high, bad = KERNELS.observe(np.ascontiguousarray(x), s.minimum, s.maximum, s.bad, variant=chosen("observe"))
    return Statistics(low, high, s.count + x.size, bad)


def check_scale(scale: float, zero_point: int) -> None:
    """Raise a ValueError where these are no uint8 parameters."""
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale is {scale}; wanted a finite number above 0")
    if not 0 <= zero_point <= 255:
        raise ValueError(f"zero_point is {zero_point}; wanted 0 .. 255")


def given(out: Array | None, dtype: str) -> Array | None:
    """`out` where it is a C-contiguous array of that dtype, or None."""
    if out is not None and not check_array("out", out, dtype).flags.c_contiguous:
        raise ValueError("out is not C-contiguous")
    return out
