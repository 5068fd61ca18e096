"""The report of every node, progress, smoothing and repeated passes over the data, through `quantize_model`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from zoo import mlp, relative_error


class Encoder(nn.Module):
    """A pre-norm block whose activations have a few channels that are far larger than the others."""

    def __init__(self, size: int = 32):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        with torch.no_grad():
            self.norm.weight[::8] = 60.0
            self.up.weight[:, ::8] /= 60

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


def encoder(seed: int = 0) -> taille.TorchModel:
    torch.manual_seed(seed)
    x = torch.randn(96, 6, 32)
    return taille.TorchModel(Encoder().eval(), (x[:2],), calibration_data=x.split(20), name="encoder")


def test_every_node_has_a_row_with_its_bytes() -> None:
    small = taille.quantize_model(encoder())
    assert [r.name for r in small.report] == [n["name"] for n in small.graph.nodes]
    rows = {r.name: r for r in small.report}
    assert (rows["up"].precision, rows["norm"].precision) == ("int8", "uint8")
    assert rows["up"].weight_bytes_before == 4 * (32 * 64 + 64)
    assert rows["up"].weight_bytes_after == 32 * 64 + 4 * 64 + 4 * 64  # weights, biases, scales
    assert rows["norm"].weight_bytes_before == rows["norm"].weight_bytes_after == 4 * 2 * 32
    assert rows["up"].weight_sqnr_db is not None
    assert rows["norm"].weight_sqnr_db is None
    assert all(r.layer_sqnr_db is None and r.output_sqnr_db is None and r.seconds_after is None for r in small.report)
    assert small.report.worst == ()


def test_measured_rows_say_which_layer_broke_it() -> None:
    torch.manual_seed(0)
    net = mlp(20, 64, 64, 64, 5)
    with torch.no_grad():
        net.layers[1].weight[40] *= 300  # one channel of its output takes nearly all of the 256 steps
        net.layers[1].bias[40] = 1
        net.layers[2].weight[:, 40] /= 300  # and means no more than the others
    x = torch.randn(100, 20)
    model = taille.TorchModel(net, (x[:2],), calibration_data=[x])
    report = taille.quantize_model(model, calibrator="minmax", smooth=None, measure_layers=True).report
    rows = {r.name: r for r in report if r.op == "linear"}
    assert all(r.layer_sqnr_db > r.output_sqnr_db - 3 for r in rows.values())
    assert report.worst[0].name == "layers.2"  # what reads it
    assert rows["layers.2"].layer_sqnr_db < rows["layers.1"].layer_sqnr_db - 10
    assert all(r.seconds_after > 0 and r.seconds_before > 0 for r in rows.values())


def test_the_report_as_text_and_json() -> None:
    report = taille.quantize_model(encoder(), ignore=["down"], measure_layers=True, smooth=True).report
    lines = str(report).splitlines()
    assert lines[0].split()[:3] == ["node", "op", "precision"]
    assert len(lines) == len(report) + 1
    facts = json.loads(report.to_json(), parse_constant=lambda text: pytest.fail(f"{text} is not JSON"))
    assert [n["name"] for n in facts["nodes"]] == [r.name for r in report]
    by_name = {n["name"]: n for n in facts["nodes"]}
    assert by_name["down"]["why"] == "ignored by request"
    assert by_name["up"]["output_sqnr_db"] > 20
    assert facts["smoothing"][0] == {"layers": ["up"], "into": "norm", "why": ""}
    exact = taille.quantize_model(encoder(), ignore=["up", "down"], measure_layers=True).report
    assert {r.output_sqnr_db for r in exact} == {math.inf}
    assert json.loads(exact.to_json())["nodes"][0]["output_sqnr_db"] is None


@pytest.mark.parametrize(("smooth", "alpha"), [(True, 0.5), (0.7, 0.7), (None, None), (False, None)])
def test_smoothing_saves_large_channels(smooth: Any, alpha: float | None) -> None:
    model = encoder()
    x = np.random.default_rng(1).standard_normal((64, 6, 32)).astype(np.float32)
    small = taille.quantize_model(model, smooth=smooth)
    assert small.metadata["recipe"][0]["smooth"] == alpha
    assert bool(small.report.smoothing) == (alpha is not None)
    error = relative_error(small.predict(x), model.predict(x))
    plain = relative_error(taille.quantize_model(model, smooth=None).predict(x), model.predict(x))
    assert error < 0.7 * plain if alpha else error == plain


def test_bias_correction_is_applied_and_optional() -> None:
    model = encoder()
    plain, corrected = (taille.quantize_model(model, bias_correction=on) for on in (False, True))
    assert not any("corrected_bias" in name for name in plain.graph.constants())
    assert any("corrected_bias" in name for name in corrected.graph.constants())


def test_progress_is_told_by_stage() -> None:
    told: list[tuple[str, int, int]] = []
    taille.quantize_model(encoder(), smooth=True, measure_layers=True, calibration_samples=50,
                          progress=lambda *what: told.append(what))  # fmt: skip
    stages = list(dict.fromkeys(stage for stage, _, _ in told))
    assert stages == ["calibrating", "calibrating smoothed", "measuring biases", "timing layers", "measuring layers"]
    assert [(done, total) for stage, done, total in told if stage == "calibrating"] == [
        (20, 50), (40, 50), (50, 50), (50, 50)
    ]  # fmt: skip


def test_data_that_can_be_iterated_once_only() -> None:
    model = encoder()
    batches = list(model.calibration_data)

    def once() -> Iterator[torch.Tensor]:
        yield from batches

    model.calibration_data = once()
    with pytest.raises(ValueError, match="96 samples at first and 0 when iterated again; give a list"):
        taille.quantize_model(model)
    model.calibration_data = once()
    assert (
        taille.quantize_model(model, bias_correction=False, smooth=False).metadata["recipe"][0]["calibration_samples"]
        == 96
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_clipping": "best"}, "unknown weight_clipping 'best'; there are auto, mse, pairs, none"),
        ({"smooth": 1.5}, "smooth is 1.5; wanted None, True or an alpha from 0 to 1"),
        ({"max_accuracy_drop": 0.1}, 'goes with precision="mixed"'),
        ({"precision": "mixed", "max_accuracy_drop": -1.0}, "max_accuracy_drop is -1.0; wanted at least 0"),
        ({"precision": "mixed", "max_accuracy_drop": math.nan}, "max_accuracy_drop is nan"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taille.quantize_model(encoder(), **options)
