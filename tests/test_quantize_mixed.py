"""Mixed precision: the most sensitive layers stay float32, as few as the budget of quality allows."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

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


def test_the_layer_that_breaks_it_stays_float32() -> None:
    options: dict[str, Any] = {"calibrator": "minmax", "smooth": None}
    small = taille.quantize_model(model(), "mixed", max_accuracy_drop=0.001, **options)
    assert int8_layers(small) == LAYERS - {"layers.3"}
    (row,) = (r for r in small.report if r.name == "layers.3")
    assert row.why.startswith("kept by mixed precision: int8 here alone distorts the outputs by 0.")
    record = small.metadata["recipe"][0]["mixed"]
    assert record["kept"] == ["layers.3"]
    assert max(record["sensitivity"], key=record["sensitivity"].get) == "layers.3"
    assert set(record["sensitivity"]) == LAYERS
    assert 0.999 <= record["quality"] < record["baseline"] == 1
    x = np.random.default_rng(1).standard_normal((200, 20)).astype(np.float32)
    exact, plain = model().predict(x), taille.quantize_model(model(), **options).predict(x)
    assert distortion([small.predict(x)], [exact]) < 0.001 < distortion([plain], [exact])


def test_a_generous_budget_keeps_nothing_and_none_keeps_what_costs() -> None:
    assert int8_layers(taille.quantize_model(model(), "mixed", max_accuracy_drop=2.0)) == LAYERS
    none = taille.quantize_model(model(), "mixed", max_accuracy_drop=0.0)
    assert int8_layers(none) == set()
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


def test_what_was_ignored_is_no_candidate() -> None:
    small = taille.quantize_model(model(), "mixed", ignore=["layers.0"], max_accuracy_drop=2.0)
    assert int8_layers(small) == LAYERS - {"layers.0"}
    assert "layers.0" not in small.metadata["recipe"][0]["mixed"]["sensitivity"]
    assert int8_layers(taille.quantize_model(model(), "mixed", ignore=["layers.0"], max_accuracy_drop=0.0)) == set()


def test_two_runs_are_equal_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    first, second = (
        taille.quantize_model(model(), "mixed", max_accuracy_drop=0.001, progress=lambda *what: told.append(what))
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
