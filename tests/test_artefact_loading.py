"""Loading trusts nothing, and says what is wrong: other files, damage, newer versions, the table, the JSON."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from artefact_files import assert_same, load, mlp, one_node, ramp, take_apart
from taille import _native
from taille.errors import ArtefactError


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
    parts.format = "7"
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

    assert "has the dtype 'F64'" in with_table(entry(dtype="F64"))
    assert "needs 60 bytes by its shape, but its offsets span 120" in with_table(entry(dtype="BF16"))
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
    parts.graph = parts.graph_text().replace('"dtype":', '"name":')
    assert "the key 'name' twice" in why(parts.bytes())
