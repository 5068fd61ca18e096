"""Artefacts to test with: graphs, and a second reader and writer of the format, made from its specification."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from taille import _native

STORED = {"float32": "F32", "uint8": "U8", "int8": "I8", "int32": "I32", "int64": "I64", "bool": "BOOL"} | {
    "float16": "F16",
    "uint16": "BF16",  # numpy has no bfloat16; Graph.constants gives its bits
}


@dataclass
class File:
    """The parts of a file. `graph` is JSON data, or text to be stored as it is."""

    graph: Any
    table: dict[str, Any]
    data: bytes
    format: str = "1"
    crc: str | None = None  # None: the right one
    metadata: dict[str, Any] = field(default_factory=dict)

    def graph_text(self) -> str:
        return self.graph if isinstance(self.graph, str) else json.dumps(self.graph)

    def bytes(self) -> bytes:
        text = self.graph_text()
        crc = self.crc
        if crc is None:
            crc = f"{_native.crc32c(text.encode() + self.data):08x}"
        ours = {"taille.format": self.format, "taille.graph": text, "taille.crc32c": crc}
        return with_header(json.dumps({"__metadata__": {**ours, **self.metadata}, **self.table}), self.data)


def with_header(header: str, data: bytes) -> bytes:
    raw = header.encode()
    raw += b" " * (-(8 + len(raw)) % 64)
    return struct.pack("<Q", len(raw)) + raw + data


def take_apart(blob: bytes) -> File:
    (length,) = struct.unpack("<Q", blob[:8])
    table = json.loads(blob[8 : 8 + length])
    metadata = table.pop("__metadata__")
    graph = json.loads(metadata.pop("taille.graph"))
    del metadata["taille.crc32c"]
    return File(graph, table, blob[8 + length :], metadata.pop("taille.format"), None, metadata)


def table_of(constants: dict[str, np.ndarray[Any, Any]]) -> tuple[dict[str, Any], bytes]:
    """The tensor table and the data: wide elements first, else as given."""
    table, data = {}, b""
    for name, array in sorted(constants.items(), key=lambda item: -item[1].dtype.itemsize):
        end = len(data) + array.nbytes
        table[name] = {"dtype": STORED[array.dtype.name], "shape": list(array.shape), "data_offsets": [len(data), end]}
        data += array.tobytes()
    return table, data


def ramp(*shape: int) -> np.ndarray[Any, Any]:
    """Small eighths: sums of their products are exact in float32, so any order of summation gives the same bits."""
    return ((np.arange(np.prod(shape)) * 7 % 31 - 15) / 8).astype(np.float32).reshape(shape)


def mlp() -> Any:
    g = _native.Graph()
    y = g.add_input("x", "float32", ["batch", 6])
    for i, (inner, outer) in enumerate([(6, 5), (5, 4), (4, 3)]):
        weight = g.add_constant(f"layers.{i}.weight", ramp(outer, inner))
        bias = g.add_constant(f"layers.{i}.bias", ramp(outer) / 2)
        y = g.add_node("linear", [y, weight, bias], {"lo": 0.0} if i < 2 else {}, f"layers.{i}", f"mlp.py:{10 + i}")
    g.add_output("scores", y)
    return g


def int8_conv() -> Any:
    """A convolution and its pooling in int8, the rest in float."""
    g = _native.Graph()
    x = g.add_input("image", "float32", ["batch", 4, 6, 6])
    weight, bias = g.add_constant("conv.weight", ramp(8, 4, 3, 3)), g.add_constant("conv.bias", ramp(8))
    attrs = {"stride": [2, 2], "padding": [1, 1, 1, 1], "lo": 0.0, "hi": 6.0}
    y = g.add_node("conv2d", [x, weight, bias], attrs, "conv")
    y = g.add_node("max_pool2d", [y], {"kernel": [2, 2]}, "pool")
    g.add_output("features", y)
    g = _native.optimize(g)[0]
    names = [g.inputs[0][0], *(node["name"] for node in g.nodes)]
    return _native.quantize(g, dict.fromkeys(names, (-1.0, 6.0)))[0]


def half(dtype: str) -> Any:
    """An embedding, a convolution and a linear layer on 16-bit weights, and a linear layer left alone."""
    g = _native.Graph()
    ids, image = g.add_input("ids", "int64", ["batch", 6]), g.add_input("image", "float32", ["batch", 3, 6, 6])
    words = g.add_node("embedding", [g.add_constant("table", ramp(9, 8)), ids], {}, "embedding")
    kernel, bias = g.add_constant("conv.weight", ramp(8, 3, 3, 3)), g.add_constant("conv.bias", ramp(8))
    y = g.add_node("conv2d", [image, kernel, bias], {"padding": [1, 1, 1, 1], "lo": 0.0}, "conv")
    y = g.add_node("mean", [y], {"axes": [3]}, "mean")
    y = g.add_node("permute", [y], {"axes": [0, 2, 1]}, "permute")
    y = g.add_node("add", [y, words], {}, "sum")
    y = g.add_node("linear", [y, g.add_constant("first.weight", ramp(5, 8))], {}, "first")
    y = g.add_node(
        "linear", [y, g.add_constant("last.weight", ramp(4, 5)), g.add_constant("bias", ramp(4))], {}, "last"
    )
    g.add_output("y", y)
    return _native.half_weights(_native.optimize(g)[0], dtype, ["embedding", "conv", "first"])[0]


def float16() -> Any:
    """The graph of `half`."""
    return half("float16")


def bfloat16() -> Any:
    """The graph of `half`."""
    return half("bfloat16")


def int8_table() -> Any:
    """An embedding on an int8 table, and the int8 linear layer that decodes with the same weights."""
    g = _native.Graph()
    ids, table = g.add_input("ids", "int64", ["batch", 6]), g.add_constant("table", ramp(9, 8))
    words = g.add_node("embedding", [table, ids], {}, "embedding")
    g.add_output("scores", g.add_node("linear", [words, table, g.add_constant("bias", ramp(9))], {}, "decode"))
    return _native.quantize(g, {"embedding": (-2.0, 2.0)}, weight_clipping="mse")[0]


def byte_norm() -> Any:
    """A layer_norm that writes uint8 for the int8 linear layer behind it, and one that stays float32."""
    g = _native.Graph()
    x, gamma, beta = g.add_input("x", "float32", ["batch", 8]), g.add_constant("gamma", ramp(8)), -1
    attrs = {"axes": 1, "epsilon": 1e-5}
    y = g.add_node("layer_norm", [x, gamma, beta], attrs, "norm")
    y = g.add_node("linear", [y, g.add_constant("weight", ramp(5, 8)), g.add_constant("bias", ramp(5))], {}, "fc")
    g.add_output("y", g.add_node("layer_norm", [y], attrs, "last"))
    return _native.quantize(g, {"norm": (-2.0, 2.0)})[0]


def rms_norm() -> Any:
    """An rms_norm that stays float32."""
    g = _native.Graph()
    x, gamma = g.add_input("x", "float32", ["batch", "rows", 8]), g.add_constant("gamma", ramp(8))
    g.add_output("y", g.add_node("rms_norm", [x, gamma], {"epsilon": 1e-6}, "norm"))
    return g


def pruned() -> Any:
    """int8 layers that lost blocks of 4 x 4 and of 2 x 4, all of them, and too few to tell."""
    g = _native.Graph()
    y = g.add_input("x", "float32", ["batch", 32])
    names = []
    for i, (rows, kept) in enumerate([(4, 4), (2, 5), (1, 0), (4, 15)]):
        weight = ramp(32, 32) + np.float32(0.01)
        block = np.arange(32 // rows)[:, None] * 8 + np.arange(8)[None]
        mask = np.repeat(np.repeat(block * 7 % 16 < kept, rows, 0), 4, 1)
        y = g.add_node("linear", [y, g.add_constant(f"w{i}", weight * mask)], {}, f"fc{i}")
        names.append(f"fc{i}")
    g.add_output("y", y)
    return _native.quantize(g, dict.fromkeys(["x", *names], (-4.0, 6.0)))[0]


def pruned_floats() -> Any:
    """Layers on float32 and float16 weights that lost blocks, and one that did not."""
    g = _native.Graph()
    y = g.add_input("x", "float32", ["batch", 24])
    for i, kept in enumerate([4, 4, 16]):
        mask = np.arange(36).reshape(6, 6) * 7 % 16 < kept
        weight = (ramp(24, 24) + np.float32(0.01)) * np.repeat(np.repeat(mask, 4, 0), 4, 1)
        y = g.add_node(
            "linear", [y, g.add_constant(f"w{i}", weight + 0), g.add_constant(f"b{i}", ramp(24))], {}, f"fc{i}"
        )
    g.add_output("y", y)
    return _native.half_weights(g, "float16", ["fc1"])[0]


def everything() -> Any:
    """Every type of attribute and of constant, symbols, absent inputs, empty tensors, names from everywhere."""
    g = _native.Graph()
    image = g.add_input("Bild", "float32", ["batch", 3, "height", 8])
    ids = g.add_input("标识", "int64", ["batch", "sequence"])
    kernel, table = g.add_constant("poids «é»", ramp(4, 3, 3, 3)), g.add_constant("таблица/🙂", ramp(9, 4))
    gamma = g.add_constant('"quoted\\" \u00a0\u2028', ramp(4))
    conv = g.add_node("conv2d", [image, kernel, -1], {"stride": [2, 2], "padding": [1, 1, 1, 1], "lo": -0.0}, "conv")
    pooled = g.add_node("mean", [conv], {"axes": [2, 3], "keepdim": False}, "mean", "模型.py:7")
    words = g.add_node("embedding", [table, ids], {}, "embedding")
    norm = g.add_node("layer_norm", [words, gamma], {"axes": 1, "epsilon": 1e-12}, "norm")
    flat = g.add_node("reshape", [norm], {"shape": ["batch", "4*sequence"]}, "flat")
    step = g.add_node("arange", [], {"length": ["sequence"], "start": -(2**63), "step": 2**63 - 1}, "steps")
    fill = g.add_node("full", [], {"shape": ["batch", 0], "value": -np.inf, "dtype": "float32"}, "fill")
    for name, value in {
        "u8": np.arange(5, dtype=np.uint8),
        "s8": np.arange(-3, 4, dtype=np.int8),
        "s32": np.array([[-(2**31)], [2**31 - 1]], np.int32),
        "s64": np.array([-(2**63), 2**63 - 1]),
        "bool": np.array([True, False, True]),
        "scalar": np.float32(np.nan).reshape(()),
        "empty": np.zeros((0, 3), np.int64),
        "empty.too": np.zeros((2, 0), np.float32),
    }.items():
        g.add_constant(name, np.asarray(value))
    for name, value in {"pooled": pooled, "flat": flat, "Ω": step, "fill": fill, "same": pooled}.items():
        g.add_output(name, value)
    g.output_structure = "dict"
    return g


def load(blob: bytes) -> Any:
    """The graph in these bytes."""
    return _native.deserialize(blob)[0]


def one_node(op: str, attrs: dict[str, Any]) -> Any:
    """A graph of a node that has no inputs."""
    g = _native.Graph()
    g.add_output("y", g.add_node(op, [], attrs, "node"))
    return g


def assert_same(a: Any, b: Any) -> None:
    """All that can be seen of two graphs is the same, bit for bit."""
    assert a.dump() == b.dump()
    assert (a.inputs, a.outputs, a.output_structure) == (b.inputs, b.outputs, b.output_structure)
    assert repr(a.nodes) == repr(b.nodes)  # repr tells 0.0 from -0.0 and 1 from True
    constants, others = a.constants(), b.constants()
    assert list(constants) == list(others)
    for name, array in constants.items():
        assert (array.dtype, array.shape) == (others[name].dtype, others[name].shape)
        assert array.tobytes() == others[name].tobytes()
    assert _native.serialize(a) == _native.serialize(b)


# A node of each op that a graph of float32 can hold: inputs as shapes, or as (dtype, shape); constants as arrays.
Input = list[int | str] | tuple[str, list[int | str]] | np.ndarray[Any, Any] | None
IMAGE: Input = ["batch", 4, 8, 9]
ROWS: Input = ["batch", "sequence", 8]
FLAGS: Input = ("bool", ["batch", 8])
UNARY = [
    "neg",
    "abs",
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "tanh",
    "sigmoid",
    "silu",
    "erf",
    "gelu",
    "gelu_tanh",
    "hardswish",
    "hardsigmoid",
    "clamp",
]
NODES: dict[str, tuple[list[Input], dict[str, Any]]] = {
    "linear": ([ROWS, ramp(3, 8), ramp(3)], {}),
    "conv2d": ([IMAGE, ramp(6, 2, 3, 3), ramp(6)], {"groups": 2, "stride": [2, 1], "padding": [1, 0, 1, 2]}),
    "batch_norm": ([IMAGE, ramp(4), ramp(4), ramp(4), ramp(4)], {"epsilon": 1e-5}),
    "max_pool2d": ([IMAGE], {"kernel": [3, 2], "stride": [2, 2], "padding": [1, 1, 1, 1]}),
    "avg_pool2d": ([IMAGE], {"kernel": [3, 2], "stride": [2, 2], "padding": [1, 1, 1, 1], "divisor": 4}),
    "adaptive_avg_pool2d": ([IMAGE], {"output_size": [2, 3]}),
    "mean": ([IMAGE], {"axes": [3, 1], "keepdim": True}),
    "where": ([FLAGS, ["batch", 8], [8]], {}),
    "cast": ([ROWS], {"dtype": "int64"}),
    "softmax": ([ROWS], {"axis": -1}),
    "layer_norm": ([ROWS, ramp(8), ramp(8)], {"axes": 1, "epsilon": 1e-5}),
    "rms_norm": ([ROWS, ramp(8)], {"axes": 1, "epsilon": 1e-5}),
    "embedding": ([ramp(5, 4), ("int64", ["batch", "sequence"])], {}),
    "matmul": ([["batch", 3, "sequence"], ["sequence", 4]], {}),
    "sdpa": ([ROWS, ROWS, ROWS, ("bool", ["batch", 1, "sequence"])], {"scale": 0.5, "causal": True}),
    "reshape": ([ROWS], {"shape": ["batch*sequence", 2, 4]}),
    "permute": ([IMAGE], {"axes": [0, 2, 3, 1]}),
    "expand": ([["batch", 1, 8]], {"shape": [2, "batch", "sequence", 8]}),
    "slice": ([IMAGE], {"axis": 3, "start": [1], "length": [4], "step": 2}),
    "gather": ([ROWS, ("int64", ["batch", "sequence", 3])], {"axis": 2}),
    "index": ([ROWS, ("int64", ["batch", 1]), ("int64", [4])], {}),
    "concat": ([ROWS, ["batch", 3, 8], ROWS], {"axis": 1}),
    "pad": ([IMAGE], {"before": [0, 1, 2, 3], "after": [3, 2, 1, 0], "value": -1.0}),
    "arange": ([], {"start": 3, "step": 2, "length": ["2*batch"]}),
    "full": ([], {"shape": ["batch", 3], "value": 1.5, "dtype": "float32"}),
    "logical_not": ([FLAGS], {}),
    **{op: ([IMAGE], {}) for op in UNARY},
    **{
        op: ([IMAGE, [4, 1, 9]], {})
        for op in ["add", "sub", "mul", "div", "minimum", "maximum", "pow", "eq", "ne", "lt", "le", "gt", "ge"]
    },
    **{op: ([FLAGS, FLAGS], {}) for op in ["logical_and", "logical_or"]},
}


def node(op: str) -> Any:
    """A graph of this one node; its extra input brings the symbols that the node itself may lack."""
    g = _native.Graph()
    g.add_input("symbols", "float32", ["batch", "sequence"])
    inputs, attrs = NODES[op]
    ids = []
    for i, what in enumerate(inputs):
        if isinstance(what, np.ndarray):
            ids.append(g.add_constant(f"c{i}", what))
        else:
            dtype, shape = what if isinstance(what, tuple) else ("float32", what)
            ids.append(g.add_input(f"x{i}", dtype, shape))
    g.add_output("y", g.add_node(op, ids, attrs, op))
    return g


def byte_table() -> File:
    """quantize, lookup, dequantize: only the file format can say what these need."""
    u8 = {"dtype": "uint8", "shape": ["batch", 4], "quant": [0.5, 3]}
    table = np.arange(256, dtype=np.uint8)
    x = {"name": "x", "dtype": "float32", "shape": ["batch", 4]}
    names = ["quantize", "lookup", "dequantize"]
    graph = {
        "values": [
            *[x, {"name": "q", **u8}, {"name": "table", "dtype": "uint8", "shape": [256], "constant": True}],
            *[{"name": "l", **u8}, {**x, "name": "y"}],
        ],
        "nodes": [
            {"op": op, "name": op, "inputs": inputs, "output": output}
            for op, inputs, output in zip(names, [[0], [1, 2], [3]], [1, 3, 4], strict=True)
        ],
        "inputs": [0],
        "outputs": [4],
        "output_names": ["y"],
        "output_structure": "tuple",
    }
    return File(graph, *table_of({"table": table}))
