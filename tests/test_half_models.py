"""Models with 16-bit weights: the bits of float32 on the rounded weights, half the bytes, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from artefact_files import File, bfloat16, float16, half, load, mlp, table_of, take_apart
from taille import _native
from taille.capture import capture
from zoo import cifar, minilm, relative_error, resnet20, sentence_pairs, tokens
from zoo import mlp as mlp_module

TYPES = ("float16", "bfloat16")


class Mixed(nn.Module):
    """A stem, depthwise, grouped and pointwise convolutions, a linear layer of depth 1200."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.norm = nn.BatchNorm2d(24)
        self.depthwise = nn.Conv2d(24, 24, 3, 1, 1, groups=24)
        self.grouped = nn.Conv2d(24, 48, 3, 1, 1, groups=3)
        self.pointwise = nn.Conv2d(48, 75, 1)
        self.fc = nn.Linear(75 * 16, 33)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.stem(x)))
        y = self.pointwise(torch.relu(self.grouped(torch.relu(self.depthwise(y)))))
        return self.fc(y.flatten(1))


def mixed() -> taille.TorchModel:
    return taille.TorchModel(Mixed().eval(), (torch.randn(2, 3, 8, 8),), name="mixed")


def widened(graph: Any) -> Any:
    """The float32 graph with the values that the 16-bit weights have."""
    parts = take_apart(_native.serialize(graph))
    types = {v["name"]: v["dtype"] for v in parts.graph["values"]}
    constants = {
        name: _native.kernels.widen(array.view(np.uint16), types[name], variant="reference")
        if types[name] in TYPES
        else array
        for name, array in graph.constants().items()
    }
    for value in parts.graph["values"]:
        value["dtype"] = "float32" if value["dtype"] in TYPES else value["dtype"]
    return load(File(parts.graph, *table_of(constants)).bytes())


def check_same_bits(graph: Any, *samples: dict[str, Any]) -> None:
    wide = widened(graph)
    for inputs in samples:
        wanted = _native.Model(wide, 1).run(inputs)
        for isa in _native.supported_isas():
            for threads in (1, 2, 3):
                for given, want in zip(_native.Model(graph, threads, isa).run(inputs), wanted, strict=True):
                    np.testing.assert_array_equal(given.view(np.uint32), want.view(np.uint32), f"{isa} {threads}")


@pytest.mark.parametrize("dtype", TYPES)
def test_convolutions_have_the_bits_of_the_rounded_weights(dtype: str) -> None:
    small = taille.quantize_model(mixed(), dtype)
    assert [r.name for r in small.report] == [n["name"] for n in small.graph.nodes]
    layers = [r for r in small.report if r.precision == dtype]
    assert [r.name for r in layers] == ["stem", "depthwise", "grouped", "pointwise", "fc"]
    assert all(r.weight_sqnr_db is not None and r.weight_sqnr_db > (70 if dtype == "float16" else 50) for r in layers)
    biases = {"stem": 24, "depthwise": 24, "grouped": 48, "pointwise": 75, "fc": 33}
    assert all(r.weight_bytes_before == 2 * r.weight_bytes_after - 4 * biases[r.name] for r in layers)
    assert {r.precision for r in small.report if r not in layers} == {"float32"}
    rng = np.random.default_rng(0)
    check_same_bits(small.graph, *({"x": rng.standard_normal((n, 3, 8, 8), np.float32)} for n in (1, 5, 20)))


@pytest.mark.parametrize("dtype", TYPES)
def test_embeddings_have_the_bits_of_the_rounded_table(dtype: str) -> None:
    rng = np.random.default_rng(1)
    for n in (1, 7):
        image = rng.standard_normal((n, 3, 6, 6), np.float32)
        check_same_bits(half(dtype), {"ids": rng.integers(0, 9, (n, 6)), "image": image})
    bad = {"ids": np.array([[0, 8, 1, 9, 0, 0]]), "image": np.zeros((1, 3, 6, 6), np.float32)}
    with pytest.raises(ValueError, match=r"embedding 'embedding': id 9 at position 3 is outside \[0, 9\)"):
        _native.Model(half(dtype), 1).run(bad)


def test_the_error_of_every_node_can_be_measured() -> None:
    model = taille.TorchModel(mlp_module(8, 16, 4), (torch.ones(2, 8),), calibration_data=[torch.rand(20, 8)])
    report = taille.quantize_model(model, "bfloat16", measure_layers=True).report
    assert all(30 < r.output_sqnr_db < 80 and r.seconds_after for r in report)
    model.calibration_data = None
    with pytest.raises(ValueError, match="measure_layers needs calibration data"):
        taille.quantize_model(model, "float16", measure_layers=True)


def test_denormal_halves_count() -> None:
    net = nn.Linear(20, 3, bias=False)
    with torch.no_grad():
        net.weight.fill_(3 * 2.0**-24)
    small = taille.quantize_model(taille.TorchModel(net, (torch.ones(2, 20),)), "float16")
    for rows in (1, 30):
        np.testing.assert_array_equal(small.predict(np.ones((rows, 20), np.float32)), np.float32(60 * 2.0**-24))


def test_resnet20_is_close_and_half_the_size() -> None:
    images, _ = cifar("test", 0, 64)
    model = taille.TorchModel(resnet20(), (images[:2],), name="resnet20")
    small = taille.quantize_model(model, "float16")
    assert relative_error(small.predict(images), model.predict(images)) < 1e-3
    assert small.size_bytes < 0.55 * model.size_bytes  # a header of 20 kB on 1 MB
    assert small.metadata["recipe"] == [{"step": "quantize", "precision": "float16", "ignore": []}]
    assert (small.parent, small.input_spec, small.output_spec) == (model, model.input_spec, model.output_spec)


def test_minilm_is_close_and_half_the_size(tmp_path: Path) -> None:
    net, tokenizer = minilm()
    sentences, _, _ = sentence_pairs("sick_train.tsv", 16)
    inputs = tokens(tokenizer, sentences)
    axes = {name: {0: "batch", 1: "sequence"} for name in inputs}
    model = taille.TorchModel(net, inputs, dynamic_shapes=axes, name="MiniLM-L6")
    small = taille.quantize_model(model, "float16")
    wanted = model.predict(inputs)["last_hidden_state"]
    assert relative_error(small.predict(inputs)["last_hidden_state"], wanted) < 1e-3
    assert small.size_bytes < 0.51 * model.size_bytes
    path = tmp_path / "minilm"
    assert small.save(path) == small.size_bytes
    loaded = taille.load(path)
    given = loaded.predict({k: v.numpy() for k, v in inputs.items()})["last_hidden_state"]
    np.testing.assert_array_equal(given, small.predict(inputs)["last_hidden_state"].numpy())
    precisions = {n["op"]: n["precision"] for n in loaded.nodes()}
    assert (precisions["linear"], precisions["embedding"], precisions["layer_norm"]) == (
        "float16",
        "float16",
        "float32",
    )


def test_ignored_layers_stay_float32_and_say_so() -> None:
    model = taille.TorchModel(mlp_module(8, 16, 16, 4), (torch.ones(2, 8),))
    small = taille.quantize_model(model, "bfloat16", ignore=["layers.1"])
    assert [(r.name, r.precision, r.why) for r in small.report] == [
        ("layers.0", "bfloat16", ""),
        ("layers.1", "float32", "ignored by request"),
        ("layers.2", "bfloat16", ""),
    ]
    assert repr(small).endswith("2 nodes bfloat16, 1 nodes float32>")
    assert {n["name"]: n["precision"] for n in taille.compile_model(small).nodes()}["layers.1"] == "float32"
    with pytest.raises(ValueError, match=r"no node is called 'layers\.9'"):
        taille.quantize_model(model, "float16", ignore=["layers.9"])


def test_weights_beyond_float16_are_refused_by_name() -> None:
    net = mlp_module(8, 16, 4)
    with torch.no_grad():
        net.layers[1].weight[2, 3] = 65520
    model = taille.TorchModel(net, (torch.ones(2, 8),))
    with pytest.raises(ValueError, match=r"'layers\.1\.weight' holds 65520, beyond float16.*bfloat16"):
        taille.quantize_model(model, "float16")
    taille.quantize_model(model, "float16", ignore=["layers.1"])
    taille.quantize_model(model, "bfloat16")
    graph, _ = _native.optimize(capture(model).graph)
    assert (_native.half_overflows(graph, "float16"), _native.half_overflows(graph, "bfloat16")) == (["layers.1"], [])
    with torch.no_grad():
        net.layers[1].weight[2, 3] = 65519.9
    taille.quantize_model(model, "float16")
    with torch.no_grad():
        net.layers[1].weight[2, 3] = 3.4e38
    with pytest.raises(ValueError, match="beyond bfloat16's largest number"):
        taille.quantize_model(model, "bfloat16")


def test_tied_weights_are_stored_once() -> None:
    g = _native.Graph()
    table = g.add_constant("table", np.ones((5, 4), np.float32))
    x = g.add_node("embedding", [table, g.add_input("ids", "int64", ["batch"])], {}, "embed")
    g.add_output("y", g.add_node("linear", [x, table], {}, "decode"))
    both, _ = _native.half_weights(g, "float16", ["embed", "decode"])
    assert {k: v.dtype for k, v in both.constants().items()} == {"table.float16": np.float16}
    one, _ = _native.half_weights(g, "float16", ["decode"])
    assert set(one.constants()) == {"table", "table.float16"}


def test_unknown_nodes_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match="no node 'nothing' with float32 weights"):
        _native.half_weights(mlp(), "float16", ["nothing"])
    with pytest.raises(ValueError, match="dtype is int8; wanted float16 or bfloat16"):
        _native.half_weights(mlp(), "int8", [])
    assert _native.half_candidates(float16()) == ["last"]
    with pytest.raises(ValueError, match="no node 'first'"):  # already in 16 bits
        _native.half_weights(float16(), "float16", ["first"])


def refused(parts: Any, because: str) -> None:
    with pytest.raises(taille.ArtefactError, match=because):
        load(parts.bytes())


def test_halves_are_weights_and_nothing_else() -> None:
    g = _native.Graph()
    with pytest.raises(ValueError, match="graph input 'x' is float16, which only weights may be"):
        g.add_input("x", "float16", [2])
    c = g.add_constant("c", np.ones((2, 3), np.float16))
    x = g.add_input("x", "float32", [2, 3])
    attrs: dict[str, Any] = {"reshape": {"shape": [6]}, "concat": {"axis": 0}}
    for op, inputs in [("add", [x, c]), ("linear", [c, x]), ("reshape", [c]), ("concat", [c, c]), ("matmul", [x, c])]:
        with pytest.raises(ValueError, match="float16, which only constant weights"):
            g.add_node(op, inputs, attrs.get(op, {}), "n")
    for what in ("input", "output"):
        parts = take_apart(_native.serialize(mlp()))
        value = parts.graph["values"][parts.graph[what + "s"][0]]
        value["dtype"] = "float16"
        refused(parts, "float16")
    g.add_output("c", c)
    with pytest.raises(ValueError, match="graph output 0 is float16, which only weights may be"):
        g.validate()


@pytest.mark.parametrize("make", [float16, bfloat16])
def test_format_versions_are_what_the_graph_needs(make: Any) -> None:
    parts = take_apart(_native.serialize(make()))
    assert parts.format == "2"
    old = copy.deepcopy(parts)
    old.format = "1"
    refused(old, "it says format version 1, its graph is version 2")
    new = take_apart(_native.serialize(mlp()))
    new.format = "2"
    refused(new, "it says format version 2, its graph is version 1")
    parts.format = "7"
    refused(parts, "format version 7, this taille reads up to version 6")


def test_a_model_on_halves_keeps_no_float32_copy() -> None:
    net = nn.Sequential(nn.Linear(256, 8192), nn.ReLU(), nn.Linear(8192, 64))
    small = taille.quantize_model(taille.TorchModel(net.eval(), (torch.ones(2, 256),)), "float16")
    native = _native.Model(small.graph, 1)
    native.run({native.graph.inputs[0][0]: np.ones((64, 256), np.float32)})
    # the hidden activations and what one thread may widen at a time
    assert native.arena_bytes() < 64 * 8192 * 4 + 512 * 1024 + 4096
