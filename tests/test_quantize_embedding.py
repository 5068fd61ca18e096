"""Embeddings on int8 tables: a scale per row, the same bits at every level, stored once, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from artefact_files import int8_table, load, ramp, take_apart
from taille import _native


class Words(nn.Module):
    """Two tables, one of which also decodes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.kinds, self.decode = nn.Embedding(60, 48), nn.Embedding(3, 48), nn.Linear(48, 60)
        self.decode.weight = self.words.weight
        with torch.no_grad():
            self.words.weight[9] *= 1000
            self.words.weight[10] = 0

    def forward(self, ids: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        return self.decode(torch.tanh(self.words(ids) + self.kinds(kinds)))


def words() -> taille.TorchModel:
    ids = torch.randint(0, 60, (80, 5), generator=torch.Generator().manual_seed(1))
    return taille.TorchModel(Words().eval(), (ids[:2], ids[:2] % 3), calibration_data=[(ids, ids % 3)])


def test_tables_are_int8_by_default_and_can_be_left_alone() -> None:
    small = taille.quantize_model(words())
    rows = {r.name: r for r in small.report}
    assert (rows["words"].precision, rows["words"].why) == ("int8", "a scale per row of the table")
    assert rows["words"].weight_sqnr_db is not None
    assert rows["words"].weight_sqnr_db > 35
    assert rows["words"].weight_bytes_before == 4 * 60 * 48
    assert rows["words"].weight_bytes_after == 60 * 48 + 4 * 60
    native = {n["name"]: n for n in taille.compile_model(small).nodes()}
    assert (native["words"]["precision"], native["words"]["why"]) == ("int8", "a scale per row of the table")
    left = taille.quantize_model(words(), ignore=["embedding", "decode"])
    assert {r.precision for r in left.report} == {"float32"}
    ids = np.arange(60).reshape(12, 5)
    inputs = {"ids": ids, "kinds": ids % 3}
    given, wanted = small.predict(inputs), words().predict(inputs)
    assert np.linalg.norm(given - wanted) < 0.02 * np.linalg.norm(wanted)


def test_a_table_that_also_decodes_is_stored_once() -> None:
    small = taille.quantize_model(words(), smooth=None)
    int8 = {name: a.shape for name, a in small.graph.constants().items() if a.dtype == np.int8}
    assert sorted(int8.values()) == [(3, 48), (60, 48)]


def test_rows_have_the_same_bits_at_every_level() -> None:
    constants = int8_table().constants()
    table, scale = constants["table.int8"], constants["table.scale"]
    assert (scale <= np.abs(ramp(9, 8)).max(1) / np.float32(127)).all()
    g = _native.Graph()
    inputs = [g.add_constant("t", table), g.add_input("ids", "int64", ["batch"]), g.add_constant("s", scale)]
    g.add_output("y", g.add_node("embedding", inputs, {}, "words"))
    ids = np.array([8, 0, 3, 3, 1])
    for isa in _native.supported_isas():
        for threads in (1, 2):
            (y,) = _native.Model(g, threads, isa).run({"ids": ids})
            np.testing.assert_array_equal(y.view(np.uint32), (table[ids] * scale[ids, None]).view(np.uint32), isa)
    for bad in (-1, 9):
        with pytest.raises(ValueError, match=rf"embedding 'words': id {bad} at position 1 is outside \[0, 9\)"):
            _native.Model(g, 1).run({"ids": np.array([0, bad])})


def test_what_is_no_int8_embedding_is_refused() -> None:
    g = _native.Graph()
    ids, scales = g.add_input("ids", "int64", ["batch"]), g.add_input("scales", "float32", [3])
    table, floats = g.add_constant("t", np.ones((3, 2), np.int8)), g.add_constant("f", np.ones((3, 2), np.float32))
    scale, short = g.add_constant("s", np.ones(3, np.float32)), g.add_constant("n", np.ones(2, np.float32))
    wanted: list[tuple[list[Any], str]] = [
        ([table, ids], "an int8 table needs a scale, and only that"),
        ([floats, ids, scale], "an int8 table needs a scale, and only that"),
        ([table, ids, short], r"the scale has shape \[2\]; wanted \[3\]"),
        ([table, ids, ids], "input 2 is int64; wanted float32"),
        ([table, ids, scales], "an int8 table and its scale must be constants"),
    ]
    for inputs, because in wanted:
        with pytest.raises(ValueError, match=because):
            g.add_node("embedding", inputs, {}, "words")


def test_its_format_is_version_3() -> None:
    parts = take_apart(_native.serialize(int8_table()))
    assert parts.format == "3"
    for version in ("1", "2"):
        old = copy.deepcopy(parts)
        old.format = version
        with pytest.raises(taille.ArtefactError, match=f"it says format version {version}, its graph is version 3"):
            load(old.bytes())
