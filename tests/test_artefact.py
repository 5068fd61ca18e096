"""The artefact: what is saved is loaded, any safetensors reader can open it, and a failed save harms nothing."""

from __future__ import annotations

import math
import os
import stat
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st

from artefact_files import assert_same, everything, int8_conv, mlp, ramp, table_of, take_apart
from support import output_of, run_python
from taille import _native
from taille.errors import ArtefactError

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_SCORES = [[-2.0576171875, -4.98046875, -7.9033203125], [-8.22509765625, 5.81591796875, 4.7958984375]]
GOLDEN_FEATURES = 0x6C6CB0AC  # the checksum of what the int8 convolution gives at every level


def load(blob: bytes) -> Any:
    return _native.deserialize(blob)[0]


def one_node(op: str, attrs: dict[str, Any], *, inputs: bool = False) -> Any:
    g = _native.Graph()
    ids = [g.add_input("x", "float32", ["batch", 4])] if inputs else []
    g.add_output("y", g.add_node(op, ids, attrs, "node"))
    return g


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


@pytest.mark.parametrize("make", [mlp, int8_conv, everything])
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


@pytest.mark.parametrize("make", [mlp, int8_conv, everything])
def test_a_second_implementation_of_the_format_agrees(make: Any) -> None:
    graph = make()
    parts = take_apart(_native.serialize(graph))
    table, data = table_of(graph.constants())
    assert (parts.table, list(parts.table), parts.data) == (table, list(table), data)
    assert_same(load(parts.bytes()), graph)


@pytest.mark.parametrize("make", [mlp, int8_conv, everything])
def test_safetensors_reads_it(make: Any, tmp_path: Path) -> None:
    graph, path = make(), tmp_path / "model.safetensors"
    _native.save_artefact(path, graph, "{}")
    tensors = safetensors.numpy.load_file(path)
    expected = graph.constants()
    assert tensors.keys() == expected.keys()
    for name, array in expected.items():
        assert (tensors[name].dtype, tensors[name].shape) == (array.dtype, array.shape)
        assert tensors[name].tobytes() == array.tobytes()
    with safetensors.safe_open(path, framework="np") as file:
        assert file.metadata()["taille.format"] == "1"
        assert file.metadata()["taille.metadata"] == "{}"


@pytest.mark.parametrize("make", [mlp, int8_conv, everything])
def test_tensors_lie_aligned(make: Any) -> None:
    blob = _native.serialize(make())
    (length,) = struct.unpack("<Q", blob[:8])
    assert (8 + length) % 64 == 0
    widths = {"F32": 4, "I32": 4, "I64": 8}
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


def test_an_attribute_that_is_absent_has_its_default() -> None:
    parts = take_apart(_native.serialize(mlp()))
    del parts.graph["nodes"][0]["attrs"]["hi"]
    assert load(parts.bytes()).nodes[0]["attrs"]["hi"] == math.inf


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


# ---- Loading says what is wrong ----


def why(blob: bytes) -> str:
    with pytest.raises(ArtefactError) as error:
        _native.deserialize(blob, "model.taille")
    message = str(error.value)
    assert message.startswith("model.taille: ")
    return message


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a PNG image"),
        (b"PK\x03\x04" + bytes(100), "a PyTorch .pt file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x02", "not a taille artefact"),
        (struct.pack("<Q", 2) + b"[]", "not a taille artefact"),
        (struct.pack("<Q", 2**63) + b"{}", "not a taille artefact"),
        (struct.pack("<Q", 3) + b"{}", "truncated"),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file, but not a taille artefact"),
        (safetensors.numpy.save({"a": np.zeros(3)}, {"format": "pt"}), "a safetensors file, but not a taille artefact"),
    ],
)
def test_other_files(blob: bytes, message: str) -> None:
    assert message in why(blob)


def test_every_truncation_is_seen() -> None:
    blob = _native.serialize(mlp(), "{}")
    assert all("truncated" in why(blob[:n]) for n in range(9, len(blob)))
    assert "its tensors end 1 byte(s) before the file does" in why(blob + b"\0")


def test_every_flipped_bit_is_seen() -> None:
    """But for those in the caller's own metadata, which no check covers."""
    blob = _native.serialize(mlp(), "{}")
    own = blob.index(b'"taille.metadata":"{}"') + len('"taille.metadata":"')
    for at in range(len(blob)):
        for bit in range(8):
            flipped = blob[:at] + bytes([blob[at] ^ 1 << bit]) + blob[at + 1 :]
            try:
                graph, _ = _native.deserialize(flipped)
            except ArtefactError:
                continue
            assert at in range(own, own + 2), f"bit {bit} of byte {at} was flipped and nothing noticed"
            assert_same(graph, mlp())


def test_newer_versions_are_refused_with_the_likely_cause() -> None:
    parts = take_apart(_native.serialize(mlp()))
    parts.format = "2"
    assert "probably saved by a newer taille: upgrade taille" in why(parts.bytes())
    for nonsense in ["", "0", "-1", "01", "1.0", " 1", "x" * 99999]:
        parts.format = nonsense
        message = why(parts.bytes())
        assert "unknown" in message
        assert len(message) < 300


def test_the_checksum_covers_the_graph_and_the_tensors() -> None:
    parts = take_apart(_native.serialize(mlp()))
    parts.crc = "00000000"
    assert "its checksum is" in why(parts.bytes())
    parts.crc = None
    parts.metadata = {"note": "of others"}
    assert "unknown metadata" in why(parts.bytes())


def with_table(change: Any) -> str:
    parts = take_apart(_native.serialize(mlp()))
    change(parts.table, parts)
    return why(parts.bytes())


def test_the_tensor_table_is_checked() -> None:
    def entry(name: str = "layers.0.weight", **new: Any) -> Any:
        return lambda table, _: table[name].update(new)

    assert "has the dtype 'F16'" in with_table(entry(dtype="F16"))
    assert "needs 30 bytes by its shape, but its offsets span 120" in with_table(entry(dtype="U8"))
    assert "is int32 [5, 6] but the graph says float32" in with_table(entry(dtype="I32"))
    assert "is float32 [6, 5] but the graph says float32 [5, 6]" in with_table(entry(shape=[6, 5]))
    assert "needs 0 bytes" in with_table(entry(shape=[0, 6]))
    assert "has the dimension -5" in with_table(entry(shape=[-5, -6]))
    assert "is too large" in with_table(entry(shape=[2**32, 2**32]))
    assert "is too large" in with_table(entry(shape=[0, 2**62, 4]))
    assert "more than 8 dimensions" in with_table(entry(shape=[1] * 9))
    assert "something other than integers" in with_table(entry(shape=[5.0, 6]))
    assert "no range" in with_table(entry(data_offsets=[120, 0]))
    assert "no range" in with_table(entry(data_offsets=[-120, 0]))
    assert "no range" in with_table(entry(data_offsets=[0, 1, 2]))
    assert "starts at byte 4" in with_table(entry(data_offsets=[4, 124]))  # overlaps the next, leaves a hole before
    assert "starts at byte 1125899906842624" in with_table(
        lambda table, parts: table["layers.2.bias"].update(data_offsets=[2**50, 2**50 + 12])
    )
    assert "more than dtype" in with_table(entry(stride=1))
    assert "no value is the tensor 'more'" in with_table(
        lambda table, parts: table.update(more={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]})
    )
    assert "truncated" in with_table(lambda table, parts: setattr(parts, "data", parts.data[:-1]))
    assert "there is no tensor" in with_table(lambda table, parts: table.update(other=table.pop("layers.0.weight")))


def test_tensors_are_where_the_graph_determines() -> None:
    """The table is not under the checksum, so two tensors whose places are exchanged must show otherwise."""
    graph = mlp()
    graph.add_constant("twin", ramp(5, 6) + 1)
    parts = take_apart(_native.serialize(graph))
    a, b = parts.table["layers.0.weight"], parts.table["twin"]
    a["data_offsets"], b["data_offsets"] = b["data_offsets"], a["data_offsets"]
    assert "is not where the graph wants it" in why(parts.bytes())


def number_in_graph(text: str) -> Any:
    graph = one_node("full", {"shape": [1], "value": 12345.5, "dtype": "float32"})
    parts = take_apart(_native.serialize(graph))
    graph_text = parts.graph_text()
    assert "12345.5" in graph_text
    parts.graph = graph_text.replace("12345.5", text)
    return load(parts.bytes()).nodes[0]["attrs"]["value"]


@pytest.mark.parametrize("text", ["0", "-0", "1e5", "1E+5", "1.5e-5", "-1.25", "9223372036854775808", "5e-324", " 1\t"])
def test_numbers_that_json_has(text: str) -> None:
    assert struct.pack("<d", number_in_graph(text)) == struct.pack("<d", float(text))


@pytest.mark.parametrize(
    "text",
    [
        "01",
        "-",
        "+1",
        ".5",
        "1.",
        "1e",
        "1e+",
        "0x10",
        "1e999",
        "1e-999",
        "NaN",
        "Infinity",
        "nul",
        "1 2",
        "",
        "1,",
        "--1",
    ],
)
def test_numbers_that_json_has_not(text: str) -> None:
    with pytest.raises(ArtefactError, match="the JSON"):
        number_in_graph(text)


def source_of(raw: bytes) -> str:
    """A node's `source` after reading these raw bytes between its quotes."""
    g = _native.Graph()
    x = g.add_input("x", "float32", [2])
    g.add_output("y", g.add_node("abs", [x], {}, "n", "SOURCE"))
    parts = take_apart(_native.serialize(g))
    text = parts.graph_text().encode().replace(b"SOURCE", raw)
    crc = f"{_native.crc32c(text):08x}"
    quoted = text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    header = b'{"__metadata__":{"taille.format":"1","taille.graph":"' + quoted + b'","taille.crc32c":"'
    header += crc.encode() + b'"}}'
    return str(load(struct.pack("<Q", len(header)) + header).nodes[0]["source"])


@pytest.mark.parametrize(
    ("raw", "meaning"),
    [
        (b"\\u00e9\\u4E2D", "é中"),
        (b"\\ud83d\\ude42", "🙂"),
        (b'\\/\\\\\\"', '/\\"'),
        ("é中🙂\u07ff\uffff\U0010ffff".encode(), "é中🙂\u07ff\uffff\U0010ffff"),
    ],
)
def test_strings_that_json_has(raw: bytes, meaning: str) -> None:
    assert source_of(raw) == meaning


@pytest.mark.parametrize(
    "raw",
    [
        b"\\ud83d",  # half a pair
        b"\\ude42\\ud83d",
        b"\\ud83d\\u0041",
        b"\\u12",
        b"\\u12g4",
        b"\\u+123",
        b"\\x41",
        b"\\",
        b"\xff",
        b"\xc0\x80",  # overlong
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\x80",
        b"\xed\xa0\x80",  # a surrogate
        b"\xf4\x90\x80\x80",  # beyond Unicode
        b"\xe4\xb8",  # cut
        b"\x80",
        b"\\u0000",  # JSON has these, names have not
        b"\\n",
        b"\\u007f",
    ],
)
def test_strings_that_are_refused(raw: bytes) -> None:
    with pytest.raises(ArtefactError):
        source_of(raw)


def test_messages_are_short_and_plain_whatever_they_quote() -> None:
    for hostile in ["\x1b[2J", "a" * 4000, "\0", "\x7f"]:
        parts = take_apart(_native.serialize(mlp()))
        parts.graph["values"][0]["dtype"] = hostile
        message = why(parts.bytes())
        assert ("dtype 'aaaa" if len(hostile) == 4000 else "value 0 dtype holds a control character") in message
        assert len(message) < 1200
        assert message.isprintable()
    parts.graph["values"][0] |= {"dtype": "float32", "shape": ["\x1b[2J"]}
    assert why(parts.bytes()).isprintable()


def test_duplicate_keys_are_refused() -> None:
    parts = take_apart(_native.serialize(mlp()))
    parts.graph = parts.graph_text().replace('"lo":', '"hi":')
    assert "the key 'hi' twice" in why(parts.bytes())


# ---- Files ----


def test_paths_that_are_no_artefact(tmp_path: Path) -> None:
    for path, message in {
        tmp_path / "missing": "No such file or directory",
        tmp_path: "is a directory",
        Path("/dev/zero"): "is not a regular file",
    }.items():
        with pytest.raises(ArtefactError, match=message) as error:
            _native.load_artefact(path)
        assert str(path) in str(error.value)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtefactError, match="is not a regular file"):
        _native.load_artefact(tmp_path / "pipe")


def test_paths_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ["plain", b"bytes", b"not utf-8 \xff", Path("path"), "n" * 255]:
        _native.save_artefact(path, mlp())
        assert_same(_native.load_artefact(path)[0], mlp())
    with pytest.raises(ArtefactError, match=r"gone \?: cannot be opened"):
        _native.load_artefact(b"gone \xff")
    assert len(list(tmp_path.iterdir())) == 5


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        _native.save_artefact(tmp_path / "model", mlp())
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o640


def test_a_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    with path.open("rb") as old:
        _native.save_artefact(path, everything())
        assert_same(load(old.read()), mlp())
    assert_same(_native.load_artefact(path)[0], everything())


def test_saving_where_it_cannot_be_raises_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        _native.save_artefact(tmp_path / "missing" / "model", mlp())
    assert error.value.filename == str(tmp_path / "missing" / "model")
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        _native.save_artefact(tmp_path / "directory", mlp())
    pipe = tmp_path / "pipe"  # as /dev/null is: a rename would replace it
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="Invalid argument"):
        _native.save_artefact(pipe, mlp())
    assert pipe.is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["directory", "pipe"]  # noqa: PTH208


def test_saving_without_permission_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    tmp_path.chmod(0o555)
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from artefact_files import everything
from taille import _native
os.chdir({str(tmp_path)!r})
graph = everything()
if os.geteuid() == 0:
    os.setuid(65534)  # root may write everywhere
try:
    _native.save_artefact("model", graph)
except PermissionError as error:
    print(error.filename)
"""
    assert output_of(code) == "model"
    tmp_path.chmod(0o755)
    assert_same(_native.load_artefact(path)[0], mlp())
    assert os.listdir(tmp_path) == ["model"]  # noqa: PTH208


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    code = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from artefact_files import mlp
from taille import _native
graph = mlp()
graph.add_constant("large", np.ones(100_000, np.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    _native.save_artefact({str(path)!r}, graph)
except OSError as error:
    print(error.strerror, error.filename)
"""
    assert output_of(code) == f"File too large {path}"
    assert_same(_native.load_artefact(path)[0], mlp())
    assert os.listdir(tmp_path) == ["model"]  # noqa: PTH208


def test_a_killed_save_leaves_the_old_file(tmp_path: Path) -> None:
    """The process ends in the middle of writing (SIGXFSZ, not ignored): what was there stays whole."""
    path = tmp_path / "model"
    _native.save_artefact(path, mlp())
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from artefact_files import mlp
from taille import _native
graph = mlp()
graph.add_constant("large", np.ones(100_000, np.float32))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
_native.save_artefact({str(path)!r}, graph)
"""
    assert run_python(code).returncode != 0
    assert_same(_native.load_artefact(path)[0], mlp())


def test_saving_and_loading_release_the_gil(tmp_path: Path) -> None:
    graph = mlp()
    graph.add_constant("large", np.ones(2_000_000, np.float32))
    path, blob = tmp_path / "model", _native.serialize(graph)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)  # so that only a release lets another thread in
    try:
        for call in [
            lambda: _native.save_artefact(path, graph),
            lambda: _native.load_artefact(path),
            lambda: _native.serialize(graph),
            lambda: _native.deserialize(blob),
            lambda: _native.crc32c(blob * 8),
        ]:
            go, came = threading.Event(), []
            thread = threading.Thread(target=lambda go=go, came=came: (go.wait(), came.append(True)))
            thread.start()
            go.set()
            call()
            came_during_call = bool(came)
            thread.join()
            assert came_during_call
    finally:
        sys.setswitchinterval(before)
