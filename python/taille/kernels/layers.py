"""Matrix products and convolutions on packed weights: float32, 16-bit or int8 weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from taille import _native
from taille.arrays import Array
from taille.compiled import thread_count
from taille.kernels.engine import Quant, check_array, run

__all__ = ["PackedWeights", "conv2d", "depthwise", "gemm_f32", "gemm_s8", "gemm_sparse", "pack_filter", "pack_weights"]

Pair = int | Sequence[int]
HALVES = ("float16", "bfloat16")


class PackedWeights:
    """Weights in the order the kernels want, with all that is fixed: bias, clamp, scales, window, threads.

    Made once by `pack_weights` or `pack_filter`; safe to use from several threads at once.

    Attributes:
        shape: of the weights as they were given.
        input_dtype, output_dtype: of the arrays that go in and come out.
    """

    def __init__(self, graph: _native.Graph, shape: tuple[int, ...], threads: int | None):
        """Pack the weights of a graph of one layer, from "x" to "out"."""
        self.shape = shape
        self.model = _native.Model(graph, thread_count(threads, 1))
        self.input_dtype, self.output_dtype = graph.inputs[0][1], graph.outputs[0][1]

    @property
    def kernel(self) -> str:
        """Which kernel they run on; of weights that lost blocks, how much is left and what that gains here."""
        return str(self.model.describe()[-1]["kernel"])

    def __repr__(self) -> str:
        return f"<PackedWeights {list(self.shape)}: {self.input_dtype} -> {self.output_dtype}>"


def pack_weights(
    w: Array,
    *,
    bias: Array | None = None,
    lo: float = -math.inf,
    hi: float = math.inf,
    store: str | None = None,
    scale: Array | None = None,
    x_quant: Quant | None = None,
    out_quant: Quant | None = None,
    threads: int | None = 1,
) -> PackedWeights:
    """Pack the weights of a matrix product for `gemm_f32` or `gemm_s8`.

    Args:
        w: float32 or float16 [N, K] for `gemm_f32`; int8 [N, K] in [-127, 127] for `gemm_s8`.
        bias: float32 [N], or None.
        lo: the least the result is clamped to.
        hi: the most.
        store: "float16" or "bfloat16" keeps float32 weights in 16 bits, rounded to nearest even.
        scale: float32 [N], with int8 weights: what a weight of 1 stands for in each channel.
        x_quant: (scale, zero point) of the uint8 input, with int8 weights.
        out_quant: (scale, zero point) of a uint8 output, with int8 weights; None: the output is float32.
        threads: how many the products use; None: all that are granted.
    """
    check_array("w", w, rank=2)
    graph, x = layer_graph(w, ["rows", w.shape[1]], x_quant)
    options = {"lo": float(lo), "hi": float(hi)}
    finish(graph, "linear", x, w, options, bias=bias, scale=scale, store=store, out_quant=out_quant)
    return PackedWeights(stored(graph, store), w.shape, threads)


def pack_filter(
    w: Array,
    *,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    lo: float = -math.inf,
    hi: float = math.inf,
    store: str | None = None,
    scale: Array | None = None,
    x_quant: Quant | None = None,
    out_quant: Quant | None = None,
    threads: int | None = 1,
) -> PackedWeights:
    """Pack the filter of a convolution for `conv2d`.

    Args:
        w: float32, float16 or int8 [O, kh, kw, I / groups].
        bias: float32 [O], or None.
        stride: a number, or (vertical, horizontal).
        padding: a number, (vertical, horizontal) or (top, left, bottom, right): zeros around the image.
        dilation: a number, or (vertical, horizontal).
        groups: input and output channels are split into so many; I for a depthwise convolution.
        lo: as for `pack_weights`.
        hi: as for `pack_weights`.
        store: as for `pack_weights`.
        scale: float32 [O], with int8 weights; as for `pack_weights`.
        x_quant: as for `pack_weights`.
        out_quant: as for `pack_weights`.
        threads: how many the convolutions use; None: all that are granted.
    """
    check_array("w", w, rank=4)
    graph, x = layer_graph(w, ["images", "height", "width", w.shape[3] * groups], x_quant)
    pads = pair("padding", padding, 4)
    options = {
        "stride": pair("stride", stride, 2), "dilation": pair("dilation", dilation, 2), "groups": groups,
        "padding": pads * 2 if len(pads) == 2 else pads, "layout": "nhwc", "lo": float(lo), "hi": float(hi),
    }  # fmt: skip
    finish(graph, "conv2d", x, w, options, bias=bias, scale=scale, store=store, out_quant=out_quant)
    return PackedWeights(stored(graph, store), w.shape, threads)


def gemm_f32(x: Array, w: Array | PackedWeights, *, out: Array | None = None) -> Array:
    """clamp(x w^T + bias): one float32 sum per output, over K in order, with fused multiply-adds.

    Args:
        x: float32 [.., K].
        w: float32 or float16 [N, K] (no bias, packed for this call), or what `pack_weights` gave.
        out: float32 [.., N].
    """
    packed = w if isinstance(w, PackedWeights) else pack_weights(w)
    return product("float32", x, packed, out)


def gemm_s8(x: Array, w: PackedWeights, *, out: Array | None = None) -> Array:
    """clamp((x - x_zero) w^T * x_scale * scale + bias), the sums exact in int32.

    Args:
        x: uint8 [.., K], standing for (x - x_zero) * x_scale.
        w: what `pack_weights` gave for int8 weights.
        out: float32 [.., N]; uint8 if packed with out_quant: round(result / out_scale + out_zero) in 0 .. 255.
    """
    if not isinstance(w, PackedWeights):
        raise TypeError(f"w is {type(w).__name__}; wanted what pack_weights(w, scale=..., x_quant=...) gives")
    return product("uint8", x, w, out)


def gemm_sparse(x: Array, w: Array | PackedWeights, *, out: Array | None = None) -> Array:
    """`gemm_f32` or `gemm_s8`, by the weights', where these lost blocks of 4 inputs by 1, 2 or 4 outputs (int8: or 16).

    The result is that of the same function on the same weights, zeros included. The blocks that are left are found when
    the weights are packed, and timed beside the dense kernel; `w.kernel` says which runs, and why. Dense weights are
    refused, since nothing here would be faster on them.

    Args:
        x: float32 or uint8 [.., K].
        w: float32 [N, K] (no bias, packed for this call), or what `pack_weights` gave.
        out: as for `gemm_f32` and `gemm_s8`.
    """
    packed = w if isinstance(w, PackedWeights) else pack_weights(w)
    if "blocks" not in packed.kernel:
        raise ValueError(f"w {list(packed.shape)} runs dense ({packed.kernel}): it has too few zeros in whole blocks, "
                         "or the dense kernel is the faster here; wanted gemm_f32 or gemm_s8")  # fmt: skip
    return product(packed.input_dtype, x, packed, out)


def conv2d(x: Array, w: PackedWeights, *, out: Array | None = None) -> Array:
    """clamp(bias[o] + sum over the window and the channels of the group of x * w), channels last.

    Args:
        x: float32, or uint8 for int8 weights, [images, height, width, I].
        w: what `pack_filter` gave.
        out: float32 or uint8 (if packed with out_quant) [images, height', width', O].
    """
    if not isinstance(w, PackedWeights) or len(w.shape) != 4:
        raise TypeError(f"w is {w!r}; wanted what pack_filter gives")
    check_array("x", x, w.input_dtype, 4)
    return run(w.model, {"x": x}, out)


def depthwise(
    x: Array,
    w: Array,
    *,
    bias: Array | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    threads: int | None = 1,
    out: Array | None = None,
) -> Array:
    """Convolve each channel with its own window, float32, packed for this call; `pack_filter` with groups keeps it.

    Args:
        x: float32 [images, height, width, C].
        w: float32 [kh, kw, C].
        bias: float32 [C], or None.
        stride: as for `pack_filter`.
        padding: as for `pack_filter`.
        dilation: as for `pack_filter`.
        threads: how many; None: all that are granted.
        out: float32 [images, height', width', C].
    """
    check_array("w", w, "float32", 3)
    by_channel = np.ascontiguousarray(w.transpose(2, 0, 1))[..., None]
    packed = pack_filter(
        by_channel, bias=bias, stride=stride, padding=padding, dilation=dilation, groups=w.shape[2], threads=threads
    )
    return conv2d(x, packed, out=out)


def product(dtype: str, x: Array, w: PackedWeights, out: Array | None) -> Array:
    """A matrix product over the rows of x."""
    if len(w.shape) != 2 or w.input_dtype != dtype:
        raise TypeError(f"w is {w!r}; wanted weights [N, K] packed by pack_weights for {dtype} input")
    check_array("x", x, dtype)
    n, k = w.shape
    if x.ndim < 1 or x.shape[-1] != k:
        raise ValueError(f"x has shape {x.shape}; wanted [.., {k}] for weights {w.shape}")
    shape = (*x.shape[:-1], n)
    rows = math.prod(x.shape[:-1])
    if out is None:
        return run(w.model, {"x": x.reshape(rows, k)}, None).reshape(shape)
    if check_array("out", out, w.output_dtype).shape != shape or not out.flags.c_contiguous:
        raise ValueError(f"out has shape {out.shape}; wanted {shape}, C-contiguous")
    run(w.model, {"x": x.reshape(rows, k)}, out.reshape(rows, n))
    return out


def layer_graph(w: Array, shape: list[int | str], x_quant: Quant | None) -> tuple[_native.Graph, int]:
    """A graph with the input of a layer on `w`."""
    int8 = w.dtype == np.int8
    if not int8 and w.dtype not in (np.float32, np.float16):
        raise TypeError(f"w is {w.dtype}; wanted float32, float16 or int8")
    if int8 and (w == -128).any():
        raise ValueError("w holds -128; wanted int8 in [-127, 127]")
    if int8 != (x_quant is not None):
        raise ValueError(f"w is {w.dtype}: x_quant is {x_quant}; int8 weights need it, and only they")
    graph = _native.Graph()
    return graph, graph.add_input("x", "uint8" if int8 else "float32", shape, x_quant)


def finish(
    graph: _native.Graph,
    op: str,
    x: int,
    w: Array,
    options: dict[str, Any],
    *,
    bias: Array | None,
    scale: Array | None,
    store: str | None,
    out_quant: Quant | None,
) -> None:
    """Add the layer and the output to the graph."""
    int8 = w.dtype == np.int8
    for name, value in (("scale", scale), ("out_quant", out_quant)):
        if value is not None and not int8:
            raise ValueError(f"{name} is given, but w is {w.dtype}; only int8 weights take it")
    if int8 and scale is None:
        raise ValueError("scale is missing; int8 weights need one per channel")
    if store is not None and (store not in HALVES or w.dtype != np.float32):
        raise ValueError(f"store is {store!r} and w {w.dtype}; wanted 'float16' or 'bfloat16' and float32 weights")
    ids = [x, graph.add_constant("w", np.ascontiguousarray(w)), -1, -1, -1]
    for place, name, vector in ((2, "bias", bias), (4, "scale", scale)):
        if vector is None:
            continue
        if check_array(name, vector, "float32").shape != w.shape[:1]:
            raise ValueError(f"{name} has shape {vector.shape}; wanted {w.shape[:1]} for weights {w.shape}")
        ids[place] = graph.add_constant(name, np.ascontiguousarray(vector))
    dtype = "float32" if out_quant is None else "uint8"
    node = graph.add_node(op, ids if int8 else ids[:4], {**options, "dtype": dtype}, "layer", quant=out_quant)
    graph.add_output("out", node)


def stored(graph: _native.Graph, store: str | None) -> _native.Graph:
    """The graph with its weights in 16 bits where that is wanted."""
    return graph if store is None else _native.half_weights(graph, store, ["layer"])[0]


def pair(name: str, value: Pair, most: int) -> list[int]:
    """A number twice, or a sequence of 2 (or, for padding, 4) as it is."""
    values = [value, value] if isinstance(value, int) else list(value)
    if len(values) not in (2, most):
        raise ValueError(f"{name} is {value}; wanted a number or {'2' if most == 2 else '2 or 4'} of them")
    return values
