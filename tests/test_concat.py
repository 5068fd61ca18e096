"""Values that are written into the output of the concat that reads them, against concats that copy.

An output of the graph lies by itself, so a graph whose values are all outputs copies in every concat.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import taille
from nets import Net
from taille import _native

QUANT = (0.02, 117)


def copying(graph: Any) -> Any:
    """The graph with its outputs, and with every value that a node computes as one more."""
    whole = graph.copy()
    for node in graph.nodes:
        whole.add_output(f"also {node['name']}", node["output"])
    return whole


def check_equal_to_copies(graph: Any, x: dict[str, Any], threads: tuple[int, ...] = (1, 2, 3)) -> None:
    """At every level, for any number of threads."""
    count = len(graph.outputs)
    for isa in _native.supported_isas():
        wanted = _native.Model(copying(graph), 1, isa).run(x)[:count]
        for t in threads:
            for ours, theirs in zip(_native.Model(graph, t, isa).run(x), wanted, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=f"{isa}, {t} threads", strict=True)


def arenas(graph: Any, x: dict[str, Any]) -> list[int]:
    """Bytes of a run, at every level; outputs of the graph are the caller's and count nothing."""
    return [_native.Model(graph, 1, isa).plan(x) for isa in _native.supported_isas()]


class Branches:
    """Graphs of several producers that read one NHWC image (or rows), in float32 or int8."""

    def __init__(self, int8: bool, shape: tuple[int, ...]):
        self.int8, self.shape, self.rng = int8, shape, np.random.default_rng(0)
        self.g = _native.Graph()
        self.quant = QUANT if int8 else None
        self.x = self.g.add_input("x", "uint8" if int8 else "float32", ["batch", *shape], self.quant)

    def sample(self, batch: int) -> dict[str, Any]:
        x = self.rng.standard_normal((batch, *self.shape))
        return {"x": (x * 40 + 117).clip(0, 255).astype(np.uint8) if self.int8 else x.astype(np.float32)}

    def layer(self, op: str, weight: tuple[int, ...], attrs: dict[str, Any], name: str) -> int:
        inputs = [self.x, self.weight(weight, name), self.constant((weight[0],), name + ".b")]
        if self.int8:
            inputs += [-1, self.g.add_constant(name + ".s", np.full(weight[0], 0.002, np.float32))]
            attrs = {**attrs, "dtype": "uint8"}
        return int(self.g.add_node(op, inputs, attrs, name, "", self.quant))

    def weight(self, shape: tuple[int, ...], name: str) -> int:
        if not self.int8:
            return self.constant(shape, name + ".w")
        return int(self.g.add_constant(name + ".w", self.rng.integers(-127, 128, shape).astype(np.int8)))

    def constant(self, shape: tuple[int, ...], name: str) -> int:
        return int(self.g.add_constant(name, self.rng.standard_normal(shape).astype(np.float32)))

    def conv(self, out: int, size: int, name: str, **attrs: Any) -> int:
        pad, channels = [size // 2] * 4, self.shape[-1] // attrs.get("groups", 1)
        return self.layer("conv2d", (out, size, size, channels), {"layout": "nhwc", "padding": pad, **attrs}, name)

    def linear(self, out: int, name: str) -> int:
        return self.layer("linear", (out, self.shape[-1]), {}, name)

    def pool(self, op: str, name: str) -> int:
        attrs = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1], "layout": "nhwc"}
        return int(self.g.add_node(op, [self.x], attrs, name, "", self.quant))

    def concat(self, values: list[int], axis: int, name: str = "joined") -> int:
        return int(self.g.add_node("concat", values, {"axis": axis}, name, "", self.quant))

    def mean(self, name: str) -> int:
        return int(self.g.add_node("mean", [self.x], {"axes": [1, 2]}, name, "", self.quant))


# name -> shape of the input, producers of three values in the order of the graph
PRODUCERS: dict[str, tuple[tuple[int, ...], Callable[[Branches, str], list[int]]]] = {
    "1x1": ((9, 7, 20), lambda b, n: [b.conv(k, 1, f"{n}{k}") for k in (7, 70, 33)]),
    "3x3": ((6, 5, 16), lambda b, n: [b.conv(k, 3, f"{n}{k}") for k in (7, 66, 17)]),
    "small images": ((3, 3, 16), lambda b, n: [b.conv(k, 3, f"{n}{k}") for k in (16, 3, 130)]),
    "first layers": ((9, 8, 3), lambda b, n: [b.conv(k, 3, f"{n}{k}") for k in (5, 16, 33)]),
    "grouped": ((6, 5, 12), lambda b, n: [b.conv(k, 3, f"{n}{k}", groups=3) for k in (12, 3, 51)]),
    "depthwise": ((6, 7, 5), lambda b, n: [b.conv(5, k, f"{n}{k}", groups=5) for k in (3, 5, 1)]),
    "wide depthwise": ((4, 5, 70), lambda b, n: [b.conv(70, k, f"{n}{k}", groups=70) for k in (3, 5, 1)]),
    "pools": ((6, 5, 21), lambda b, n: [*(b.pool(op, n + op) for op in ("max_pool2d", "avg_pool2d")), b.conv(3, 1, n)]),
    "means": ((6, 5, 21), lambda b, n: [b.mean(f"{n}{i}") for i in range(3)]),
    "linear": ((5, 24), lambda b, n: [b.linear(k, f"{n}{k}") for k in (7, 70, 33)]),
}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])  # what writes past its rows harms what was written before
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize("name", PRODUCERS)
def test_producers_write_into_the_output(name: str, int8: bool, batch: int, order: tuple[int, ...]) -> None:
    shape, producers = PRODUCERS[name]
    joined, apart = Branches(int8, shape), Branches(int8, shape)
    values = producers(joined, "n")
    joined.g.add_output("y", joined.concat([values[i] for i in order], -1))
    for i, value in enumerate(producers(apart, "n")):
        apart.g.add_output(f"y{i}", value)
    x = joined.sample(batch)
    for isa in _native.supported_isas():
        parts = _native.Model(apart.g, 1, isa).run(x)
        for threads in (1, 2, 3):
            (y,) = _native.Model(joined.g, threads, isa).run(x)
            np.testing.assert_array_equal(y, np.concatenate([parts[i] for i in order], -1), err_msg=isa, strict=True)
    copies = name == "means" and not int8 and batch > 1  # means of floats are not made with a stride
    assert (arenas(joined.g, x) == arenas(apart.g, x)) != copies


@pytest.mark.parametrize(("axis", "batch", "copies"), [(0, 1, False), (0, 3, False), (1, 1, False), (1, 3, True)])
def test_other_axes_share_memory_where_each_input_is_one_piece(axis: int, batch: int, copies: bool) -> None:
    def net(y: Callable[[Branches, list[int]], None]) -> Branches:
        b = Branches(False, (5, 6))
        y(b, [b.linear(7, "a"), int(b.g.add_node("softmax", [b.linear(7, "b")], {"axis": -1}, "softmax"))])
        return b

    joined = net(lambda b, v: b.g.add_output("y", b.concat(v, axis)))
    apart = net(lambda b, v: [b.g.add_output(f"y{i}", value) for i, value in enumerate(v)])  # type: ignore[arg-type]
    x = joined.sample(batch)
    check_equal_to_copies(joined.g, x)
    y = _native.Model(joined.g, 1).run(x)[0]
    np.testing.assert_array_equal(y, np.concatenate(_native.Model(apart.g, 1).run(x), axis))
    assert (arenas(joined.g, x) > arenas(apart.g, x)) == copies


def test_values_that_others_need_are_copied() -> None:
    """A graph input, a constant, the same value twice, a graph output, and a value with a second reader."""
    b = Branches(False, (4, 6))
    twice, output, read, own = (b.linear(k, f"fc{k}") for k in (3, 5, 7, 9))
    ones = b.g.add_node("expand", [b.constant((1, 1, 2), "ones")], {"shape": ["batch", 4, 2]}, "expand")
    b.g.add_output("y", b.concat([b.x, twice, output, read, own, ones, twice], 2))
    b.g.add_output("output", output)
    b.g.add_output("more", b.g.add_node("exp", [read], {}, "exp"))
    for batch in (0, 1, 3):
        x = b.sample(batch)
        check_equal_to_copies(b.g, x)
        y, output_, more = _native.Model(b.g, 1).run(x)
        np.testing.assert_array_equal(y[..., :6], x["x"])
        np.testing.assert_array_equal(y[..., 9:14], output_)
        np.testing.assert_allclose(np.exp(y[..., 14:21]), more, rtol=1e-5)
        np.testing.assert_array_equal(y[..., 6:9], y[..., 32:])


@pytest.mark.parametrize("axes", [(3, 3), (3, 1), (1, 3), (3, 0), (0, 3)])
@pytest.mark.parametrize("batch", [1, 2])
def test_concats_within_concats(axes: tuple[int, int], batch: int) -> None:
    b = Branches(True, (4, 4, 9))
    inner, outer = axes
    first = b.concat([b.conv(9, 1, "a"), b.conv(9, 3, "b")], inner, "first")
    second = b.concat([b.conv(9, 3, "c"), b.conv(9, 1, "d")], inner, "second")
    b.g.add_output("y", b.concat([first, second], outer, "third"))
    check_equal_to_copies(b.g, b.sample(batch))


def test_a_concat_may_be_overwritten_by_its_last_reader() -> None:
    b = Branches(False, (4, 6))
    joined = b.concat([b.linear(3, "a"), b.linear(5, "b")], 2)
    relu = b.g.add_node("clamp", [joined], {"lo": 0.0}, "relu")
    b.g.add_output("y", b.g.add_node("concat", [relu, b.linear(7, "c")], {"axis": 2}, "last"))
    check_equal_to_copies(b.g, b.sample(3))


def test_inputs_of_another_scale_are_rescaled() -> None:
    b = Branches(True, (4, 6))
    same, b.quant = b.linear(7, "same"), (0.03, 90)
    other, b.quant = b.linear(5, "other"), QUANT
    b.g.add_output("y", b.concat([other, same], 2))
    x = b.sample(2)
    check_equal_to_copies(b.g, x)
    theirs = _native.Model(copying(b.g), 1).run(x)
    rescaled = np.clip(np.rint((theirs[2].astype(float) - 90) * 0.03 / QUANT[0] + QUANT[1]), 0, 255)
    np.testing.assert_array_equal(theirs[0], np.concatenate([rescaled, theirs[1]], 2))


def test_what_could_be_written_in_place_goes_into_the_concat() -> None:
    b = Branches(False, (4, 6))
    joined = b.concat([b.linear(6, "a"), int(b.g.add_node("exp", [b.linear(6, "b")], {}, "exp"))], 0)
    b.g.add_output("y", b.g.add_node("neg", [joined], {}, "neg"))
    check_equal_to_copies(b.g, b.sample(2))


OPS = ("linear", "exp", "clamp", "concat 0", "concat 1", "concat 2", "reshape", "permute", "add", "softmax")


@given(
    st.lists(st.tuples(st.sampled_from(OPS), st.lists(st.integers(0, 20), min_size=3, max_size=3)), max_size=12),
    st.sets(st.integers(0, 12), min_size=1, max_size=3),
    st.integers(0, 2),
)
def test_any_graph_equals_the_one_that_copies(
    nodes: list[tuple[str, list[int]]], outputs: set[int], batch: int
) -> None:
    """Concats of concats, on any axis, with work in place, views and shared values around them."""
    b = Branches(False, (2, 3))
    values = [(b.x, 2, 3)]  # value, sizes of the last two dimensions; the first is that of the batch, or twice it
    batches = {b.x: 1}
    for op, picks in nodes:
        v, rows, columns = values[picks[0] % len(values)]
        inputs, attrs, times = [v], {}, batches[v]
        if op == "linear":
            inputs.append(b.constant((4, columns), f"w{len(values)}"))
            columns = 4
        elif op == "permute":
            attrs, rows, columns = {"axes": [0, 2, 1]}, columns, rows
        elif op == "reshape":
            attrs = {"shape": ["batch" if times == 1 else f"{times}*batch", 1, rows * columns]}
            rows, columns = 1, rows * columns
        elif op == "softmax":
            attrs = {"axis": -1}
        elif op == "add":
            inputs.append(v)
        elif op.startswith("concat"):
            axis = int(op[-1])
            fitting = [o for o in values if all(
                axis == i or a == c for i, (a, c) in enumerate(zip(
                    (batches[o[0]], *o[1:]), (times, rows, columns), strict=True)))]  # fmt: skip
            others = [fitting[p % len(fitting)] for p in picks[1:]]
            inputs += [o[0] for o in others]
            sizes = [times, rows, columns]
            sizes[axis] += sum((batches[o[0]], *o[1:])[axis] for o in others)
            times, rows, columns = sizes
            attrs = {"axis": axis}
            op = "concat"
        if rows * columns * times > 5000:
            continue
        now = int(b.g.add_node(op, inputs, attrs, f"{op}{len(values)}"))
        values.append((now, rows, columns))
        batches[now] = times
    for i in sorted(outputs):
        b.g.add_output(f"y{i}", values[i % len(values)][0])
    x = b.sample(batch)
    wanted = _native.Model(copying(b.g), 1).run(x)[: len(outputs)]
    for ours, theirs in zip(_native.Model(b.g, 1).run(x), wanted, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Inception(nn.Module):
    """Four branches; the pooled one and the reduced one have odd channel counts."""

    def __init__(self, inputs: int, out: int):
        super().__init__()
        self.a = nn.Conv2d(inputs, out, 1)
        self.b = nn.Sequential(nn.Conv2d(inputs, 6, 1), nn.ReLU(), nn.Conv2d(6, out + 5, 3, padding=1))
        self.c = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, 9, 1))
        self.d = nn.AvgPool2d(3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.relu(self.a(x)), torch.relu(self.b(x)), torch.relu(self.c(x)), self.d(x)], 1)


class Dense(nn.Module):
    """Each layer reads all before it; the block's output is all of them."""

    def __init__(self, inputs: int, growth: int, layers: int):
        super().__init__()
        sizes = range(inputs, inputs + growth * layers, growth)
        self.layers = nn.ModuleList(nn.Conv2d(size, growth, 3, padding=1) for size in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x]
        for layer in self.layers:
            parts.append(torch.relu(layer(torch.cat(parts, 1))))
        return torch.cat(parts, 1)


NETS: dict[str, Callable[[], list[nn.Module]]] = {
    "inception": lambda: [Inception(16, 8), nn.MaxPool2d(3, 2), Inception(46, 19), nn.Conv2d(98, 4, 1)],
    "densenet": lambda: [Dense(16, 7, 3), nn.Conv2d(37, 20, 1), nn.AvgPool2d(2), Dense(20, 5, 2), nn.Conv2d(30, 4, 1)],
}


@pytest.mark.parametrize("name", NETS)
def test_networks_of_concats(name: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), *NETS[name]()).eval()
    x = torch.randn(16, 3, 23, 21)
    model = taille.TorchModel(net, (x[:2],), calibration_data=x.split(8))
    small = taille.quantize_model(model, "int8")
    exact = model.predict(x[:5])
    assert ((small.predict(x[:5]) - exact) ** 2).sum() < 0.01 * (exact**2).sum()
    assert [n["op"] for n in small.graph.nodes if n["op"] == "concat" and n["dtype"] != "uint8"] == []
    for graph, batch in itertools.product((small.graph, taille.compile_model(model).graph), (1, 4)):
        check_equal_to_copies(graph, {small.input_spec[0].name: x[:batch].numpy()}, (1, 2))


def concat_net() -> Net:
    n = Net(3, 7, 6)
    stem = n.conv(n.x, "stem", 8, 3)
    joined = n.g.add_node("concat", [n.conv(stem, f"c{k}", k, 8, 1) for k in (5, 7)], {"axis": 1}, "joined")
    return n.finish(n.conv(joined, "last", 4, 12))


def test_calibration_sees_each_value_by_itself() -> None:
    n = concat_net()
    calibrator = _native.Calibrator(n.graph, 1)
    calibrator.run({"x": n.sample(3)})
    every = copying(n.graph)
    names = [node["name"] for node in n.graph.nodes]
    values = dict(zip(names, _native.Model(every, 1).run({"x": n.sample(3)})[1:], strict=True))
    ranges = calibrator.ranges("minmax")
    for name in names:
        assert ranges[name] == (values[name].min(), values[name].max()), name


def test_measured_errors_see_each_value_by_itself() -> None:
    n = concat_net()
    graph, _ = n.quantized()
    x = {"x": n.sample(3, seed=9)}
    errors = _native.NetworkErrors(n.graph, graph, 1)
    errors.run(x)
    nodes = [node["name"] for node in graph.nodes]
    scale, zero = graph.dump().split("# c5\n")[0].split()[-3:][0::2]
    bytes_ = dict(zip(nodes, _native.Model(copying(graph), 1).run(x)[1:], strict=True))["c5"]
    ours = (bytes_.astype(np.float64) - float(zero)) * float(scale)
    floats = [node["name"] for node in n.graph.nodes]
    exact = dict(zip(floats, _native.Model(copying(n.graph), 1).run(x)[1:], strict=True))["c5"].astype(np.float64)
    wanted = 10 * np.log10((exact**2).sum() / ((ours - exact) ** 2).sum())
    assert errors.sqnr_db()["c5"] == pytest.approx(wanted, abs=0.1)
