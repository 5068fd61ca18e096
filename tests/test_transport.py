"""Packed artefacts and deltas: fewer bytes, the same artefact; whatever the bytes, an error or what was written."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taille
from artefact_files import everything, float16, int8_conv, mlp, pruned
from support import mistake
from taille import _native, transport
from taille.errors import ArtefactError
from taille.resources import ResourceOptimizer
from taille.transport import encoding, records
from taille.transport.encoding import CHUNK, DEFLATE, DEFLATE_NEAR, STORED, add_back, decode, encode, subtract
from taille.transport.records import CHANGE, COPY, LITERAL, Head, Record, assemble, read

many = settings(max_examples=150, deadline=None)
items = st.sampled_from(encoding.ITEMS)


def graph_of(weights: list[np.ndarray[Any, Any]], name: str = "net") -> bytes:
    """The artefact of a chain of linear layers."""
    g = _native.Graph()
    y = g.add_input("x", "float32", ["batch", weights[0].shape[1]])
    for i, weight in enumerate(weights):
        y = g.add_node("linear", [y, g.add_constant(f"w{i}", weight)], {}, f"linear{i}")
    g.add_output("y", y)
    return _native.serialize(g, json.dumps({"name": name}))


def weights(seed: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [(0.05 * rng.standard_normal((64, 64))).astype(np.float32) for _ in range(4)]


OLD = graph_of(weights(0))


@pytest.mark.parametrize("make", [mlp, int8_conv, float16, pruned])
def test_a_packed_artefact_is_the_same_again(make: Callable[[], Any], tmp_path: Path) -> None:
    artefact = tmp_path / "a.safetensors"
    _native.save_artefact(str(artefact), make(), "{}")
    found = transport.pack(artefact, tmp_path / "a.packed")
    assert found.size_bytes == artefact.stat().st_size > found.packed_bytes == (tmp_path / "a.packed").stat().st_size
    assert found.load_seconds > 0 < found.packed_load_seconds
    assert transport.unpack(tmp_path / "a.packed", tmp_path / "b.safetensors") == found.size_bytes
    assert (tmp_path / "b.safetensors").read_bytes() == artefact.read_bytes()


@given(st.binary(max_size=300), items, st.sampled_from([b"", b"near"]))
@many
def test_every_encoding_is_undone(data: bytes, item: int, near: bytes) -> None:
    data = data[: len(data) // item * item]
    codec, payload = encode(data, item, near)
    assert len(payload) <= len(data)
    assert decode(codec, payload, item, len(data), near) == data


@given(st.data(), items)
@many
def test_every_difference_is_undone(data: Any, item: int) -> None:
    count = data.draw(st.integers(0, 9)) * item
    new, base = (data.draw(st.binary(min_size=count, max_size=count)) for _ in range(2))
    assert add_back(subtract(new, base, item), base, item) == new


def test_small_differences_are_small_numbers() -> None:
    base = np.array([5, -3, 127, -128], np.int8)
    new = np.array([5, -4, -128, -126], np.int8)  # the third wraps around
    assert list(subtract(new.tobytes(), base.tobytes(), 1)) == [0, 1, 2, 4]


def test_bytes_of_floats_pack_better_apart() -> None:
    data = weights(0)[0].tobytes()
    assert len(encode(data, 4)[1]) < 0.98 * len(encode(data, 1)[1])


def shipped(old: bytes, new: bytes, folder: Path) -> transport.Delta:
    """The delta from one artefact to another, and the check that it gives the other one."""
    (folder / "old").write_bytes(old)
    (folder / "new").write_bytes(new)
    found = transport.make_delta(folder / "old", folder / "new", folder / "delta")
    assert found.delta_bytes == (folder / "delta").stat().st_size
    assert found.size_bytes == len(new)
    assert transport.apply_delta(folder / "old", folder / "delta", folder / "again") == len(new)
    assert (folder / "again").read_bytes() == new
    return found


def test_a_delta_has_what_changed(tmp_path: Path) -> None:
    same = shipped(OLD, OLD, tmp_path)
    assert same.changed == ()
    assert same.delta_bytes < 600
    assert same.unchanged_bytes == sum(w.nbytes for w in weights(0))
    nudged, other = weights(0), weights(0)
    nudged[2] = nudged[2] * np.float32(1.0001)
    other[2] = weights(9)[2]
    small, whole = shipped(OLD, graph_of(nudged), tmp_path), shipped(OLD, graph_of(other), tmp_path)
    assert len(small.changed) == len(whole.changed) == 1
    assert small.delta_bytes < 0.6 * whole.delta_bytes
    assert whole.delta_bytes < weights(0)[2].nbytes + 600
    resized = shipped(OLD, graph_of([*weights(0)[:3], np.ones((32, 64), np.float32)]), tmp_path)
    assert len(resized.changed) == 1


def test_a_delta_between_unlike_artefacts_is_exact_too(tmp_path: Path) -> None:
    blobs = [_native.serialize(make(), "{}") for make in (mlp, int8_conv, everything, float16, pruned)]
    for old, new in zip(blobs, blobs[1:] + blobs[:1], strict=True):
        shipped(old, new, tmp_path)


def test_another_base_is_refused_by_name(tmp_path: Path) -> None:
    shipped(OLD, graph_of(weights(1)), tmp_path)
    before = (tmp_path / "new").read_bytes()
    with pytest.raises(ArtefactError, match=r"goes with the base 'net', .* bytes with SHA-256 .*; .*/new has"):
        transport.apply_delta(tmp_path / "new", tmp_path / "delta", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == before
    with pytest.raises(ArtefactError, match="is a delta from the base 'net'; wanted a packed artefact"):
        transport.unpack(tmp_path / "delta", tmp_path / "x")
    transport.pack(tmp_path / "old", tmp_path / "packed")
    with pytest.raises(ArtefactError, match="is a packed artefact, which needs no base"):
        transport.apply_delta(tmp_path / "old", tmp_path / "packed", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def container(data: bytes, *given: Record, size: int | None = None) -> bytes:
    head = Head(len(data) if size is None else size, hashlib.sha256(data).digest())
    return assemble(head, given or [Record(LITERAL, len(data), STORED, data)])


def with_base(base: bytes, size: int, *given: Record) -> bytes:
    return assemble(Head(size, bytes(32), len(base), hashlib.sha256(base).digest(), "base"), given)


def deflated(data: bytes) -> bytes:
    return encoding.deflated(data, zlib.Z_DEFAULT_STRATEGY)


DATA = b"some bytes"
ZEROS = deflated(bytes(CHUNK))
BASE = b"a base that is there"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (b"", "neither a packed artefact nor a delta"),
        (OLD[:200], "neither a packed artefact nor a delta"),
        (container(DATA)[:40], "is cut off in its head"),
        (container(DATA)[:-3], "record 1 is cut off: 7 of 10 bytes"),
        (container(DATA)[:-20], "record 1 is missing: the file is cut off after 0 of 10 bytes"),
        (container(DATA) + b"x", "has 1 bytes after its end"),
        (container(DATA).replace(b"some", b"SOME"), "another SHA-256 than it says"),
        (container(DATA)[:8] + b"\2" + container(DATA)[9:], "has version 2 of the format"),
        (container(DATA, size=1 << 60), "would give .* max_size allows"),
        (container(DATA, Record(LITERAL, 10, DEFLATE, b"\xff" * 9)), "record 1 is damaged: not deflate data"),
        (container(DATA, Record(LITERAL, 10, DEFLATE, deflated(DATA[:9])[:10])), "does not give the 10 bytes"),
        (container(DATA, Record(LITERAL, 10, DEFLATE, deflated(bytes(5000))[:10])), "does not give the 10 bytes"),
        (container(DATA, Record(LITERAL, 11, STORED, DATA + b"x")), "gives 11 bytes; 10 are left"),
        (container(DATA, Record(LITERAL, 0, STORED, b"")), "gives 0 bytes; 10 are left"),
        (container(DATA, Record(LITERAL, 9, STORED, DATA[:9], 2)), "gives 9 bytes; 10 are left"),
        (container(DATA, Record(LITERAL, 9, STORED, DATA)), "has 10 bytes for 9"),
        (container(DATA, Record(LITERAL, 10, STORED, DATA[:9])), "9 bytes are stored, and 10 declared"),
        (container(bytes(CHUNK + 1), Record(LITERAL, CHUNK + 1, DEFLATE, ZEROS)), "has 4.*for 4,194,305"),
        (container(DATA, Record(3, 10, STORED, DATA)), "of no kind that there is"),
        (container(DATA, Record(LITERAL, 10, 3, DATA)), "of no kind that there is"),
        (container(DATA, Record(LITERAL, 9, STORED, DATA, 3)), "of no kind that there is"),
        (container(DATA, Record(COPY, 10)), "wants a base, and this file has none"),
        (container(DATA, Record(LITERAL, 10, DEFLATE_NEAR, DATA)), "wants a base, and this file has none"),
        (with_base(BASE, 10, Record(COPY, 10, offset=11)), "wants bytes up to 21 of a base of 20"),
        (with_base(BASE, 10, Record(CHANGE, 10, STORED, DATA, offset=1 << 62)), "of a base of 20"),
        (with_base(BASE, 10, Record(LITERAL, 10, DEFLATE_NEAR, DATA, offset=20)), "from 20 of a base of 20"),
        (with_base(BASE, 10, Record(COPY, 10, payload=DATA)), "has 10 bytes for 10"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused(file: bytes, message: str) -> None:
    with pytest.raises(ArtefactError, match=message):
        read(file, "f", BASE, 1 << 30)


def test_a_bomb_takes_no_memory() -> None:
    bomb = [Record(LITERAL, CHUNK, DEFLATE, ZEROS)] * 4000  # 16 GB from 16 MB
    promised = container(DATA, *bomb, size=CHUNK * 4000)
    lying = container(DATA, Record(LITERAL, 1000, DEFLATE, deflated(bytes(64 << 20))[:1000]), size=1000)
    tracemalloc.start()
    try:
        for file, message in ((promised, "max_size allows"), (lying, "does not give the 1000 bytes")):
            with pytest.raises(ArtefactError, match=message):
                read(file, "f", b"", 100 << 20)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def refused_or_same(file: bytes, base: bytes, wanted: bytes) -> None:
    """Reading gives what was written, or an ArtefactError of readable length."""
    try:
        found = read(file, "f", base, 1 << 20)
    except ArtefactError as error:
        message = str(error)
        assert message.startswith("f")
        assert len(message) < 400
        assert message.isprintable()
    else:
        assert found == wanted


PACKED = container(OLD, *(Record(LITERAL, len(p), *encode(p, 1)) for p in (OLD[:4000], OLD[4000:])))
PATCH = assemble(
    Head(len(OLD), hashlib.sha256(OLD).digest(), len(BASE), hashlib.sha256(BASE).digest(), "base"),
    [Record(LITERAL, len(OLD) - 20, *encode(OLD[:-20], 1)),
     Record(CHANGE, 20, STORED, subtract(OLD[-20:], BASE, 4), 4)],
)  # fmt: skip


@given(st.sampled_from([PACKED, PATCH]), st.data())
@many
def test_any_bytes_changed_cut_or_put_in(file: bytes, data: Any) -> None:
    at = data.draw(st.integers(0, min(len(file), 400)) | st.integers(0, len(file)))
    cut = data.draw(st.integers(0, 40))
    refused_or_same(file[:at] + data.draw(st.binary(max_size=40)) + file[at + cut :], BASE, OLD)


record = st.builds(
    Record, st.integers(0, 4), st.integers(0, 70), st.integers(0, 4), st.sampled_from([DATA, deflated(DATA), b""]),
    st.integers(0, 9), st.integers(0, 30) | st.integers(0, (1 << 64) - 1),
)  # fmt: skip


@given(st.lists(record, max_size=6), st.integers(0, 200) | st.integers(0, (1 << 64) - 1), st.booleans())
@many
def test_any_records(given: list[Record], size: int, based: bool) -> None:
    head = Head(size, hashlib.sha256(b"").digest())
    if based:
        head = replace(head, base_size=len(BASE), base_digest=hashlib.sha256(BASE).digest(), base_name="\x1b[31m")
    refused_or_same(assemble(head, given), BASE if based else b"", b"")


def test_what_is_no_artefact_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no artefact")
    with pytest.raises(ArtefactError, match="/x: "):
        transport.pack(tmp_path / "x", tmp_path / "y")
    with pytest.raises(FileNotFoundError, match="no file at /dev/zero"):
        transport.unpack("/dev/zero", tmp_path / "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x"]


def test_the_optimiser_bounds_what_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(OLD)
    (tmp_path / "b").write_bytes(graph_of(weights(1)))
    ResourceOptimizer().pack(tmp_path / "a", tmp_path / "p")
    ResourceOptimizer().make_delta(tmp_path / "a", tmp_path / "b", tmp_path / "d")
    small = ResourceOptimizer({"memory": {"max_usage": "10kB"}})
    with pytest.raises(ArtefactError, match=r"max_size allows 10,000 bytes"):
        small.unpack(tmp_path / "p", tmp_path / "x")
    with pytest.raises(ArtefactError, match=r"max_size allows 10,000 bytes"):
        small.apply_delta(tmp_path / "a", tmp_path / "d", tmp_path / "x")
    assert ResourceOptimizer().unpack(tmp_path / "p", tmp_path / "x") == len(OLD)
    assert ResourceOptimizer().apply_delta(tmp_path / "x", tmp_path / "d", tmp_path / "x") == len(OLD)
    assert taille.load(tmp_path / "x").parameter_count == 4 * 64 * 64


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from taille.cli.app import app

    monkeypatch.chdir(tmp_path)
    Path("a").write_bytes(OLD)
    Path("b").write_bytes(graph_of(weights(1)))

    def run(*args: str) -> str:
        done = CliRunner().invoke(app, list(args), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert json.loads(run("pack", "a", "-o", "p", "--json"))["size_bytes"] == len(OLD)
    assert "ready to run" in run("pack", "a", "-o", "p")
    run("unpack", "p", "-o", "a2")
    assert Path("a2").read_bytes() == OLD
    assert len(json.loads(run("delta", "a", "b", "-o", "d", "--json"))["changed"]) == 4
    assert "4 tensors changed" in run("delta", "a", "b", "-o", "d")
    assert json.loads(run("patch", "a2", "d", "-o", "b2", "--json"))["size_bytes"] == len(OLD)
    assert Path("b2").read_bytes() == Path("b").read_bytes()
    assert "goes with the base 'net'" in mistake("patch", "b", "d", "-o", "x", cwd=tmp_path)
    assert "max_size allows 5 bytes" in mistake("unpack", "p", "-o", "x", "--max-size", "5B", cwd=tmp_path)
    assert not Path("x").exists()


def test_records_that_follow_each_other_are_one() -> None:
    from taille.transport.shipping import merged

    copies = [Record(COPY, 10, offset=0), Record(COPY, 5, offset=10), Record(COPY, 5, offset=20)]
    assert [*merged(copies)] == [Record(COPY, 15, offset=0), Record(COPY, 5, offset=20)]
    huge = [Record(COPY, records.MOST_COPY, offset=0), Record(COPY, 5, offset=records.MOST_COPY)]
    assert [*merged(huge)] == huge
