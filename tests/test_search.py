"""What the search goes by: the journal alone, measured sensitivity and time of layers, and what ends it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import taille
from optimize_case import HELD_OUT, case
from support import run_python
from taille.measurement.turns import Latency
from taille.optimization import ModelOptimizer, evaluation, search
from taille.optimization.journal import alone
from taille.optimization.prediction import Predictor
from taille.quantization.mixed import distortion
from taille.quantization.never_slower import Timing
from taille.transport.layout import stored_bytes


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluation, "take_turns", lambda calls, _: [Latency([[1e-3]] * 5) for _ in calls])
    monkeypatch.setattr(evaluation, "peak_memory", lambda *_: None)  # which takes a process each time
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


BOUND = 100_000  # bytes: float32 takes 310,000, int8 a quarter


def test_two_searches_in_one_journal_refuse_each_other(tmp_path: Path) -> None:
    message = rf"another search is at work \(process {os.getpid()}\)"
    holding = f"from pathlib import Path; from taille.optimization.journal import alone; alone(Path({str(tmp_path)!r}))"
    with alone(tmp_path):
        with pytest.raises(ValueError, match=message):
            ModelOptimizer().optimize_model(case(), {"max_size": BOUND}, journal=tmp_path)
        assert re.search(message, run_python(f"{holding}.__enter__()").stderr)
    run_python(f"import os; {holding}.__enter__(); os._exit(1)")  # a crash
    with alone(tmp_path):  # lets go of it
        pass


def test_memory_that_cannot_be_measured_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("taille.optimization.optimizer.why_not_measured", lambda: "there is no /proc")
    with pytest.raises(OSError, match=r"constraints\['max_memory'\] cannot be judged here.*there is no /proc"):
        ModelOptimizer().optimize_model(case(lambda: asked.append(1)), {"max_memory": "1GB"}, journal=tmp_path / "j")
    assert not asked
    assert not (tmp_path / "j").exists()


def test_the_search_ends_where_nothing_faster_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    contract = {"max_accuracy_drop": 0.5, "threads": 1, "techniques": ["quantization", "pruning"]}
    monkeypatch.setattr(Predictor, "seconds_saved", lambda *_: 0.0)
    native, _ = ModelOptimizer().optimize_model(case(), contract, journal=tmp_path / "a", seed=3)
    found = native.metadata["search"]
    assert all(c["key"].startswith("dense") for c in found["candidates"])
    assert (found["ended"], found["seed"]) == ("nothing else is expected to be faster and within the bounds", 3)
    monkeypatch.setattr(search, "methods_for", lambda *_: ("structured",))
    monkeypatch.setattr(Predictor, "seconds_saved", lambda *_: 1.0)  # a second less than it takes: sure to be tried
    with caplog.at_level("INFO", "taille.optimization.search"):
        sparse = ModelOptimizer({"pruning": {"target_sparsity": 0.9}})
        native, _ = sparse.optimize_model(case(), contract, journal=tmp_path / "b")
    assert any(c["key"].startswith("block") for c in native.metadata["search"]["candidates"])
    assert "keeps the contract; going on with block" in caplog.text


def test_a_candidate_whose_evidence_has_no_room_does_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "seconds_saved", lambda *_: 0.0)  # so that nothing is tried for its speed
    contract = {"max_accuracy_drop": 0.5, "threads": 1, "techniques": ["quantization", "pruning"]}
    native, _ = ModelOptimizer().optimize_model(case(), contract | {"max_size": BOUND}, journal=tmp_path / "a")
    sizes = {c["key"]: c["metrics"]["size_bytes"] for c in native.metadata["search"]["candidates"]}
    assert native.metadata["search"]["chosen"] == "dense int8"
    most = sizes["dense int8"] + 100
    native, metrics = ModelOptimizer().optimize_model(case(), contract | {"max_size": most}, journal=tmp_path / "b")
    assert native.metadata["search"]["chosen"].startswith("block")
    assert native.save(tmp_path / "m.safetensors") == metrics["size_bytes"] <= most


class Harmed(nn.Module):
    """Four layers; "layers.2" reads a channel that takes nearly all of the 256 steps and means little."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(128, 128) for _ in range(4))
        with torch.no_grad():
            self.layers[1].weight[40] *= 3000
            self.layers[1].bias[40] = 1
            self.layers[2].weight[:, 40] /= 3000

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = nn.functional.gelu(layer(x))  # through which SmoothQuant does not reach
        return x


def harmed() -> taille.TorchModel:
    module = Harmed().eval()
    x = torch.randn(256, 128)
    with torch.no_grad():
        wanted = module(x).numpy()
    return taille.TorchModel(
        module, (x[:2],), calibration_data=x.split(64), name="harmed",
        eval_fn=lambda given: 1 - distortion([given.predict(x.numpy())], [wanted]),
    )  # fmt: skip


def test_a_layer_that_int8_harms_or_slows_is_kept_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(layers: Sequence[str], *_: Any) -> Timing:
        assert "layers.0" in layers
        return Timing(["layers.0"], {"layers.0": "float32 is faster: as the clock says"})

    monkeypatch.setattr("taille.quantization.quantize.time_layers", timed)
    contract = {"max_size": 180_000, "max_accuracy_drop": 0.001, "threads": 1, "techniques": ["quantization"]}
    native, _ = ModelOptimizer().optimize_model(harmed(), contract, journal=tmp_path)
    found = native.metadata["search"]
    loses = {c["key"]: c["metrics"]["accuracy"] < 0.999 for c in found["candidates"]}
    assert loses == {"dense float32": False, "dense float16": False, "dense int8": True, "dense mixed": False}
    nodes = {n["name"]: n for n in taille.load(tmp_path / "dense-mixed.safetensors").nodes() if n["op"] == "linear"}
    assert {n: node["precision"] for n, node in nodes.items()} == {
        "layers.0": "float32", "layers.1": "int8", "layers.2": "float16", "layers.3": "int8",
    }  # fmt: skip
    assert nodes["layers.0"]["why"] == "float32 is faster: as the clock says"
    assert "int8 here alone distorts the outputs" in nodes["layers.2"]["why"]


def test_layers_tell_what_the_file_stores(tmp_path: Path) -> None:
    from taille.optimization.evidence import layer_rows

    dense, thin = (
        taille.compile_model(m, threads=1)
        for m in (case(), taille.prune_model(case(), 0.1, "structured", recovery="none"))
    )
    rows = {r["name"]: r for r in layer_rows(thin, dense, {"input": HELD_OUT[:2]}) if r["op"] == "linear"}
    thin.save(tmp_path / "m")
    stored = stored_bytes((tmp_path / "m").read_bytes())
    assert sorted(r["stored_bytes"] for r in rows.values()) == sorted(stored.values())[-3:]
    assert rows["2"]["weight_bytes"] == 4 * 256 * 256
    assert rows["2"]["stored_bytes"] < 0.15 * rows["2"]["weight_bytes"]
    assert rows["4"]["stored_bytes"] == rows["4"]["weight_bytes"]
