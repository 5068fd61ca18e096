"""Hostile artefacts: whatever the bytes, loading ends in ArtefactError or in a graph that is sound; never in a crash.

Flips and splices of raw bytes rarely get past the checksum, so most of this changes the parts of a file (the graph, the
tensor table, the text of the JSON) and puts them together again with the right checksum.
"""

from __future__ import annotations

import copy
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artefact_files import (
    NODES,
    File,
    assert_same,
    bfloat16,
    byte_norm,
    byte_table,
    everything,
    float16,
    int8_conv,
    int8_table,
    mlp,
    node,
    pruned,
    pruned_floats,
    take_apart,
    with_header,
)
from support import output_of
from taille import _native
from taille.errors import ArtefactError

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
FILES = [
    _native.serialize(make(), "{}")
    for make in (mlp, int8_conv, everything, float16, bfloat16, int8_table, byte_norm, pruned, pruned_floats)
]
PARTS = [take_apart(blob) for blob in FILES]
many = settings(max_examples=150 if SANITIZED else 400, deadline=None)
place = st.integers(0, 9999).map(lambda n: (n + 5000) * 7919 % 9973 / 9973)  # evenly, as what is first is drawn often


def load_or_refuse(blob: bytes) -> bool:
    """Load these bytes. Anything but a sound graph or an ArtefactError of readable length fails the test."""
    try:
        graph, metadata = _native.deserialize(blob)
    except ArtefactError as error:
        message = str(error)
    else:
        graph.validate()
        graph.dump()
        again, same = _native.deserialize(_native.serialize(graph, metadata))
        assert same == metadata
        assert_same(again, graph)
        return True
    assert message.startswith("<bytes>: ")
    assert len(message) < 1200
    assert not any(ord(c) < 32 or ord(c) == 127 for c in message)
    return False


# ---- Bytes ----

blobs = st.sampled_from(FILES)


@given(st.binary(max_size=200))
@many
def test_any_bytes(blob: bytes) -> None:
    assert not load_or_refuse(blob)
    assert not load_or_refuse(struct.pack("<Q", len(blob) + 1) + b"{" + blob)


@given(blobs, st.lists(st.tuples(place, st.integers(1, 255)), min_size=1, max_size=8))
@many
def test_changed_bytes(blob: bytes, changes: list[tuple[float, int]]) -> None:
    raw = bytearray(blob)
    for where, change in changes:
        raw[int(where * len(raw))] ^= change
    if load_or_refuse(bytes(raw)):  # then only the metadata changed, or nothing did
        assert_same(_native.deserialize(bytes(raw))[0], _native.deserialize(blob)[0])


@given(blobs, blobs, *[st.floats(0, 1)] * 3)
@many
def test_splices_and_truncations(a: bytes, b: bytes, end: float, start: float, stop: float) -> None:
    load_or_refuse(a[: int(end * len(a))] + b[int(start * len(b)) : int(stop * len(b))])


@given(blobs, st.integers(0, 2**64 - 1) | st.integers(0, 5000))
@many
def test_header_lengths(blob: bytes, length: int) -> None:
    load_or_refuse(struct.pack("<Q", length) + blob[8:])


# ---- Parts ----

int64s = [-1, 0, 1, 2, 3, 4, 7, 255, 256, 4096, 2**20, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**63)]
extents = [*int64s, 2**63]
words = [
    *["", "x", "inf", "-inf", "nan", "batch", "heap", "nhwc", "nchw", "uint8", "float32", "int64", "bool", "float64"],
    *["B", "I", "F", "S", "L", "D", "I8", "F32", "BOOL", "single", "__metadata__", "axis", "lo", "shape", "a" * 5000],
    *["F16", "BF16", "float16", "bfloat16"],
    *["batch*batch", "floor((batch)/0)", "floor((batch)/2)", "0*batch", "batch - batch", "((((", "9" * 30, "-batch"],
    *["(" * 40 + "1" + ")" * 40, "*".join(["batch"] * 100), "9223372036854775807*batch", "-9223372036854775807 - 1"],
    *["(a + b + c + d)*(a + b + c + d)*(a + b + c + d)*(a + b + c + d)*(a + b + c + d)", "a-b-c-d-e-f-g-h-i-j-k-l"],
    *["\u0000", "\u001b[2J", "\u2028", "\U0001f642"],
]
leaves = (
    st.sampled_from([*extents, *words, *_native.op_names()])
    | st.sampled_from([None, True, False, 0.0, -0.0, 0.5, 1e-300, 1e300, 5e-324, 1e39, [], {}, [1, 1], [0, 0, 0, 0]])
    | st.integers(-3, 30)
    | st.text(max_size=5)
    | st.recursive(st.sampled_from([*extents, *words]), lambda inner: st.lists(inner, max_size=5), max_leaves=20)
)
REMOVE, REPEAT, SWAP = object(), object(), object()
changes = st.lists(
    st.tuples(
        place,
        st.just(REMOVE) | st.just(REPEAT) | st.just(SWAP) | leaves,
        place,
    ),
    min_size=1,
    max_size=4,
)


def places(tree: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in the tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    out = []
    for key, value in items:
        out.append((tree, key))
        out += places(value)
    return out


def change_tree(tree: Any, what: list[tuple[float, Any, float]]) -> None:
    """Replace, remove, repeat or exchange members of the tree."""
    for where, change, other in what:
        found = places(tree)
        if not found:
            return
        container, key = found[int(where * len(found))]
        if change is REMOVE:
            del container[key]
        elif change is REPEAT and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif change is SWAP or change is REPEAT:
            target, at = found[int(other * len(found))]
            a, b = copy.deepcopy(container[key]), copy.deepcopy(target[at])
            container[key] = b
            if target is container or (target, at) in [(c, k) for c, k in places(tree) if c is target]:
                target[at] = a
        else:
            container[key] = copy.deepcopy(change)


files = st.integers(0, len(PARTS) - 1)


@given(files, changes)
@settings(many, max_examples=2000)
def test_changed_graphs(which: int, what: list[tuple[float, Any, float]]) -> None:
    parts = copy.deepcopy(PARTS[which])
    change_tree(parts.graph, what)
    load_or_refuse(parts.bytes())


@given(files, changes)
@many
def test_changed_tables(which: int, what: list[tuple[float, Any, float]]) -> None:
    parts = copy.deepcopy(PARTS[which])
    tree = {"table": parts.table, "metadata": parts.metadata}
    change_tree(tree, what)
    table, metadata = tree.get("table"), tree.get("metadata")
    if isinstance(table, dict) and isinstance(metadata, dict):
        load_or_refuse(File(parts.graph, table, parts.data, metadata=metadata).bytes())


@given(files, st.lists(st.tuples(place, place, st.text(max_size=4)), min_size=1, max_size=3))
@many
def test_changed_text(which: int, edits: list[tuple[float, float, str]]) -> None:
    parts = copy.deepcopy(PARTS[which])
    text = parts.graph_text()
    for start, length, new in edits:
        at = int(start * len(text))
        text = text[:at] + new + text[at + int(length * 10) :]
    parts.graph = text
    load_or_refuse(parts.bytes())


expressions = st.recursive(
    st.sampled_from(["batch", "height", "a", "b", "0", "1", "2", "3", "9223372036854775807"]),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["+", "-", "*", " * ", " - "]), inner).map("".join)
        | inner.map("({})".format)
        | inner.map("-{}".format)
        | st.tuples(inner, st.integers(0, 2**63)).map(lambda pair: "floor(({})/{})".format(*pair))
    ),
    max_leaves=40,
)


@given(st.lists(expressions | st.text("ab09+-*/() floor_", max_size=30), min_size=1, max_size=4))
@settings(many, max_examples=600)
@example(["(a + b + c + d + e + f + g + h)*(i + j + k + l + m + n + o + p)*batch"])
@example(["floor((" * 15 + "batch" + " + 1)/2)" * 15])
@example(["floor((-9223372036854775807 - 1)/9223372036854775807)"])
def test_dimension_texts(texts: list[str]) -> None:
    """On an input and in the shape that a reshape wants of it."""
    name = ["D", [*texts[::-1], 2]]
    graph = {
        "values": [
            {"name": "x", "dtype": "float32", "shape": [2, *texts]},
            {"name": "y", "dtype": "float32", "shape": name[1]},
        ],
        "nodes": [{"op": "reshape", "name": "y", "inputs": [0], "output": 1, "attrs": {"shape": name}}],
        "inputs": [0],
        "outputs": [1],
        "output_names": ["y"],
        "output_structure": "single",
    }
    load_or_refuse(File(graph, {}, b"").bytes())


# ---- Every op, with attributes, inputs and shapes that it does not expect ----

BYTE_TABLE = byte_table()
OPS = {op: take_apart(_native.serialize(node(op))) for op in NODES} | dict.fromkeys(
    ["quantize", "lookup", "dequantize"], BYTE_TABLE
)


def test_every_op_is_there() -> None:
    assert sorted(OPS) == _native.op_names()
    assert all(load_or_refuse(parts.bytes()) for parts in OPS.values())


number = st.sampled_from(int64s) | st.integers(-3, 9)
dim = number | st.sampled_from(["batch", "2*batch", "sequence", "floor((batch + 1)/2)"])
attribute = (
    st.tuples(st.just("L"), st.lists(number, max_size=5)).map(list)
    | st.tuples(st.just("D"), st.lists(dim, max_size=5)).map(list)
    | st.tuples(st.just("I"), number).map(list)
    | st.tuples(st.just("F"), st.sampled_from(["inf", "-inf", "nan", 0.0, 1.0, 1e300])).map(list)
    | st.tuples(st.just("B"), st.booleans()).map(list)
    | st.tuples(st.just("S"), st.sampled_from(["nchw", "nhwc", "float32", "uint8", "int64", "bool", "?"])).map(list)
)
choice = st.integers(0, 99)
pokes = st.lists(
    st.tuples(st.just("attribute"), choice, attribute)
    | st.tuples(st.just("item"), choice, st.tuples(choice, number))
    | st.tuples(st.just("shape"), choice, st.lists(dim, max_size=9))
    | st.tuples(st.just("extent"), choice, st.tuples(choice, dim))
    | st.tuples(st.just("dtype"), choice, st.sampled_from(["float32", "uint8", "int8", "int32", "int64", "bool"]))
    | st.tuples(st.just("inputs"), choice, st.lists(st.integers(-1, 6), max_size=6)),
    min_size=1,
    max_size=3,
)


def poke(graph: Any, kind: str, which: int, new: Any) -> None:
    """One change that leaves the file well-formed, so that the op's own checks have to see it."""
    change = graph["nodes"][which % len(graph["nodes"])]
    value = graph["values"][which % len(graph["values"])]
    attrs = list(change.get("attrs", {}).items())
    lists = [attr[1] for _, attr in attrs if isinstance(attr[1], list) and attr[1]]
    if kind == "attribute" and attrs:
        change["attrs"][attrs[which % len(attrs)][0]] = copy.deepcopy(new)
    elif kind == "item" and lists:
        items = lists[which % len(lists)]
        items[new[0] % len(items)] = new[1]
    elif kind == "inputs":
        change["inputs"] = list(new)
    elif kind == "extent" and value["shape"] and "constant" not in value:
        value["shape"][new[0] % len(value["shape"])] = new[1]
    elif kind in {"shape", "dtype"} and "constant" not in value:
        value[kind] = copy.deepcopy(new)


@given(st.sampled_from(sorted(OPS)), pokes)
@settings(many, max_examples=3000)
@example("slice", [("extent", 1, (3, 2**45)), ("item", 0, (0, 2**44)), ("attribute", 3, ["I", 2**40])])
def test_pokes(op: str, changes: list[tuple[str, int, Any]]) -> None:
    parts = copy.deepcopy(OPS[op])
    for change in changes:
        poke(parts.graph, *change)
    load_or_refuse(parts.bytes())


# ---- Bounds on time, stack and memory ----


def deep(opening: str, closing: str, depth: int) -> str:
    return opening * depth + closing * depth


def wide_graph(count: int) -> str:
    """A long chain of nodes."""
    shape = {"dtype": "float32", "shape": ["batch", 2]}
    nodes = [{"op": "abs", "name": f"n{i}", "inputs": [i], "output": i + 1} for i in range(count)]
    values = [{"name": f"v{i}", **shape} for i in range(count + 1)]
    rest = {"inputs": [0], "outputs": [count], "output_names": ["y"], "output_structure": "single"}
    return json.dumps({"values": values, "nodes": nodes, **rest})


def growing_graph(levels: int) -> str:
    """Each level's extent says that of the one before twice: 2^levels characters, were they written out."""
    g = _native.Graph()
    x = g.add_input("x", "float32", [1, 1, "h", 8])
    for _ in range(levels):
        half = g.add_node("max_pool2d", [x], {"kernel": [2, 2], "stride": [2, 1]})
        other = g.add_node("max_pool2d", [x], {"kernel": [3, 2], "stride": [2, 1]})
        x = g.add_node("concat", [half, other], {"axis": 2})
        if len(str(g.value(x)[2])) > 3000:
            break
    g.add_output("y", x)
    return json.dumps(take_apart(_native.serialize(g)).graph)


def names_graph(count: int) -> str:
    values = [{"name": f"v{i}", "dtype": "float32", "shape": [f"s{i}_{j}" for j in range(8)]} for i in range(count)]
    rest = {"inputs": list(range(count)), "outputs": [0], "output_names": ["y"], "output_structure": "single"}
    return json.dumps({"values": values, "nodes": [], **rest})


def shapes_graph(count: int) -> str:
    big = {"dtype": "float32", "shape": [2**45] * 8}
    return json.dumps({"values": [{"name": f"v{i}", **big} for i in range(count)], "nodes": []})


HEAVY: dict[str, Callable[[], bytes]] = {
    "deep arrays": lambda: File(deep("[", "]", 1_000_000), {}, b"").bytes(),
    "deep objects": lambda: File(deep('{"a":', "}", 1_000_000), {}, b"").bytes(),
    "a deep header": lambda: with_header('{"a":' * 1_000_000, b""),
    "many zeros": lambda: File("[" + "0," * 10_000_000 + "0]", {}, b"").bytes(),
    "many arrays": lambda: File("[" + "[]," * 5_000_000 + "0]", {}, b"").bytes(),
    "many objects": lambda: File("[" + '{"a":{}},' * 3_000_000 + "0]", {}, b"").bytes(),
    "many keys": lambda: File("{" + ",".join(f'"{i}":0' for i in range(700_000)) + "}", {}, b"").bytes(),
    "a long string": lambda: File('"' + "a" * 40_000_000 + '"', {}, b"").bytes(),
    "a long number": lambda: File("1" * 20_000_000, {}, b"").bytes(),
    "escapes": lambda: File('"' + "\\u0041" * 4_000_000 + '"', {}, b"").bytes(),
    "a header of spaces": lambda: with_header("{" + " " * 60_000_000 + "}", b""),
    "a header too long": lambda: with_header("{" + " " * 70_000_000 + "}", b""),
    "many tensors": lambda: with_header(
        json.dumps({"__metadata__": {"taille.format": "1", "taille.graph": "", "taille.crc32c": ""}})[:-1]
        + "".join(f',"{i}":{{"dtype":"I64","shape":[0],"data_offsets":[0,0]}}' for i in range(200_000))
        + "}",
        b"",
    ),
    "huge tensors": lambda: with_header(
        json.dumps(
            {
                "__metadata__": {"taille.format": "1", "taille.graph": "{}", "taille.crc32c": ""},
                "a": {"dtype": "I64", "shape": [2**40], "data_offsets": [0, 2**43]},
            }
        ),
        b"",
    ),
    "huge shapes": lambda: File(shapes_graph(10_000), {}, b"").bytes(),
    "many names": lambda: File(names_graph(30_000), {}, b"").bytes(),
    "many nodes": lambda: File(wide_graph(60_000), {}, b"").bytes(),
    "too many nodes": lambda: File(wide_graph(300_000), {}, b"").bytes(),
    "growing extents": lambda: File(growing_graph(40), {}, b"").bytes(),
}


@pytest.mark.parametrize("name", HEAVY)
def test_time_is_bounded(name: str) -> None:
    blob = HEAVY[name]()
    start = time.perf_counter()
    try:
        _native.deserialize(blob)
    except ArtefactError:
        assert name not in {"many nodes", "growing extents"}
    assert time.perf_counter() - start < (60 if SANITIZED else 20)


@pytest.mark.skipif(SANITIZED, reason="the sanitizer's own memory is larger")
def test_memory_is_bounded() -> None:
    """Beside the file itself, at most half a gigabyte, whatever the file claims."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_artefact_fuzz as fuzz
from taille import _native
from taille.errors import ArtefactError
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
for name in sys.argv[1:] or fuzz.HEAVY:
    if name in ("many names", "too many nodes"):
        continue  # making them takes more memory than reading them
    blob = fuzz.HEAVY[name]()
    before = peak()
    try:
        _native.deserialize(blob)
    except ArtefactError:
        pass
    if peak() - before > 512e6:
        print(name, peak() - before)
"""
    assert output_of(code) == ""


def test_a_slice_whose_reach_overflows() -> None:
    """(length - 1) * step is 2^64, which is 0 where nobody looks."""
    parts = copy.deepcopy(OPS["slice"])
    length = 2**24 + 1
    x = next(value for value in parts.graph["values"] if value["name"] == "x0")
    x["shape"] = ["batch", 4, 8, length]
    parts.graph["values"][-1]["shape"] = x["shape"]
    parts.graph["nodes"][0]["attrs"] |= {"start": ["D", [0]], "length": ["D", [length]], "step": ["I", 1]}
    assert load_or_refuse(parts.bytes())
    parts.graph["nodes"][0]["attrs"]["step"] = ["I", 2**40]
    assert not load_or_refuse(parts.bytes())
    parts.graph["nodes"][0]["attrs"] |= {"length": ["D", [-(2**63)]], "step": ["I", 1]}
    assert not load_or_refuse(parts.bytes())
