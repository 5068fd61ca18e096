"""The artefact: what is saved is loaded, any safetensors reader can open it, and a failed save harms nothing."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from artefact_files import (
    assert_same,
    bfloat16,
    byte_norm,
    everything,
    float16,
    int8_conv,
    int8_table,
    load,
    mlp,
    one_node,
    pruned,
    pruned_floats,
    ramp,
    rms_norm,
    table_of,
    take_apart,
)
from taille import _native

GRAPHS = [mlp, int8_conv, everything, float16, bfloat16, int8_table, byte_norm, rms_norm]
GOLDEN = Path(__file__).parent / "golden"
GOLDEN_SCORES = [[-2.0576171875, -4.98046875, -7.9033203125], [-8.22509765625, 5.81591796875, 4.7958984375]]
GOLDEN_HALVES = 0xAAE1E7E1
GOLDEN_SCORES_OF_WORDS = 0xB2657C7C
GOLDEN_RMS = 0x42CB4FC7
GOLDEN_NORMS = 0x84A05AB5
GOLDEN_BLOCKS = 0xBAF62F36
GOLDEN_FLOAT_BLOCKS = 0xC1AD819D
GOLDEN_FEATURES = 0x6C6CB0AC  # the checksum of what the int8 convolution gives at every level


# ---- CRC-32C ----


def crc32c_by_bits(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_crc32c_of_rfc_3720() -> None:
    assert _native.crc32c(b"") == 0
    assert _native.crc32c(b"123456789") == 0xE3069283
    assert _native.crc32c(bytes(32)) == 0x8A9136AA
    assert _native.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert _native.crc32c(bytes(range(32))) == 0x46DD794E


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_crc32c_continues(a: bytes, b: bytes) -> None:
    assert _native.crc32c(a + b) == crc32c_by_bits(a + b)
    assert _native.crc32c(b, _native.crc32c(a)) == _native.crc32c(a + b)


# ---- Round trips ----


@pytest.mark.parametrize("make", GRAPHS)
def test_round_trip(make: Any, tmp_path: Path) -> None:
    graph, metadata = make(), '{"recipe": "né", "n": [1, 2]}'
    path = tmp_path / "modèle 🙂.taille"
    assert _native.save_artefact(path, graph, metadata) == path.stat().st_size
    assert path.read_bytes() == _native.serialize(graph, metadata)
    loaded, text = _native.load_artefact(path)
    assert text == metadata
    assert_same(graph, loaded)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_no_metadata_is_none() -> None:
    blob = _native.serialize(mlp())
    assert "taille.metadata" not in take_apart(blob).metadata
    assert _native.deserialize(blob)[1] == ""


@pytest.mark.parametrize("make", GRAPHS)
def test_a_second_implementation_of_the_format_agrees(make: Any) -> None:
    graph = make()
    parts = take_apart(_native.serialize(graph))
    table, data = table_of(graph.constants())
    assert (parts.table, list(parts.table), parts.data) == (table, list(table), data)
    assert_same(load(parts.bytes()), graph)


@pytest.mark.parametrize("make", GRAPHS)
def test_safetensors_reads_it(make: Any, tmp_path: Path) -> None:
    graph, path = make(), tmp_path / "model.safetensors"
    _native.save_artefact(path, graph, "{}")
    tensors = safetensors.torch.load_file(path)
    expected = graph.constants()
    assert tensors.keys() == expected.keys()
    for name, array in expected.items():
        given = tensors[name].view(torch.uint16) if tensors[name].dtype == torch.bfloat16 else tensors[name]
        assert (given.numpy().dtype, given.numpy().shape) == (array.dtype, array.shape)
        assert given.numpy().tobytes() == array.tobytes()
    with safetensors.safe_open(path, framework="np") as file:
        formats = {float16: "2", bfloat16: "2", int8_table: "3", byte_norm: "4", rms_norm: "4"}
        assert file.metadata()["taille.format"] == formats.get(make, "1")
        assert file.metadata()["taille.metadata"] == "{}"


@pytest.mark.parametrize("make", GRAPHS)
def test_tensors_lie_aligned(make: Any) -> None:
    blob = _native.serialize(make())
    (length,) = struct.unpack("<Q", blob[:8])
    assert (8 + length) % 64 == 0
    widths = {"F32": 4, "I32": 4, "I64": 8, "F16": 2, "BF16": 2}
    for entry in take_apart(blob).table.values():
        assert entry["data_offsets"][0] % widths.get(entry["dtype"], 1) == 0


numbers = st.floats(allow_nan=False)
integers = st.integers(-(2**63), 2**63 - 1)
dims = st.integers(1, 9) | st.sampled_from(["batch", "2*batch", "batch*batch + 1", "floor((batch + 1)/2)"])
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(numbers)
@example(math.inf)
@example(-math.inf)
@example(-0.0)
@example(5e-324)
@example(2.0**63)
def test_numbers_round_trip_to_the_bit(number: float) -> None:
    graph = one_node("full", {"shape": [1], "value": number, "dtype": "float32"})
    value = load(_native.serialize(graph)).nodes[0]["attrs"]["value"]
    assert isinstance(value, float)
    assert struct.pack("<d", value) == struct.pack("<d", number)


@given(integers, integers)
def test_integers_round_trip(start: int, step: int) -> None:
    graph = one_node("arange", {"start": start, "step": step, "length": [4]})
    assert load(_native.serialize(graph)).nodes[0]["attrs"] == {"start": start, "step": step, "length": [4]}


@given(st.lists(dims, min_size=1, max_size=5))
def test_dimensions_round_trip(shape: list[int | str]) -> None:
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", *shape])
    g.add_output("y", g.add_node("reshape", [x], {"shape": [*shape, "batch"]}))
    assert_same(load(_native.serialize(g)), g)


@given(st.lists(texts, min_size=6, max_size=6, unique=True), texts)
def test_names_round_trip(names: list[str], metadata: str) -> None:
    g = _native.Graph()
    x = g.add_input("x" + names[0], "float32", [2])
    c = g.add_constant("c" + names[1], np.ones(2, np.float32))
    g.add_output("y" + names[2], g.add_node("add", [x, c], {}, "n" + names[3], names[4]))
    loaded, text = _native.deserialize(_native.serialize(g, metadata))
    assert text == metadata
    assert_same(loaded, g)


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False, width=32), st.integers(0, 255))
def test_scales_round_trip_to_the_bit(scale: float, zero: int) -> None:
    parts = take_apart(_native.serialize(int8_conv()))
    quantised = [value for value in parts.graph["values"] if "quant" in value]
    for value in quantised:
        value["quant"] = [scale, zero]
    again = take_apart(_native.serialize(load(parts.bytes())))
    assert [v["quant"] for v in again.graph["values"] if "quant" in v] == [[scale, zero]] * len(quantised)
    assert len(quantised) == 2


def test_an_attribute_at_its_default_is_absent() -> None:
    parts = take_apart(_native.serialize(mlp()))
    attrs = [node.get("attrs", {}) for node in parts.graph["nodes"]]
    assert attrs == [{"lo": ["F", 0.0]}, {"lo": ["F", 0.0]}, {}]
    assert load(parts.bytes()).nodes[0]["attrs"]["hi"] == math.inf
    parts.graph["nodes"][0]["attrs"]["hi"] = ["F", "inf"]  # as files of older versions write it
    assert_same(load(parts.bytes()), mlp())


def test_an_attribute_that_only_resembles_its_default_is_kept() -> None:
    g = _native.Graph()
    y = g.add_node("pad", [g.add_input("x", "float32", [2])], {"before": [1], "after": [0], "value": -0.0})
    g.add_output("y", y)
    assert_same(load(_native.serialize(g)), g)


# ---- Files of released formats, kept for ever: never write these again ----


def test_golden_mlp() -> None:
    graph, metadata = _native.load_artefact(GOLDEN / "mlp_v1.safetensors")
    assert metadata == '{"made by": "taille 0.1.0"}'
    assert_same(graph, mlp())
    (scores,) = _native.Model(_native.optimize(graph)[0], 1).run({"x": ramp(2, 6)})
    assert scores.tolist() == GOLDEN_SCORES
    assert graph.dump() == (GOLDEN / "mlp_v1.txt").read_text()


def test_golden_int8_convolution() -> None:
    graph, _ = _native.load_artefact(GOLDEN / "conv_int8_v1.safetensors")
    assert graph.dump() == (GOLDEN / "conv_int8_v1.txt").read_text()
    (features,) = _native.Model(graph, 1).run({"image": ramp(2, 4, 6, 6)})
    assert features.shape == (2, 8, 2, 2)
    assert _native.crc32c(features.tobytes()) == GOLDEN_FEATURES


def test_golden_halves() -> None:
    graph, metadata = _native.load_artefact(GOLDEN / "half_v2.safetensors")
    assert metadata == '{"made by": "taille 0.1.0"}'
    assert_same(graph, _native.half_weights(float16(), "bfloat16", ["last"])[0])
    assert graph.dump() == (GOLDEN / "half_v2.txt").read_text()
    ids = np.arange(12).reshape(2, 6) % 9
    (y,) = _native.Model(graph, 1).run({"ids": ids, "image": ramp(2, 3, 6, 6)})
    assert y.shape == (2, 6, 4)
    assert _native.crc32c(y.tobytes()) == GOLDEN_HALVES


def test_golden_int8_table() -> None:
    graph, metadata = _native.load_artefact(GOLDEN / "int8_table_v3.safetensors")
    assert metadata == '{"made by": "taille 0.1.0"}'
    assert_same(graph, int8_table())
    assert graph.dump() == (GOLDEN / "int8_table_v3.txt").read_text()
    (y,) = _native.Model(graph, 1).run({"ids": np.arange(12).reshape(2, 6) % 9})
    assert y.shape == (2, 6, 9)
    assert _native.crc32c(y.tobytes()) == GOLDEN_SCORES_OF_WORDS


def test_golden_byte_norm() -> None:
    graph, metadata = _native.load_artefact(GOLDEN / "byte_norm_v4.safetensors")
    assert metadata == '{"made by": "taille 0.1.0"}'
    assert_same(graph, byte_norm())
    assert graph.dump() == (GOLDEN / "byte_norm_v4.txt").read_text()
    (y,) = _native.Model(graph, 1).run({"x": ramp(3, 8)})
    assert _native.crc32c(y.tobytes()) == GOLDEN_NORMS


def test_golden_rms_norm() -> None:
    graph, _ = _native.load_artefact(GOLDEN / "rms_norm_v4.safetensors")
    assert_same(graph, rms_norm())
    assert graph.dump() == (GOLDEN / "rms_norm_v4.txt").read_text()
    (y,) = _native.Model(graph, 1).run({"x": ramp(2, 3, 8)})
    assert _native.crc32c(y.tobytes()) == GOLDEN_RMS


@pytest.mark.parametrize(
    ("name", "graph_of", "inputs", "checksum"),
    [("blocks_v5", pruned, 32, GOLDEN_BLOCKS), ("float_blocks_v6", pruned_floats, 24, GOLDEN_FLOAT_BLOCKS)],
)
def test_golden_blocks(name: str, graph_of: Any, inputs: int, checksum: int) -> None:
    graph, metadata = _native.load_artefact(GOLDEN / f"{name}.safetensors")
    assert metadata == '{"made by": "taille 0.1.0"}'
    assert_same(graph, graph_of())
    assert graph.dump() == (GOLDEN / f"{name}.txt").read_text()
    (y,) = _native.Model(graph, 1).run({"x": ramp(3, inputs)})
    assert _native.crc32c(y.tobytes()) == checksum


# ---- What cannot be stored is refused when it is saved ----


def refused(graph: Any) -> str:
    with pytest.raises(ValueError) as error:
        _native.serialize(graph)
    return str(error.value)


def test_graphs_that_could_not_be_loaded_are_not_written(tmp_path: Path) -> None:
    twice = mlp()
    twice.add_constant("layers.0.bias", np.zeros(1, np.float32))
    assert "'layers.0.bias' is there twice" in refused(twice)
    reserved = mlp()
    reserved.add_constant("__metadata__", np.zeros(1, np.float32))
    assert "__metadata__" in refused(reserved)
    control = mlp()
    control.add_constant("a\x1b[2J", np.zeros(1, np.float32))
    assert "control character" in refused(control)
    structure = mlp()
    structure.output_structure = "heap"
    assert "'heap' is unknown" in refused(structure)
    outputs = mlp()
    outputs.add_output("scores", 3)
    assert "'scores' is there twice" in refused(outputs)
    assert "no output" in refused(_native.Graph())
    path = tmp_path / "model"
    with pytest.raises(ValueError):
        _native.save_artefact(path, twice)
    assert not path.exists()


def test_bool_bytes_are_0_or_1() -> None:
    graph = mlp()
    graph.add_constant("mask", np.array([0, 2], np.uint8).view(np.bool_))
    assert "holds a byte other than 0 and 1" in refused(graph)
