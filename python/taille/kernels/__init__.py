"""The kernels by themselves: numpy arrays in and out.

Arrays are taken as they lie in memory (one that is not C-contiguous is copied) and nothing is converted: another dtype
is a TypeError, another shape a ValueError, and both name the argument. The interpreter lock is released while a kernel
runs. `threads` is 1 unless you say otherwise; None means all that this process is granted. `out` must have the result's
dtype and shape, be C-contiguous and share no memory with the inputs. Every result is the same, bit for bit, at every
CPU level and for every number of threads; `available` says which variants there are and which are chosen here.

The layers run through the same engine as models do, so what is measured here is what a model gets.
"""

from taille.kernels.bytes import (
    Statistics,
    dequantize,
    lookup,
    observe,
    quantize,
    quantize_per_channel,
    to_bfloat16,
    to_float16,
    to_float32,
)
from taille.kernels.layers import (
    PackedWeights,
    conv2d,
    depthwise,
    gemm_f32,
    gemm_s8,
    gemm_sparse,
    pack_filter,
    pack_weights,
)
from taille.kernels.masks import block_mask, channel_mask, magnitude_mask, nm_mask
from taille.kernels.rows import (
    attention,
    erf,
    exp,
    gelu,
    hardsigmoid,
    hardswish,
    layer_norm,
    relu,
    rms_norm,
    sigmoid,
    silu,
    softmax,
    tanh,
)
from taille.kernels.table import Variant, available

__all__ = [
    "PackedWeights",
    "Statistics",
    "Variant",
    "attention",
    "available",
    "block_mask",
    "channel_mask",
    "conv2d",
    "depthwise",
    "dequantize",
    "erf",
    "exp",
    "gelu",
    "gemm_f32",
    "gemm_s8",
    "gemm_sparse",
    "hardsigmoid",
    "hardswish",
    "layer_norm",
    "lookup",
    "magnitude_mask",
    "nm_mask",
    "observe",
    "pack_filter",
    "pack_weights",
    "quantize",
    "quantize_per_channel",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "tanh",
    "to_bfloat16",
    "to_float16",
    "to_float32",
]
