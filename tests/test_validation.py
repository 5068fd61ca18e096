"""test_optimization and test_resource_usage: what passes, what fails, and why it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from plain_models import echo, wide
from taille import test_optimization, test_resource_usage  # were they collected, they would be errors: no fixture
from taille.layer_report import LayerReport
from taille.measurement import measure_performance, turns
from taille.measurement.turns import Latency
from taille.quantized import QuantizedModel
from taille.validation import Verdict
from taille.verdict import Findings, check_times, compare_times

F32 = np.float32
RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 3)).astype(F32)
Y = X.argmax(1)
Y[:2] = (Y[:2] + 1) % 3  # accuracy 0.9
DATA = {"inputs": X, "targets": Y, "batch_size": 4}
HAS_PROC = Path("/proc/self/clear_refs").exists()


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here asserts a time, so none needs to wait for a quiet machine."""
    monkeypatch.setattr(turns, "settle", lambda: None)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.001)


def verdict(model: Any, baseline_metrics: Any, **options: Any) -> Verdict:
    return test_optimization(model, baseline_metrics, explain=True, seconds=0, **{"test_data": DATA, **options})


def test_pytest_is_told_that_they_are_no_tests() -> None:
    assert test_optimization.__test__ is False  # type: ignore[attr-defined]
    assert test_resource_usage.__test__ is False  # type: ignore[attr-defined]


def test_a_bool_unless_reasons_are_asked_for() -> None:
    assert test_optimization(echo(), {"accuracy": 0.9}, test_data=DATA) is True
    assert test_optimization(echo(), {"accuracy": 0.95}, test_data=DATA) is False
    assert test_resource_usage(echo(), {"max_size": "1MB"}) is True
    assert test_resource_usage(echo(), {"max_size": 10}) is False
    found = verdict(echo(), {"accuracy": 0.95})
    assert not found
    assert not found.passed
    assert found.reasons == ("failed: accuracy 0.9, was 0.95, may fall by 0.01",)
    assert str(found) == found.reasons[0]
    assert found.metrics == {"accuracy": 0.9}


@pytest.mark.parametrize(
    ("was", "drop", "passed"), [(0.91, 0.01, True), (0.92, 0.01, False), (0.92, 0.02, True), (0.8, 0, True)]
)
def test_accuracy_may_fall_by_so_much(was: float, drop: float, passed: bool) -> None:
    assert bool(verdict(echo(), {"accuracy": was}, max_accuracy_drop=drop)) is passed


def test_a_drop_of_exactly_what_is_allowed_passes() -> None:
    targets = np.concatenate([X[:2].argmax(1), (X[2:].argmax(1) + 1) % 3])  # 2 of 20 are right
    assert 0.4 - 0.3 > 0.1  # in floating point
    assert verdict(echo(), {"accuracy": 0.4}, max_accuracy_drop=0.3, test_data={"inputs": X, "targets": targets})


def test_an_error_may_rise_by_so_much() -> None:
    data = {"inputs": X, "targets": X + F32(0.5), "metric": "rmse"}
    assert verdict(echo(), {"accuracy": -0.495}, test_data=data)
    assert not verdict(echo(), {"accuracy": -0.4}, test_data=data)


def test_size_is_compared_but_for_the_recipe() -> None:
    model = echo(metadata={"note": "x" * 20_000})
    assert verdict(model, {"size_bytes": model.size_bytes - 1000})
    found = verdict(model, {"size_bytes": model.size_bytes - 10_000})
    assert not found
    assert found.reasons[0].startswith(f"failed: size {model.size_bytes:,} bytes")


def test_every_failure_is_told() -> None:
    found = verdict(echo(), {"accuracy": 0.95, "size_bytes": 1e9, "latency_ms_p50": 1e-9})
    assert [r.split(":")[0] for r in found.reasons] == ["failed", "ok", "failed"]
    assert "batch 4, threads 1" in found.reasons[2]
    assert verdict(echo(), {"accuracy": 0.9, "latency_ms_p50": 1e9})
    assert not verdict(echo(), {"throughput": 1e15})
    assert verdict(echo(), {"throughput": 1e-3})


def test_what_measure_performance_gives_is_a_baseline() -> None:
    before = measure_performance(echo(), DATA, seconds=0, memory=False)
    before["latency_ms_p50"] = 1e9  # no test asserts a time
    found = verdict(echo(), before, test_data={"inputs": X, "targets": Y})
    assert found, str(found)
    assert "batch 4" in str(found)  # as the baseline was
    assert set(found.metrics) == {"accuracy", "size_bytes", "latency_ms_p50", "throughput"}


def test_of_what_optimize_model_gives_the_baseline_counts() -> None:
    assert verdict(echo(), {"baseline_accuracy": 0.9, "accuracy": 0.99, "accuracy_ratio": 1.1})
    assert not verdict(echo(), {"baseline_accuracy": 0.99, "accuracy": 0.9, "accuracy_ratio": 0.9})


def latency(*medians: float) -> Latency:
    return Latency([[m, m, m] for m in medians])


@pytest.mark.parametrize(
    ("latencies", "before", "slowdown", "passed"),
    [
        ([latency(1.0, 1.0, 1.0)], 0.99e3, 0.0, False),  # no noise, so 1 % counts
        ([latency(1.0, 1.0, 1.0)], 0.99e3, 0.02, True),
        ([latency(0.8, 1.0, 1.2)], 0.9e3, 0.0, True),  # the 10th percentile is 0.84
        ([latency(0.8, 1.0, 1.2)], 0.83e3, 0.0, False),
        ([latency(1.0, 2.0, 3.0), latency(0.9, 1.8, 2.7)], 0.001, 0.0, True),  # in turns the number does not count
        ([latency(1.0, 2.0, 3.0), latency(1.1, 2.2, 3.3)], 1e9, 0.0, False),
        ([latency(1.0, 2.0, 3.0), latency(1.1, 2.2, 3.3)], 1e9, 0.11, True),
        ([latency(1.0, 1.0, 1.0), latency(0.9, 1.05, 1.2)], 1e9, 0.0, True),  # the ratios' 10th percentile is 0.93
    ],
)
def test_a_latency_is_compared_beyond_its_noise(
    latencies: list[Latency], before: float, slowdown: float, passed: bool
) -> None:
    found = Findings()
    compare_times(found, "latency", latencies, 4, {"latency_ms_p50": before}, slowdown)
    assert found.passed is passed, found.reasons
    found = Findings()
    compare_times(found, "latency", latencies, 4, {"throughput": 4000 / before}, slowdown)
    assert found.passed is passed, found.reasons


def test_a_latency_is_held_to_a_limit_beyond_its_noise() -> None:
    for limit, passed in ((850, True), (830, False), (1000, True)):  # milliseconds; the 10th percentile is 840
        found = Findings()
        check_times(found, "latency", latency(0.8, 1.0, 1.2), 50, limit)
        assert found.passed is passed, found.reasons


def test_the_baseline_itself_takes_turns() -> None:
    found = verdict(echo(), {"latency_ms_p50": 1e-9}, baseline=echo(), max_slowdown=1e6)
    assert found, str(found)
    assert "in the same turns" in found.reasons[0]
    assert found.metrics["latency_ratio"] > 0
    assert "latency_ratio" in verdict(echo(), {"accuracy": 0.9}, baseline=echo()).metrics


@pytest.mark.skipif(not HAS_PROC, reason="no /proc to read memory from")
def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = wide(64, 8192)  # 2 MiB of weights
    assert test_resource_usage(model, {"max_memory": "20MB"})
    peaks = iter([9_000_000, 8_000_000, 7_000_000, 9_000_000, 6_000_000])
    monkeypatch.setattr("taille.verdict.peak_memory", lambda *_: next(peaks))
    found = test_resource_usage(model, {"max_memory": "5MB"}, explain=True)
    assert not found
    assert found.reasons == (
        "failed: peak memory 7,000,000 bytes (7.00 MB) (of 3 runs), limit 5,000,000 bytes (5.00 MB)",
    )
    assert verdict(model, {"peak_memory_bytes": 5_600_000}, test_data=None)  # of two runs, and 512 kB aside
    monkeypatch.setattr("taille.verdict.peak_memory", lambda *_: None)
    with pytest.raises(ValueError, match="cannot be measured"):
        test_resource_usage(model, {"max_memory": "5MB"})


def test_limits() -> None:
    model = echo()
    limits = {"max_size": "1MB", "max_latency_ms": 1e9, "latency_percentile": 90, "batch_size": 8, "threads": 2}
    found = test_resource_usage(model, limits, explain=True, seconds=0)
    assert found, str(found)
    assert set(found.metrics) == {"size_bytes", "latency_ms_p90"}
    assert "batch 8, threads 2: p90" in found.reasons[1]
    assert not test_resource_usage(model, {"max_latency_ms": 1e-9}, seconds=0)
    alone = test_resource_usage(model, {"max_latency_ms": 1e9}, inputs=X, explain=True, seconds=0)
    assert "batch 1, threads 1: p50" in alone.reasons[0]
    assert "batch 5," in str(test_resource_usage(echo(batch=5), {"max_latency_ms": 1e9}, explain=True, seconds=0))


@pytest.mark.parametrize(
    ("limits", "error", "part"),
    [
        ({"max_sise": 1}, ValueError, "unknown limit 'max_sise'; did you mean max_size"),
        ({}, ValueError, "none of max_memory, max_size, max_latency_ms"),
        ({"threads": 1}, ValueError, "none of"),
        ({"max_size": "5 Mb"}, ValueError, "max_size is '5 Mb'"),
        ({"max_memory": True}, TypeError, "max_memory is True"),
        ({"max_latency_ms": "5ms"}, TypeError, "max_latency_ms is '5ms'"),
        ({"max_latency_ms": -1}, ValueError, "max_latency_ms is -1"),
        ({"max_latency_ms": 1, "latency_percentile": 101}, ValueError, "latency_percentile is 101"),
        ({"max_latency_ms": 1, "batch_size": 0}, ValueError, "batch_size'\\] is 0"),
        ({"max_latency_ms": 1, "threads": 0}, ValueError, "threads is 0"),
        ([("max_size", 1)], TypeError, "limits is list"),
    ],
)
def test_wrong_limits(limits: Any, error: type[Exception], part: str) -> None:
    with pytest.raises(error, match=part):
        test_resource_usage(echo(), limits)


@pytest.mark.parametrize(
    ("baseline_metrics", "options", "error", "part"),
    [
        ({}, {}, ValueError, "none of accuracy"),
        ({"f1": 0.9}, {}, ValueError, "none of accuracy.*it has f1"),
        ({"acuracy": 0.9, "size_bytes": 1}, {}, ValueError, "did you mean accuracy"),
        ({"accuracy": "0.9"}, {}, TypeError, r"baseline_metrics\['accuracy'\] is '0.9'"),
        ({"accuracy": float("nan")}, {}, ValueError, r"baseline_metrics\['accuracy'\] is nan"),
        (0.9, {}, TypeError, "baseline_metrics is float"),
        ({"accuracy": 0.9}, {"test_data": None}, ValueError, "nothing to measure it with"),
        ({"accuracy": 0.9}, {"test_data": {"targets": Y}}, ValueError, "targets but no inputs"),
        ({"accuracy": 0.9, "batch_size": 8}, {}, ValueError, "measured at 8"),
        ({"accuracy": 0.9}, {"max_accuracy_drop": -1}, ValueError, "max_accuracy_drop is -1"),
        ({"accuracy": 0.9}, {"threads": 0}, ValueError, "threads is 0"),
        ({"accuracy": 0.9}, {"baseline": 3}, TypeError, "not int"),
        ({"accuracy": 0.9}, {"test_data": [X]}, TypeError, "test_data is list"),
    ],
)
def test_wrong_baselines(baseline_metrics: Any, options: Any, error: type[Exception], part: str) -> None:
    with pytest.raises(error, match=part):
        verdict(echo(), baseline_metrics, **options)


def test_a_model_brings_its_examples_and_its_quality() -> None:
    import torch

    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    seen: list[taille.BaseMLModel] = []
    x = torch.from_numpy(X[:16])
    parent = taille.TorchModel(Same(), (x,), eval_fn=lambda m: seen.append(m) or len(m.predict(x)) / 20)
    small = QuantizedModel(echo().graph, {}, LayerReport(()), parent)  # as quantize_model makes them
    found = verdict(small, {"accuracy": 0.8, "latency_ms_p50": 1e9}, test_data=None)
    assert found, str(found)
    assert isinstance(seen[0], taille.CompiledModel)
    assert "batch 16" in found.reasons[1]  # its parent's examples
    assert not verdict(small, {"accuracy": 0.9}, test_data=None)
    native = taille.compile_model(small)  # has neither
    with pytest.raises(ValueError, match="nothing to measure it with"):
        verdict(native, {"accuracy": 0.8}, test_data=None)


def test_made_up_inputs_need_known_sizes() -> None:
    from taille import _native

    g = _native.Graph()
    ids = g.add_input("ids", "int64", ["batch", "sequence"])
    table = g.add_constant("table", RNG.standard_normal((9, 4)).astype(F32))
    g.add_output("y", g.add_node("embedding", [table, ids], {}, "embedding"))
    model = taille.CompiledModel(_native.optimize(g)[0], {}, threads=1)
    with pytest.raises(ValueError, match=r"sequence\): inputs must be given"):
        test_resource_usage(model, {"max_latency_ms": 1})
    assert test_resource_usage(model, {"max_latency_ms": 1e9}, inputs=np.ones((1, 5), np.int64), seconds=0)
