"""taille.kernels: near the exact result, the same bits at every level and thread count, errors name the argument."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from support import output_of
from taille import _native, kernels

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape, np.float32)


def double(x: Array) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float64))


def near(given: Array, exact: torch.Tensor | Array, tolerance: float = 1e-5) -> None:
    wanted = np.asarray(exact)
    assert given.dtype == np.float32
    assert given.shape == wanted.shape
    assert np.abs(given - wanted).max() <= tolerance * max(1, np.abs(wanted).max())


def test_every_public_name_is_documented() -> None:
    for name in kernels.__all__:
        assert (getattr(kernels, name).__doc__ or "").strip(), name


def test_available_lists_every_row_and_chooses_one_per_op() -> None:
    rows = kernels.available()
    assert [(r.op, r.variant, r.level) for r in rows] == _native.kernels.list_kernels()
    ops = {r.op for r in rows}
    assert sorted(r.op for r in rows if r.chosen) == sorted(ops)
    code = "from taille import kernels; print({r.level for r in kernels.available() if r.chosen})"
    assert output_of(code, TAILLE_ISA="portable") == "{'portable'}"


# ---- Products ----


@pytest.mark.parametrize("rows", [(1,), (13,), (2, 3, 5), (0,)])
def test_gemm_f32(rows: tuple[int, ...]) -> None:
    x, w, bias = normal(*rows, 37), normal(70, 37), normal(70)
    if rows != (0,):
        near(kernels.gemm_f32(x, w), double(x) @ double(w).T)
    packed = kernels.pack_weights(w, bias=bias, lo=-1, hi=2, threads=2)
    out = np.full((*rows, 70), np.nan, np.float32)
    assert kernels.gemm_f32(x, packed, out=out) is out
    if rows != (0,):
        near(out, (double(x) @ double(w).T + double(bias)).clip(-1, 2))


@pytest.mark.parametrize("store", ["float16", "bfloat16"])
def test_gemm_f32_on_16_bits(store: str) -> None:
    x, w = normal(20, 30), normal(40, 30)
    bits = kernels.to_float16(w) if store == "float16" else kernels.to_bfloat16(w)
    wanted = kernels.gemm_f32(x, kernels.to_float32(bits))
    np.testing.assert_array_equal(kernels.gemm_f32(x, kernels.pack_weights(w, store=store)), wanted)
    if store == "float16":
        np.testing.assert_array_equal(kernels.gemm_f32(x, bits), wanted)


def int8_case(n: int, k: int) -> tuple[Array, Array, Array]:
    return (
        RNG.integers(-127, 128, (n, k)).astype(np.int8),
        (RNG.random(n) / 100 + 1e-3).astype(np.float32),
        normal(n),
    )


@pytest.mark.parametrize("rows", [1, 9, 60])
def test_gemm_s8(rows: int) -> None:
    w, scale, bias = int8_case(33, 50)
    x = RNG.integers(0, 256, (rows, 50)).astype(np.uint8)
    exact = (x - 100.0) * 0.02 @ (w * scale[:, None].astype(np.float64)).T + bias
    near(kernels.gemm_s8(x, kernels.pack_weights(w, scale=scale, x_quant=(0.02, 100), bias=bias)), exact)
    packed = kernels.pack_weights(w, scale=scale, x_quant=(0.02, 100), bias=bias, out_quant=(0.25, 7), lo=0)
    q = kernels.gemm_s8(x, packed)
    assert q.dtype == np.uint8
    assert np.abs(q - np.clip(exact.clip(0) / 0.25 + 7, 0, 255)).max() <= 0.5001


def test_gemm_sparse_is_the_dense_product_on_the_blocks_that_are_left() -> None:
    kept = np.repeat(np.repeat(RNG.random((64, 64)) < 0.05, 4, 0), 4, 1)
    w, scale, bias = int8_case(256, 256)
    x = RNG.integers(0, 256, (9, 256)).astype(np.uint8)
    packed = kernels.pack_weights(w * kept, scale=scale, x_quant=(0.02, 100), bias=bias)
    assert "blocks of 4x4, 5 % kept" in packed.kernel
    q = kernels.gemm_sparse(x, packed)
    near(q, (x - 100.0) * 0.02 @ (w * kept * scale[:, None].astype(np.float64)).T + bias)
    np.testing.assert_array_equal(q, kernels.gemm_s8(x, packed))
    floats, weights = normal(9, 256), normal(256, 256) * kept
    near(kernels.gemm_sparse(floats, weights), double(floats) @ double(weights).T)
    with pytest.raises(ValueError, match=r"w \[256, 256\] runs dense .* wanted gemm_f32 or gemm_s8"):
        kernels.gemm_sparse(floats, normal(256, 256))


def torch_conv(x: Array, w: Array, bias: Array | None, **options: Any) -> Array:
    images, filters = double(x).permute(0, 3, 1, 2), double(w).permute(0, 3, 1, 2)
    y = functional.conv2d(images, filters, None if bias is None else double(bias), **options)
    return np.asarray(y.permute(0, 2, 3, 1))


CONVOLUTIONS = [
    (3, 16, 3, {"stride": 2, "padding": 1}),
    (8, 12, 1, {}),
    (12, 8, 3, {"groups": 4, "padding": (1, 2), "dilation": 2}),
    (20, 20, 3, {"groups": 20, "padding": 1}),
]


@pytest.mark.parametrize(("inputs", "outputs", "size", "options"), CONVOLUTIONS)
def test_conv2d_f32(inputs: int, outputs: int, size: int, options: dict[str, Any]) -> None:
    x, bias = normal(2, 9, 11, inputs), normal(outputs)
    w = normal(outputs, size, size, inputs // options.get("groups", 1))
    for store in (None, "float16"):
        packed = kernels.pack_filter(w, bias=bias, lo=-3, store=store, threads=2, **options)
        values = w if store is None else kernels.to_float32(kernels.to_float16(w))
        near(kernels.conv2d(x, packed), torch_conv(x, values, bias, **options).clip(-3))


@pytest.mark.parametrize(("inputs", "outputs", "size", "options"), CONVOLUTIONS)
def test_conv2d_s8(inputs: int, outputs: int, size: int, options: dict[str, Any]) -> None:
    depth = inputs // options.get("groups", 1)
    w, scale, bias = int8_case(outputs, size * size * depth)
    w = w.reshape(outputs, size, size, depth)
    x = RNG.integers(0, 256, (2, 9, 11, inputs)).astype(np.uint8)
    exact = torch_conv((x - 30.0) * 0.125, w * scale.reshape(-1, 1, 1, 1).astype(np.float64), bias, **options)
    packed = kernels.pack_filter(w, scale=scale, x_quant=(0.125, 30), bias=bias, **options)
    near(kernels.conv2d(x, packed), exact)


def test_depthwise() -> None:
    x, w, bias = normal(2, 9, 7, 20), normal(3, 3, 20), normal(20)
    exact = torch_conv(x, w.transpose(2, 0, 1)[..., None], bias, groups=20, stride=2, padding=1)
    near(kernels.depthwise(x, w, bias=bias, stride=2, padding=1), exact)


# ---- Rows and elements ----

ELEMENTWISE = {
    "relu": torch.relu, "sigmoid": torch.sigmoid, "silu": functional.silu, "tanh": torch.tanh, "erf": torch.erf,
    "exp": torch.exp, "hardswish": functional.hardswish, "hardsigmoid": functional.hardsigmoid,
    "gelu": functional.gelu,
}  # fmt: skip


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_activations(name: str) -> None:
    function = getattr(kernels, name)
    for x in (3 * normal(5, 7, 11), normal(1), np.zeros((0, 4), np.float32), np.full((), 2, np.float32)):
        if x.size:
            near(function(x), ELEMENTWISE[name](double(x)))
        out = np.empty_like(x)
        assert function(x, out=out, threads=2) is out
        np.testing.assert_array_equal(out, function(x))
    near(kernels.gelu(x, approximate="tanh"), functional.gelu(double(x), approximate="tanh"))


def test_softmax_and_norms() -> None:
    x = 4 * normal(3, 5, 33)
    for axis in (-1, 1, 0):
        near(kernels.softmax(x, axis=axis), double(x).softmax(axis))
    gamma, beta = normal(33), normal(33)
    near(kernels.layer_norm(x), functional.layer_norm(double(x), (33,)))
    exact = functional.layer_norm(double(x), (33,), double(gamma), double(beta), 1e-3)
    near(kernels.layer_norm(x, gamma, beta, epsilon=1e-3, threads=2), exact)
    near(
        kernels.rms_norm(x, gamma, epsilon=1e-3, threads=2), functional.rms_norm(double(x), (33,), double(gamma), 1e-3)
    )
    q, out = (0.02, 100), np.empty(x.shape, np.uint8)
    np.testing.assert_array_equal(kernels.rms_norm(x, out_quant=q), kernels.quantize(kernels.rms_norm(x), *q))
    assert kernels.layer_norm(x, gamma, beta, out_quant=q, out=out) is out
    np.testing.assert_array_equal(out, kernels.quantize(kernels.layer_norm(x, gamma, beta), *q))


@pytest.mark.parametrize("mask", ["none", "bool", "float", "row"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(mask: str, causal: bool) -> None:
    q, k, v = normal(2, 3, 7, 16), normal(2, 3, 9, 16), normal(2, 3, 9, 20)
    given = {"none": None, "bool": RNG.random((2, 1, 7, 9)) < 0.7, "float": normal(7, 9), "row": normal(2, 1, 1, 9)}[
        mask
    ]
    scores = double(q) @ double(k).transpose(-1, -2) * 0.3
    if given is not None and mask == "bool":
        given[..., 0] = True  # no row without a key
        scores = scores.masked_fill(~torch.from_numpy(given), -math.inf)
    elif given is not None:
        scores = scores + double(given)
    if causal:
        scores = scores.masked_fill(~torch.ones(7, 9, dtype=torch.bool).tril(), -math.inf)
    result = kernels.attention(q, k, v, mask=given, scale=0.3, causal=causal, threads=2)
    near(result, scores.softmax(-1) @ double(v))


def test_attention_scales_by_the_depth() -> None:
    q, k, v = normal(7, 16), normal(9, 16), normal(9, 20)
    near(kernels.attention(q, k, v), (double(q) @ double(k).T / 4).softmax(-1) @ double(v))


# ---- Bytes and halves ----


def test_quantize_per_channel_is_what_models_get() -> None:
    w = normal(6, 3, 3, 5)
    w[2] = 0
    q, scale = kernels.quantize_per_channel(w)
    most = np.abs(w).reshape(6, -1).max(1)
    np.testing.assert_array_equal(scale, np.where(most > 0, most / np.float32(127), 1).astype(np.float32))
    np.testing.assert_array_equal(q, np.rint(w / scale.reshape(-1, 1, 1, 1)))
    assert (q.dtype, q.shape, np.abs(q).max()) == (np.int8, w.shape, 127)
    back = kernels.dequantize(q, scale)
    assert (np.abs(back - w) <= 0.5001 * scale.reshape(-1, 1, 1, 1)).all()
    w = normal(1, 20000)
    w[0, 0] = 8.0
    clipped, least = kernels.quantize_per_channel(w, clipping="mse")
    assert least[0] < 8 / 127
    assert ((kernels.dequantize(clipped, least) - w) ** 2).sum() < (
        (kernels.dequantize(*kernels.quantize_per_channel(w)) - w) ** 2
    ).sum()
    with pytest.raises(ValueError, match="weight clipping 'best'; wanted none, mse or pairs"):
        kernels.quantize_per_channel(w, clipping="best")


def test_quantize_and_dequantize() -> None:
    x = 3 * normal(4, 50)
    q = kernels.quantize(x, 0.03, 120)
    np.testing.assert_array_equal(q, np.clip(np.rint(x * (np.float32(1) / np.float32(0.03)) + 120), 0, 255))
    np.testing.assert_array_equal(kernels.dequantize(q, 0.5, 120), (q - np.float32(120)) * np.float32(0.5))
    out = np.empty_like(q)
    assert kernels.quantize(x[:, ::-1], 0.03, 120, out=out) is out
    np.testing.assert_array_equal(out, q[:, ::-1])


def test_lookup_and_halves() -> None:
    x, table = RNG.integers(0, 256, (5, 70)).astype(np.uint8), RNG.permutation(256).astype(np.uint8)
    np.testing.assert_array_equal(kernels.lookup(x, table), table[x])
    y = normal(3, 40)
    np.testing.assert_array_equal(kernels.to_float16(y), y.astype(np.float16))
    bits = torch.from_numpy(y).bfloat16()
    np.testing.assert_array_equal(kernels.to_bfloat16(y), bits.view(torch.uint16).numpy())
    np.testing.assert_array_equal(kernels.to_float32(bits.view(torch.uint16).numpy()), bits.float().numpy())


def test_observe_streams() -> None:
    x = normal(1000)
    x[[3, 800]] = np.nan, np.inf
    so_far = None
    for part in np.split(x, 10):
        so_far = kernels.observe(part, so_far)
    assert so_far == kernels.observe(x)
    finite = x[np.isfinite(x)]
    assert so_far == kernels.Statistics(finite.min(), finite.max(), 1000, 2)
    assert kernels.observe(x[:0]) == kernels.Statistics(math.inf, -math.inf, 0, 0)


# ---- Everywhere the same ----

SAME = """
import numpy as np
from taille import _native, kernels as k
rng = np.random.default_rng(0)
n = lambda *s: rng.standard_normal(s, np.float32)
x, w = n(30, 200), n(70, 200)
q, scale = k.quantize_per_channel(w)
b = k.quantize(x, 0.03, 128)
image, filters = n(2, 9, 9, 6), n(8, 3, 3, 6)
results = [b, q, scale, k.dequantize(b, 0.1, 3), k.to_float16(x), k.to_bfloat16(x), k.lookup(b, b.ravel()[:256].copy()),
           k.softmax(x), k.layer_norm(x, w[0], w[1]), k.gelu(x), k.tanh(x), k.attention(x, w, w),
           k.layer_norm(x, out_quant=(0.02, 99)), k.rms_norm(x, w[0], out_quant=(0.02, 99))]
for t in (1, 2):
    results.append(k.gemm_f32(x, k.pack_weights(w, threads=t)))
    results.append(k.gemm_f32(x, k.pack_weights(w, store="bfloat16", threads=t)))
    results.append(k.gemm_s8(b, k.pack_weights(q, scale=scale, x_quant=(0.03, 128), threads=t)))
    results.append(k.conv2d(image, k.pack_filter(filters, padding=1, threads=t)))
    results.append(k.depthwise(image, n(3, 3, 6)[:, :, :] * 0 + filters[0], threads=t))
print([_native.crc32c(np.ascontiguousarray(r).tobytes()) for r in results])
"""


def test_every_level_and_thread_count_gives_the_same_bits() -> None:
    given = {output_of(SAME, TAILLE_ISA=level) for level in _native.supported_isas()}
    assert len(given) == 1
    results = eval(given.pop())
    assert results[-10:-5] == results[-5:]


# ---- Errors ----

X = np.zeros((3, 4), np.float32)
IMAGE = np.zeros((1, 5, 5, 4), np.float32)
INT8 = np.ones((2, 4), np.int8)
ONES = np.ones(2, np.float32)
PACKED = kernels.pack_weights(INT8, scale=ONES, x_quant=(1, 0))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kernels.gelu([1.0]), TypeError, "x is list; wanted a numpy array"),
        (lambda: kernels.gelu(X.astype(np.float64)), TypeError, "x is float64; wanted float32"),
        (lambda: kernels.gelu(X, approximate="fast"), ValueError, "approximate is 'fast'"),
        (lambda: kernels.gelu(X, out=X), ValueError, "out shares memory with x"),
        (lambda: kernels.gelu(X, out=np.zeros((4, 3), np.float32)), ValueError, r"'out' has shape \[4, 3\]; wanted"),
        (lambda: kernels.gelu(X, out=np.zeros((3, 4))), TypeError, "output 'out' is float64; wanted float32"),
        (lambda: kernels.gelu(X, out=np.zeros((3, 8), np.float32)[:, ::2]), ValueError, "'out' is not a writeable"),
        (lambda: kernels.gelu(X, threads=0), ValueError, "threads is 0"),
        (lambda: kernels.softmax(X, axis=2), ValueError, r"axis is 2; x has shape \(3, 4\)"),
        (lambda: kernels.layer_norm(X, np.ones(5, np.float32)), ValueError, "input 'gamma' has shape"),
        (lambda: kernels.layer_norm(X, beta=ONES), ValueError, "beta is given without gamma"),
        (lambda: kernels.layer_norm(X, out_quant=(0, 0)), ValueError, "scale"),
        (lambda: kernels.attention(X, X[:, :2], X), ValueError, "input 'k' has shape"),
        (lambda: kernels.attention(X, X, X, mask=np.zeros((3, 3), np.int64)), TypeError, "mask is int64"),
        (lambda: kernels.gemm_f32(X, np.zeros((2, 5), np.float32)), ValueError, r"x has shape \(3, 4\)"),
        (lambda: kernels.gemm_f32(X, INT8), ValueError, "int8 weights need it"),
        (lambda: kernels.gemm_f32(X, X[0]), ValueError, r"w has shape \(4,\); wanted 2 dimensions"),
        (lambda: kernels.gemm_f32(X, X, out=np.zeros((3, 4), np.float32)), ValueError, r"out has shape \(3, 4\)"),
        (lambda: kernels.gemm_s8(X, INT8), TypeError, r"wanted what pack_weights\(w, scale"),
        (lambda: kernels.gemm_s8(X, PACKED), TypeError, "x is float32; wanted uint8"),
        (lambda: kernels.pack_weights(INT8, x_quant=(1, 0)), ValueError, "scale is missing"),
        (lambda: kernels.pack_weights(X, scale=ONES), ValueError, "scale is given, but w is float32"),
        (lambda: kernels.pack_weights(X, bias=ONES), ValueError, r"bias has shape \(2,\); wanted \(3,\)"),
        (lambda: kernels.pack_weights(X, store="int4"), ValueError, "store is 'int4'"),
        (lambda: kernels.pack_weights(-128 * INT8, scale=ONES, x_quant=(1, 0)), ValueError, "w holds -128"),
        (lambda: kernels.pack_weights(INT8, scale=ONES, x_quant=(0, 0)), ValueError, "the scale is 0"),
        (lambda: kernels.pack_weights(INT8, scale=ONES, x_quant=(1, 256)), ValueError, "the zero point is 256"),
        (lambda: kernels.pack_weights(X, lo=2, hi=1), ValueError, "lo is above hi"),
        (lambda: kernels.pack_filter(IMAGE, padding=(1, 2, 3)), ValueError, r"padding is \(1, 2, 3\)"),
        (lambda: kernels.conv2d(IMAGE, IMAGE), TypeError, "wanted what pack_filter gives"),
        (lambda: kernels.conv2d(X, kernels.pack_filter(IMAGE)), ValueError, "wanted 4 dimensions"),
        (lambda: kernels.quantize(X, 0, 0), ValueError, "scale is 0"),
        (lambda: kernels.quantize(X, 1, 256), ValueError, "zero_point is 256"),
        (lambda: kernels.dequantize(INT8, ONES, 3), ValueError, "zero_point 0"),
        (lambda: kernels.quantize_per_channel(X[0]), ValueError, r"w has shape \(4,\)"),
        (lambda: kernels.quantize_per_channel(X / 0), ValueError, "w holds a NaN"),
        (lambda: kernels.lookup(INT8.view(np.uint8), np.zeros(5, np.uint8)), ValueError, r"table has shape \(5,\)"),
        (lambda: kernels.to_float32(X), TypeError, "x is float32; wanted float16, or uint16"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid value")
def test_errors_name_the_argument(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
