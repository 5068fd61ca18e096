"""Mixed precision: the most sensitive layers are not int8 but float16, as few as the budget of quality allows; float32
stays where float16 overflows or harms.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from taille.quantization.mixed import distortion
from zoo import mlp


def model(**data: Any) -> taille.TorchModel:
    """Five layers; "layers.3" reads a channel that takes nearly all of the 256 steps and means little."""
    torch.manual_seed(0)
    net = mlp(20, 64, 64, 64, 64, 5)
    with torch.no_grad():
        net.layers[2].weight[40] *= 3000
        net.layers[2].bias[40] = 1
        net.layers[3].weight[:, 40] /= 3000
    x = torch.randn(400, 20)
    return taille.TorchModel(net, (x[:2],), **({"calibration_data": x.split(50)} | data))


def int8_layers(of: taille.QuantizedModel) -> set[str]:
    return {r.name for r in of.report if r.precision == "int8"}


LAYERS = {f"layers.{i}" for i in range(5)}


def test_the_layer_that_breaks_it_is_float16() -> None:
    options: dict[str, Any] = {"calibrator": "minmax", "smooth": None}
    small = taille.quantize_model(model(), "mixed", max_accuracy_drop=0.001, **options)
    assert int8_layers(small) == LAYERS - {"layers.3"}
    (row,) = (r for r in small.report if r.name == "layers.3")
    assert row.precision == "float16"
    assert row.weight_bytes_before == 2 * row.weight_bytes_after - 4 * 64  # the bias stays float32
    assert row.why.startswith("kept by mixed precision: int8 here alone distorts the outputs by 0.")
    record = small.metadata["recipe"][0]["mixed"]
    assert (record["kept"], record["float16"], record["float16_sensitivity"]) == (["layers.3"], ["layers.3"], {})
    assert max(record["sensitivity"], key=record["sensitivity"].get) == "layers.3"
    assert set(record["sensitivity"]) == LAYERS
    assert 0.999 <= record["quality"] < record["baseline"] == 1
    x = np.random.default_rng(1).standard_normal((200, 20)).astype(np.float32)
    exact, plain = model().predict(x), taille.quantize_model(model(), **options).predict(x)
    assert distortion([small.predict(x)], [exact]) < 0.001 < distortion([plain], [exact])


def test_a_generous_budget_keeps_nothing_and_none_keeps_what_costs() -> None:
    assert int8_layers(taille.quantize_model(model(), "mixed", max_accuracy_drop=2.0)) == LAYERS
    none = taille.quantize_model(model(), "mixed", max_accuracy_drop=0.0)
    assert {r.precision for r in none.report} == {"float32"}
    x = torch.randn(8, 20)
    torch.testing.assert_close(none.predict(x), model().predict(x))


@pytest.mark.parametrize(("drop", "most"), [(0.5, 0), (2.5, 2), (4.0, 4), (5.0, 5)])
def test_eval_fn_decides_how_many_and_sensitivity_which(drop: float, most: int) -> None:
    def fewer_is_better(given: taille.BaseMLModel) -> float:
        assert isinstance(given, taille.CompiledModel)
        return -float(sum(n["precision"] == "int8" for n in given.nodes()))

    small = taille.quantize_model(model(eval_fn=fewer_is_better), "mixed", max_accuracy_drop=drop)
    record = small.metadata["recipe"][0]["mixed"]
    ranked = sorted(LAYERS, key=lambda name: (-record["sensitivity"][name], name))
    assert int8_layers(small) == set(ranked[5 - most :])
    assert (record["quality"], record["baseline"]) == (-most, 0)


def test_float32_where_float16_overflows() -> None:
    large = model(eval_fn=lambda given: -float(sum(n["precision"] == "int8" for n in given.nodes())))
    with torch.no_grad():
        large.module.layers[2].weight[40, 0] = 1e5
    small = taille.quantize_model(large, "mixed", max_accuracy_drop=0.5, smooth=None)
    rows = {r.name: r for r in small.report}
    assert {rows[name].precision for name in LAYERS - {"layers.2"}} == {"float16"}
    assert rows["layers.2"].precision == "float32"
    assert re.fullmatch("kept by mixed precision: int8 .* by .*; float16 would overflow", rows["layers.2"].why)


def test_float32_where_float16_loses_small_weights() -> None:
    def quality(given: taille.BaseMLModel) -> float:  # no int8, and no float16 where it is worst
        assert isinstance(given, taille.CompiledModel)
        precisions = {n["name"]: n["precision"] for n in given.nodes()}
        return -float(precisions["layers.1"] == "float16") - sum(p == "int8" for p in precisions.values())

    small = model(eval_fn=quality)
    with torch.no_grad():
        small.module.layers[1].weight[:] *= 1e-7  # below float16's least number
        small.module.layers[1].bias[:] = 0
        small.module.layers[2].weight[:] *= 1e7
    options: dict[str, Any] = {"smooth": None, "bias_correction": False}
    found = taille.quantize_model(small, "mixed", max_accuracy_drop=0.5, **options)
    rows = {r.name: r for r in found.report}
    assert rows["layers.1"].precision == "float32"
    assert re.fullmatch("kept by .* distorts the outputs by .*; float16 here alone distorts .*", rows["layers.1"].why)
    record = found.metadata["recipe"][0]["mixed"]
    assert set(record["float16_sensitivity"]) == LAYERS - {"layers.2"}  # whose weights overflow
    assert max(record["float16_sensitivity"], key=record["float16_sensitivity"].get) == "layers.1"
    small.eval_fn = None
    generous = taille.quantize_model(small, "mixed", max_accuracy_drop=0.1, **options)
    assert int8_layers(generous) == LAYERS  # int8 has a scale per channel, and keeps what float16 loses


class Words(nn.Module):
    """An embedding and a layer that decodes it."""

    def __init__(self, largest: float = 1.0):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.layer = nn.Embedding(50, 24), nn.Linear(24, 8)
        with torch.no_grad():
            self.words.weight[7, 3] = largest

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.layer(self.words(ids)).mean(1)


@pytest.mark.parametrize(
    ("largest", "precision", "why"),
    [(1.0, "float16", "float16 by mixed precision"), (1e6, "float32", "float16 would overflow")],
)
def test_tables_are_float16(largest: float, precision: str, why: str) -> None:
    ids = torch.arange(400).reshape(40, 10) % 50
    words = taille.TorchModel(Words(largest).eval(), (ids[:2],), calibration_data=[ids])
    small = taille.quantize_model(words, "mixed", max_accuracy_drop=2.0)
    (row,) = (r for r in small.report if r.op == "embedding")
    assert (row.precision, row.why) == (precision, why)
    assert row.weight_bytes_after == 50 * 24 * (2 if precision == "float16" else 4)
    assert int8_layers(small) == {"layer"}


def test_what_was_ignored_is_no_candidate() -> None:
    small = taille.quantize_model(model(), "mixed", ignore=["layers.0"], max_accuracy_drop=2.0)
    assert int8_layers(small) == LAYERS - {"layers.0"}
    assert "layers.0" not in small.metadata["recipe"][0]["mixed"]["sensitivity"]
    assert int8_layers(taille.quantize_model(model(), "mixed", ignore=["layers.0"], max_accuracy_drop=0.0)) == set()


def test_two_runs_are_equal_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    first, second = (
        taille.quantize_model(
            model(), "mixed", max_accuracy_drop=0.001, never_slower=False, progress=lambda *what: told.append(what)
        )
        for _ in range(2)
    )
    assert first.metadata == second.metadata
    assert first.graph.dump() == second.graph.dump()
    assert [what for what in told if what[0] == "measuring sensitivity"] == 2 * [
        ("measuring sensitivity", i + 1, 5) for i in range(5)
    ]


def test_every_fourth_sample_is_kept_from_calibration() -> None:
    x = torch.rand(101, 20)
    x[3::4] = 100.0
    for size in (1, 7, 101):  # whatever the batches
        small = taille.quantize_model(model(calibration_data=x.split(size)), "mixed", max_accuracy_drop=2.0)
        found = re.search(r"= quantize\(%0\).* scale (\S+)", small.graph.dump())
        assert found is not None
        assert float(found[1]) < 1.01 / 255
        assert small.metadata["recipe"][0]["calibration_samples"] == 101
    with pytest.raises(ValueError, match="at least 4 calibration samples"):
        taille.quantize_model(model(calibration_data=[x[:3]]), "mixed")


def test_distortion() -> None:
    w = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert distortion([w], [w]) == 0
    assert distortion([3 * w], [w]) == pytest.approx(0)
    assert distortion([w[::-1]], [w]) == 1
    assert distortion([-w], [w]) == 2
    assert distortion([w, w[::-1]], [w, w]) == 0.5
    assert distortion([np.zeros((2, 2))], [np.zeros((2, 2))]) == 0
    assert distortion([np.zeros((2, 2))], [w]) == 1
