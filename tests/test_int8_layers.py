"""int8 convolutions and linear layers of a model against float64 arithmetic on the very numbers they hold."""

import numpy as np
import pytest

from taille import _native

CASES = {
    "first, 3 channels": {"shape": (3, 13, 11), "out": 20, "kernel": (7, 5), "stride": [2, 1], "padding": [3, 2, 3, 1]},
    "first, 1 channel": {"shape": (1, 8, 8), "out": 32, "kernel": (3, 3), "padding": [1, 1, 1, 1]},
    "first, dilated": {"shape": (3, 9, 9), "out": 8, "kernel": (3, 3), "dilation": [2, 1], "padding": [2, 0, 0, 1]},
    "first, no padding": {"shape": (2, 6, 7), "out": 5, "kernel": (2, 3), "stride": [3, 2]},
    "3x3": {"shape": (16, 7, 6), "out": 70, "kernel": (3, 3), "padding": [1, 1, 1, 1]},
    "3x3 stride 2": {"shape": (16, 8, 9), "out": 24, "kernel": (3, 3), "stride": [2, 2], "padding": [0, 1, 1, 0]},
    "1x1": {"shape": (24, 5, 5), "out": 130, "kernel": (1, 1)},
    "1x1 stride 2": {"shape": (24, 6, 5), "out": 16, "kernel": (1, 1), "stride": [2, 2]},
    "1x1 odd channels": {"shape": (7, 5, 5), "out": 9, "kernel": (1, 1)},
    "dilated": {"shape": (8, 9, 9), "out": 8, "kernel": (3, 3), "dilation": [2, 3], "padding": [2, 3, 2, 3]},
    "grouped": {"shape": (24, 5, 6), "out": 36, "kernel": (3, 3), "groups": 3, "padding": [1, 1, 1, 1]},
    "depthwise": {"shape": (70, 6, 7), "out": 70, "kernel": (3, 3), "groups": 70, "padding": [1, 1, 1, 1]},
    "depthwise stride 2": {
        "shape": (16, 9, 9), "out": 16, "kernel": (5, 5), "groups": 16, "stride": [2, 2], "padding": [2, 2, 1, 1],
    },
    "depthwise dilated": {"shape": (8, 9, 9), "out": 8, "kernel": (3, 3), "groups": 8, "dilation": [2, 2]},
    "multiplier 2": {"shape": (6, 5, 5), "out": 12, "kernel": (3, 3), "groups": 6, "padding": [1, 1, 1, 1]},
}  # fmt: skip


def reference(x, w, bias, stride, padding, dilation, groups):
    """A convolution in float64, one window at a time: x [n, c, h, w], w [o, c / groups, kh, kw]."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    kh, kw = w.shape[2:]
    spans = [(k - 1) * d + 1 for k, d in zip((kh, kw), dilation, strict=True)]
    height, width = ((x.shape[2 + i] - spans[i]) // stride[i] + 1 for i in range(2))
    out = np.empty((x.shape[0], w.shape[0], height, width))
    per_in, per_out = w.shape[1], w.shape[0] // groups
    for g in range(groups):
        part = x[:, g * per_in : (g + 1) * per_in]
        kernel = w[g * per_out : (g + 1) * per_out]
        for i in range(height):
            for j in range(width):
                y, z = i * stride[0], j * stride[1]
                window = part[:, :, y : y + spans[0] : dilation[0], z : z + spans[1] : dilation[1]]
                out[:, g * per_out : (g + 1) * per_out, i, j] = np.einsum("nchw,ochw->no", window, kernel)
    return out + bias[:, None, None]


def quantized_conv(case, rng):
    """The quantised graph of one convolution, its input, and what float64 makes of the quantised numbers."""
    channels = case["shape"][0]
    groups = case.get("groups", 1)
    attrs = {k: case[k] for k in ("stride", "padding", "dilation", "groups") if k in case}
    w = rng.standard_normal((case["out"], channels // groups, *case["kernel"])).astype(np.float32)
    bias = rng.standard_normal(case["out"]).astype(np.float32)
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", *case["shape"]])
    g.add_output("y", g.add_node("conv2d", [x, g.add_constant("w", w), g.add_constant("b", bias)], attrs, "conv"))
    graph, _ = _native.optimize(g)
    data = rng.uniform(-1, 2, (3, *case["shape"])).astype(np.float32)
    data.flat[:2] = -1, 2
    calibrator = _native.Calibrator(graph, 1)
    calibrator.run({"x": data})
    quantized, _ = _native.quantize(graph, calibrator.ranges())
    scale = np.float32(3) / np.float32(255)
    zero = round(float(np.float32(1) / scale))
    steps = np.clip(np.rint(data / scale + zero), 0, 255) - zero
    k = quantized.constants()
    (name,) = (n for n in k if n.endswith(".int8"))
    scales = k[name.replace(".int8", ".scale")].astype(np.float64)
    real = k[name].transpose(0, 3, 1, 2) * scales[:, None, None, None]
    expected = reference(
        steps * float(scale), real, bias, case.get("stride", [1, 1]), case.get("padding", [0] * 4),
        case.get("dilation", [1, 1]), groups,
    )  # fmt: skip
    return quantized, data, expected


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_convolution_is_exact_but_for_rounding(name, threads):
    graph, x, expected = quantized_conv(CASES[name], np.random.default_rng(7))
    for isa in _native.supported_isas():
        for batch in (1, 3):
            y = _native.Model(graph, threads, isa).run({"x": x[:batch]})[0]
            # One input may round to the other side (division against multiplication by the inverse): 1 step of it.
            np.testing.assert_allclose(y, expected[:batch], rtol=1e-5, atol=2e-5 * np.abs(expected).max() + 1e-6)


def test_many_small_images_share_tables():
    graph, x, expected = quantized_conv(CASES["first, 1 channel"], np.random.default_rng(8))
    many = np.concatenate([x] * 17)
    y = _native.Model(graph, 2).run({"x": many})[0]
    np.testing.assert_allclose(y, np.concatenate([expected] * 17), rtol=1e-5, atol=1e-4)


def test_residual_and_clamp_in_output_steps():
    rng = np.random.default_rng(5)
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 8, 6, 6])
    w1, w2, w3 = (g.add_constant(f"w{i}", (rng.standard_normal((8, 8, 1, 1)) / 3).astype(np.float32)) for i in range(3))
    a = g.add_node("conv2d", [x, w1], {}, "a")
    b = g.add_node("add", [g.add_node("conv2d", [a, w2], {}, "b"), a], {}, "sum")
    r = g.add_node("clamp", [b], {"lo": 0.0, "hi": 1.5}, "relu")
    g.add_output("y", g.add_node("conv2d", [r, w3], {}, "c"))
    graph, _ = _native.optimize(g)
    calibrator = _native.Calibrator(graph, 1)
    data = rng.standard_normal((16, 8, 6, 6)).astype(np.float32)
    calibrator.run({"x": data})
    quantized, _ = _native.quantize(graph, calibrator.ranges())
    assert [n["op"] for n in quantized.nodes if n["dtype"] == "uint8"] == ["quantize", "permute", "conv2d", "conv2d"]
    exact, ours = (_native.Model(m, 1).run({"x": data})[0] for m in (graph, quantized))
    assert ((ours - exact) ** 2).sum() / (exact**2).sum() < 0.002
