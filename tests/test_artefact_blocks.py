"""Constants of int8 and of floats stored by the blocks of them that are not zero."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from artefact_files import File, assert_same, load, mlp, pruned, take_apart
from taille import _native
from taille.errors import ArtefactError


def weight(n: int, k: int, rows: int, kept: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = rng.random((n // rows, k // 4)) < kept
    return rng.integers(1, 128, (n, k), np.int8) * np.repeat(np.repeat(mask, rows, 0), 4, 1)


DTYPES = ["int8", "float32", "float16"]
VERSIONS = {"int8": "5", "float32": "6", "float16": "6"}


def graph_with(w: np.ndarray) -> _native.Graph:
    graph = mlp()
    graph.add_constant("w", w)
    return graph


def stored(w: np.ndarray) -> tuple[int, int]:
    """Rows of a block (0: whole) and bytes of the tensor in the file."""
    parts = take_apart(_native.serialize(graph_with(w)))
    (value,) = [v for v in parts.graph["values"] if v["name"] == "w"]
    begin, end = parts.table["w"]["data_offsets"]
    return value.get("blocks", 0), end - begin


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_in_the_smallest_form(rows: int, kept: float, dtype: str) -> None:
    w = weight(64, 96, rows, kept).astype(dtype)
    graph = graph_with(w)
    assert_same(load(_native.serialize(graph)), graph)
    form, size = stored(w)
    assert form == (rows if kept else 4)
    blocks, kept_blocks = w.size // (form * 4), int(w.reshape(64 // form, form, 24, 4).any((1, 3)).sum())
    assert size == (blocks + 7) // 8 + 4 * form * kept_blocks * w.itemsize


@pytest.mark.parametrize(("dtype", "most"), [("int8", 0.30), ("float32", 0.27), ("float16", 0.28)])
def test_a_quarter_of_the_blocks_takes_little_more_of_the_bytes(dtype: str, most: float) -> None:
    w = weight(256, 256, 4, 0.25).astype(dtype)
    assert stored(w)[1] <= most * w.nbytes


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_blocks_of_floats_need_the_newest_version(dtype: str) -> None:
    parts = take_apart(_native.serialize(graph_with(weight(64, 96, 4, 0.1).astype(dtype))))
    assert parts.format == VERSIONS[dtype]
    parts.format = "56"["6" not in parts.format]
    with pytest.raises(ArtefactError, match="it says format version"):
        load(parts.bytes())


def test_tensors_behind_blocks_of_floats_are_aligned() -> None:
    graph = graph_with(weight(4, 12, 4, 0.5).astype(np.float32))  # a map of one byte
    graph.add_constant("half", np.ones((3, 3), np.float16))
    graph.add_constant("wide", np.ones((3, 3), np.float32))
    parts = take_apart(_native.serialize(graph))
    assert (parts.table["w"]["data_offsets"][1] - parts.table["w"]["data_offsets"][0]) % 2
    for name, entry in parts.table.items():
        assert entry["data_offsets"][0] % {"F32": 4, "F16": 2, "U8": 1}[entry["dtype"]] == 0, name
    assert_same(load(parts.bytes()), graph)


def test_negative_zeros_are_kept() -> None:
    w = weight(64, 96, 4, 0.1).astype(np.float32)
    w[:4, :4] = -0.0
    graph = graph_with(w)
    assert_same(load(_native.serialize(graph)), graph)
    assert stored(w)[0] == 4
    assert stored(np.where(w == 0, np.float32(-0.0), w)) == (0, w.nbytes)


@pytest.mark.parametrize(
    "w",
    [
        weight(64, 96, 1, 0.95),  # the map would cost more
        weight(64, 96, 4, 0.1)[:, :94],  # no multiple of 4 inputs
        np.zeros(64, np.int8),
        np.zeros((0, 8), np.int8),
        weight(64, 96, 4, 0.1).astype(np.uint8),
        weight(64, 96, 4, 0.1).astype(np.int64),
    ],
    ids=["few zeros", "odd inputs", "a vector", "empty", "uint8", "int64"],
)
def test_all_else_is_stored_whole(w: np.ndarray) -> None:
    assert stored(w) == (0, w.nbytes)
    assert_same(load(_native.serialize(graph_with(w))), graph_with(w))


def test_convolutions_and_layers_together() -> None:
    graph = pruned()
    graph.add_constant("conv", weight(8, 72, 4, 0.3).reshape(8, 3, 3, 8))
    again = load(_native.serialize(graph))
    assert_same(again, graph)
    x = {"x": np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)}
    np.testing.assert_array_equal(_native.Model(again, 1).run(x)[0], _native.Model(graph, 1).run(x)[0])


def set_blocks(value: object) -> Callable[[File], None]:
    def change(parts: File) -> None:
        next(v for v in parts.graph["values"] if v["name"] == "w")["blocks"] = value

    return change


def set_byte(at: int, value: int) -> Callable[[File], None]:
    def change(parts: File) -> None:
        begin = parts.table["w"]["data_offsets"][0]
        data = bytearray(parts.data)
        data[begin + at] = value
        parts.data = bytes(data)

    return change


def resize(parts: File) -> None:
    next(v for v in parts.graph["values"] if v["name"] == "w")["shape"] = [64, 2**40]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_blocks(3), "blocks of 3 outputs; wanted 1, 2 or 4"),
        (set_blocks(0), "blocks of 0 outputs"),
        (set_blocks(-4), "blocks of -4 outputs"),
        (set_blocks("4"), "blocks is not an integer"),
        (set_blocks(2), "wanted"),
        (set_byte(0, 0xFF), "bytes; wanted"),  # more blocks than there are bytes of
        (resize, "too large|shorter than the map"),
    ],
    ids=["3", "0", "-4", "text", "2", "map", "huge"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_damage_is_refused(change: Callable[[File], None], message: str, dtype: str) -> None:
    parts = take_apart(_native.serialize(graph_with(weight(64, 96, 4, 0.1).astype(dtype))))
    change(parts)
    with pytest.raises(ArtefactError, match=message):
        load(parts.bytes())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stored_block_of_zeros_is_refused(dtype: str) -> None:
    w = weight(64, 96, 4, 0.1).astype(dtype)
    parts = take_apart(_native.serialize(graph_with(w)))
    end = parts.table["w"]["data_offsets"][1]
    data = bytearray(parts.data)
    data[end - 16 * w.itemsize : end] = bytes(16 * w.itemsize)
    parts.data = bytes(data)
    with pytest.raises(ArtefactError, match="a block of zeros"):
        load(parts.bytes())


@pytest.mark.parametrize(("dtype", "stored_as", "version"), [("int8", "I8", "1"), ("float16", "F16", "2")])
def test_plain_zeros_of_older_files_still_load(dtype: str, stored_as: str, version: str) -> None:
    w = weight(64, 96, 4, 0.1).astype(dtype)
    graph = graph_with(w)
    parts = take_apart(_native.serialize(graph))
    value = next(v for v in parts.graph["values"] if v["name"] == "w")
    del value["blocks"]
    begin, end = parts.table["w"]["data_offsets"]
    others = len(parts.data) - end
    assert others == 0  # w lies last
    parts.data = parts.data[:begin] + w.tobytes()
    parts.table["w"] = {"dtype": stored_as, "shape": [64, 96], "data_offsets": [begin, begin + w.nbytes]}
    parts.format = version
    assert_same(load(parts.bytes()), graph)
