"""The search: it keeps contracts, says why it cannot, goes on after any end, and judges by measurements."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from optimize_case import HELD_OUT, LABELS, TRAIN, TRAIN_LABELS, case
from taille.optimization import ModelOptimizer, evaluation
from taille.optimization.contract import Contract
from taille.optimization.journal import Entry, Journal
from taille.optimization.prediction import LatencyTable, Predictor, zeroed
from taille.optimization.recipes import methods_for, shares_from
from taille.optimization.search import front


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluation, "SECONDS", 0.02)
    monkeypatch.setattr(evaluation, "FINAL_SECONDS", 0.02)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


BOUND = 100_000  # bytes: float32 takes 310,000, int8 a quarter


def test_keeps_the_contract_and_shows_the_evidence(tmp_path: Path) -> None:
    model = case()
    contract = {"max_size": BOUND, "max_accuracy_drop": 0.02, "threads": 1}
    native, metrics = ModelOptimizer().optimize_model(model, contract, journal=tmp_path / "j")
    path = tmp_path / "m.safetensors"
    assert native.save(path) == metrics["size_bytes"]  # with all its evidence
    loaded = taille.load(path)
    quality = float((np.asarray(loaded.predict(HELD_OUT)).argmax(1) == LABELS).mean())
    assert quality == metrics["accuracy"] >= metrics["baseline_accuracy"] - 0.02
    assert metrics["size_bytes"] <= BOUND < metrics["baseline_size_bytes"]
    for name in ("latency_ms_p50", "latency_ms_p99", "throughput", "size_bytes", "peak_memory_bytes", "accuracy"):
        assert metrics[f"{name}_ratio"] == pytest.approx(metrics[name] / metrics[f"baseline_{name}"])
    found = loaded.metadata["search"]
    assert found["contract"]["max_size"] == BOUND
    judged = {c["key"]: c for c in found["candidates"]}
    assert judged[found["chosen"]]["meets"]
    assert not judged["dense float32"]["meets"]
    kept = [c for c in found["candidates"] if c["meets"]]
    assert {c["front"] for c in kept} <= {True, False}
    assert all(c["predicted_ms"] > 0 for key, c in judged.items() if key.startswith("block") and not c["error"])
    assert {row["name"] for row in found["layers"]} == {n["name"] for n in loaded.nodes()}
    assert found["latencies_ms"]["chosen"] == sorted(found["latencies_ms"]["chosen"])


def test_a_second_search_makes_nothing_again(tmp_path: Path) -> None:
    asked = []
    model = case(lambda: asked.append(1))
    contract = {"max_size": BOUND, "threads": 1, "techniques": ["quantization"]}
    first, _ = ModelOptimizer().optimize_model(model, contract, journal=tmp_path)
    count = len(asked)
    second, _ = ModelOptimizer().optimize_model(model, {**contract, "time_budget_s": 30}, journal=tmp_path)
    assert len(asked) == count > 1
    assert second.metadata["search"]["chosen"] == first.metadata["search"]["chosen"]
    with pytest.raises(ValueError, match="holds the search of another model, contract or seed"):
        ModelOptimizer().optimize_model(model, {**contract, "max_size": "140kB"}, journal=tmp_path)


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ({"max_latency_ms": 1e-7, "threads": 1}, "max_latency_ms is 1e-07, and the fastest form"),
        ({"max_size": 100}, "max_size is 100 bytes; about"),
        ({"min_accuracy": 1.01}, "min_accuracy is 1.01, and the float32 model reaches"),
    ],
    ids=["latency", "size", "accuracy"],
)
def test_what_cannot_be_ends_before_anything_is_trained(contract: dict[str, Any], message: str, tmp_path: Path) -> None:
    began = []
    with pytest.raises(taille.ConstraintError, match=message) as caught:
        ModelOptimizer().optimize_model(case(), contract, journal=tmp_path, progress=lambda *a: began.append(a[0]))
    assert "training" not in began
    assert caught.value.nearest is not None
    assert caught.value.front
    assert "it would be met with" in str(caught.value)


def test_the_nearest_and_the_front_where_nothing_does(tmp_path: Path) -> None:
    contract = {"max_size": 20_000, "techniques": ["quantization"], "threads": 1}
    with pytest.raises(taille.ConstraintError, match="max_size") as caught:
        ModelOptimizer().optimize_model(case(), contract, journal=tmp_path)
    nearest = caught.value.nearest
    assert nearest is not None
    assert nearest["metrics"]["size_bytes"] == min(c["metrics"]["size_bytes"] for c in caught.value.front)


SCRIPT = """
import sys, time
from pathlib import Path
from optimize_case import case
from taille.optimization import ModelOptimizer, evaluation
evaluation.SECONDS = evaluation.FINAL_SECONDS = 0.02
contract = {"max_size": 35_000, "max_accuracy_drop": 0.05, "threads": 1}
native, metrics = ModelOptimizer().optimize_model(case(), contract, journal=Path(sys.argv[1]))
print(native.metadata["search"]["chosen"], metrics["size_bytes"], metrics["accuracy"], metrics["baseline_accuracy"])
"""


def test_killed_at_any_moment_it_goes_on(tmp_path: Path) -> None:
    journal, rng, seen = tmp_path / "j", random.Random(time.time_ns()), 0
    command = [sys.executable, "-c", SCRIPT, str(journal)]
    where = Path(__file__).parent
    for _ in range(2):
        child = subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end, wanted = time.monotonic() + 60, seen + rng.randint(1, 2)
        while lines(journal) < wanted and child.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.3)
        child.kill()
        child.wait()
        assert lines(journal) >= seen  # nothing that was there is lost
        seen = lines(journal)
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *_, size, accuracy, baseline = done.stdout.split()
    assert float(size) <= 35_000
    assert float(accuracy) >= float(baseline) - 0.05
    assert lines(journal) >= seen > 0


def lines(journal: Path) -> int:
    file = journal / "journal.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "mark")
    journal.add(Entry("dense int8", {}, {"latency_ms": 1.0}))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'{"key": "dense fl')
    again = Journal(tmp_path, "mark")
    assert list(again.entries) == ["dense int8"]
    again.add(Entry("mixed", {}))
    assert [json.loads(x).get("key") for x in (tmp_path / "journal.jsonl").read_text().splitlines()][1:] == [
        "dense int8",
        "mixed",
    ]
    (tmp_path / "journal.jsonl").write_text("no json\n")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        Journal(tmp_path, "mark")


def test_an_artefact_that_is_gone_is_made_again(tmp_path: Path) -> None:
    contract = {"max_size": BOUND, "threads": 1, "techniques": ["quantization"]}
    ModelOptimizer().optimize_model(case(), contract, journal=tmp_path)
    (tmp_path / "dense-int8.safetensors").unlink()
    native, _ = ModelOptimizer().optimize_model(case(), contract, journal=tmp_path)
    assert native.metadata["search"]["chosen"] == "dense int8"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"max_latency": 5}, ValueError, r"constraints\['max_latency'\] is unknown; did you mean max_latency_ms"),
        ({}, ValueError, "bounds nothing"),
        ({"threads": 2}, ValueError, "bounds nothing"),
        (5, TypeError, "constraints is int"),
        ({"max_latency_ms": "5"}, TypeError, r"constraints\['max_latency_ms'\] is '5'; wanted a number"),
        ({"max_latency_ms": 0}, ValueError, r"constraints\['max_latency_ms'\] is 0; wanted a number in \(0"),
        ({"max_latency_ms": float("nan")}, ValueError, r"constraints\['max_latency_ms'\] is nan"),
        ({"max_size": "5 parsecs"}, ValueError, r"constraints\['max_size'\]"),
        ({"max_accuracy_drop": 0.1, "min_accuracy": 0.5}, ValueError, "both 'max_accuracy_drop' and 'min_accuracy'"),
        ({"max_size": 1, "batch_size": 2.5}, TypeError, r"constraints\['batch_size'\] is 2.5; wanted an int"),
        ({"max_size": 1, "techniques": ["magic"]}, ValueError, "wanted some of quantization, pruning, distillation"),
        ({"max_size": 1, "techniques": "pruning"}, TypeError, "wanted a sequence of"),
    ],
)
def test_constraints_that_are_none(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Contract.parse(given, has_eval=True)


def test_quality_without_a_way_to_judge_it() -> None:
    with pytest.raises(ValueError, match=r"constraints\['min_accuracy'\] needs the model's quality.*eval_fn"):
        Contract.parse({"min_accuracy": 0.9}, has_eval=False)
    assert Contract.parse({"max_size": "1MB"}, has_eval=False).unjudged
    assert Contract.parse({"max_size": "1MB"}, has_eval=True).max_accuracy_drop == 0.01


def raises(_: Any) -> float:
    raise KeyError("labels")


@pytest.mark.parametrize(
    ("function", "message"),
    [(raises, "eval_fn raised KeyError: 'labels'"), (lambda _: float("nan"), "eval_fn gave nan; wanted a finite")],
)
def test_a_judge_that_fails_is_told_at_once(function: Any, message: str, tmp_path: Path) -> None:
    model = case()
    model.eval_fn = function
    with pytest.raises(ValueError, match=message):
        ModelOptimizer().optimize_model(model, {"max_size": BOUND}, journal=tmp_path)
    assert lines(tmp_path) == 1  # the head


def test_other_models_are_refused() -> None:
    with pytest.raises(TypeError, match=r"taille\.TorchModel\("):
        ModelOptimizer().optimize_model(nn.Linear(2, 2), {"max_size": 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="optimize_model takes a TorchModel, not CompiledModel"):
        ModelOptimizer().optimize_model(taille.compile_model(case()), {"max_size": 1})


def test_settings_have_an_effect(tmp_path: Path) -> None:
    assert shares_from(0.5)[:2] == (0.5, 0.45)
    assert shares_from(0.8)[:2] == (0.2, 0.15)
    assert shares_from(0.0)[0] < 1
    assert methods_for("sensitivity", 10) == ("sensitivity",)
    assert methods_for("magnitude", 10) != methods_for("magnitude", 10**9)
    settings = {"quantization": {"precision": "float16"}}
    contract = {"max_accuracy_drop": 0.5, "techniques": ["quantization"], "threads": 1}
    native, _ = ModelOptimizer(settings).optimize_model(case(), contract, journal=tmp_path)
    keys = [c["key"] for c in native.metadata["search"]["candidates"]]
    assert keys == ["dense float32", "dense float16"]
    with pytest.raises(ValueError, match="presicion"):
        ModelOptimizer({"quantization": {"presicion": "int8"}})


def labelled() -> taille.TorchModel:
    model = case()
    x, y = torch.from_numpy(TRAIN), torch.from_numpy(TRAIN_LABELS)
    model.train_data = list(zip(x.split(64), y.split(64), strict=True))
    model.loss_fn = nn.functional.cross_entropy
    return model


def test_students_where_nothing_else_does_and_by_the_settings(tmp_path: Path) -> None:
    settings = {"distillation": {"temperature": 2.5, "alpha": 0.3}}
    contract = {"max_size": 60_000, "max_accuracy_drop": 0.1, "techniques": ["quantization", "distillation"]}
    native, _ = ModelOptimizer(settings).optimize_model(labelled(), {**contract, "threads": 1}, journal=tmp_path)
    assert native.metadata["search"]["chosen"].startswith("student 0.5")
    (step,) = [s for s in native.metadata["recipe"] if s["step"] == "distill"]
    assert (step["temperature"], step["alpha"], step["width"]) == (2.5, 0.3, 0.5)


def test_mixed_gets_what_the_contract_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(model: Any, precision: str, **options: Any) -> Any:
        asked.append((precision, options["calibration_samples"], options["max_accuracy_drop"]))
        return quantize_model(model, precision, **options)

    quantize_model = taille.quantize_model
    monkeypatch.setattr("taille.quantization.quantize_model", noted)
    contract = {"max_accuracy_drop": 0.25, "techniques": ["quantization"], "threads": 1}
    settings = {"quantization": {"precision": "mixed", "calibration_samples": 64}}
    ModelOptimizer(settings).optimize_model(case(), contract, journal=tmp_path)
    assert asked == [("float16", 64, None), ("mixed", 64, pytest.approx(0.25))]


def test_evidence_that_does_not_fit_is_left_out(tmp_path: Path) -> None:
    contract = {"max_size": BOUND, "techniques": ["quantization"], "threads": 1}
    full, metrics = ModelOptimizer().optimize_model(case(), contract, journal=tmp_path / "a")
    tight = {**contract, "max_size": int(metrics["size_bytes"]) - 500}
    native, less = ModelOptimizer().optimize_model(case(), tight, journal=tmp_path / "b")
    assert full.metadata["search"]["layers"]
    assert native.metadata["search"]["layers"] == []
    assert native.save(tmp_path / "m") == less["size_bytes"] <= tight["max_size"]


def test_time_that_is_up_ends_the_search_with_the_best_so_far(tmp_path: Path) -> None:
    contract = {"max_accuracy_drop": 0.5, "threads": 1, "time_budget_s": 1e-3}
    native, _ = ModelOptimizer().optimize_model(case(), contract, journal=tmp_path)
    assert [c["key"] for c in native.metadata["search"]["candidates"]] == ["dense float32"]


def test_layers_are_timed_once_per_shape(tmp_path: Path) -> None:
    native = taille.compile_model(case(), threads=1)
    layers = [n["name"] for n in native.nodes() if n["op"] == "linear"]
    path = tmp_path / "times.json"
    predictor = Predictor(native.graph, layers, {"input": HELD_OUT[:64]}, 1, LatencyTable(path))
    predictor.seconds_saved("block4x4", 0.1)
    stored = json.loads(path.read_text())
    assert [len(times) for times in stored.values()] == [len(layers)]
    assert predictor.seconds_saved("unstructured", 0.1) == 0
    table = LatencyTable(path)
    table.ratios = dict.fromkeys(table.ratios, 0.0)  # what the table says is believed
    known = Predictor(native.graph, layers, {"input": HELD_OUT[:64]}, 1, table)
    assert known.seconds_saved("block4x4", 0.1) == pytest.approx(sum(known._dense[name] for name in layers))
    path.write_text("{damaged")
    assert LatencyTable(path).ratios == {}


def test_zeroed_weights_keep_whole_blocks() -> None:
    weight = np.ones((8, 3, 3, 16), np.int8)
    found = zeroed(weight, (4, 4), 0.25, np.random.default_rng(0))
    blocks = found.reshape(2, 4, 36, 4).transpose(0, 2, 1, 3).reshape(72, 16)
    assert set(blocks.sum(1)) == {0, 16}
    assert (blocks.sum(1) > 0).sum() == 18
    np.testing.assert_array_equal(zeroed(np.ones((6, 16)), (4, 4), 0.1, np.random.default_rng(0)), 1)


def entries(points: Sequence[tuple[float, float, float]]) -> Iterator[Entry]:
    for i, (ms, size, accuracy) in enumerate(points):
        yield Entry(str(i), {}, {"latency_ms": ms, "size_bytes": size, "accuracy": accuracy})


def test_the_front_is_what_nothing_beats() -> None:
    found = front(entries([(1, 1, 0.9), (2, 1, 0.9), (1, 2, 0.8), (0.5, 3, 0.7), (1, 1, 0.9)]))
    assert [e.key for e in found] == ["0", "3", "4"]


def test_the_command_line(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from taille.cli.app import app

    (tmp_path / "m.py").write_text("from optimize_case import case\ndef model():\n    return case()\n")
    np.savez(tmp_path / "d.npz", inputs=HELD_OUT, targets=LABELS)
    common = ["optimize", f"{tmp_path}/m.py:model", "-o", f"{tmp_path}/x.safetensors", "--threads", "1"]
    given = [*common, "--max-size", "100kB", "--data", f"{tmp_path}/d.npz", "--journal", f"{tmp_path}/j", "--json"]
    given += ["--techniques", "quantization, pruning", "--seed", "5"]
    done = CliRunner().invoke(app, given, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["metrics"]["size_bytes"] <= 100_000
    assert (said["contract"]["techniques"], said["seed"]) == (["quantization", "pruning"], 5)
    assert taille.load(tmp_path / "x.safetensors").metadata["search"]["chosen"] == said["chosen"]
    refused = CliRunner().invoke(app, [*common, "--max-size", "50", "--journal", f"{tmp_path}/k"])
    assert refused.exit_code == 1
    assert "max_size is 50 bytes" in " ".join(refused.output.split())
    assert torch.get_num_threads() >= 1
