"""measure_performance: what is measured, on what, and what each mistake is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from plain_models import echo, wide
from support import output_of
from taille.measurement import measure_performance, resident, turns
from taille.measurement.memory import CHILD, peak_memory
from taille.measurement.performance import native_model
from taille.measurement.request import read_samples
from taille.measurement.turns import Latency, take_turns

F32 = np.float32
RNG = np.random.default_rng(0)
X = RNG.standard_normal((10, 3)).astype(F32)
Y = RNG.integers(0, 3, 10)
HAS_PROC = Path("/proc/self/clear_refs").exists()


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here asserts a time, so none needs to wait for a quiet machine."""
    monkeypatch.setattr(turns, "settle", lambda: None)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.001)


def quick(model: Any, test_data: Any, **options: Any) -> dict[str, float]:
    return measure_performance(model, test_data, **{"seconds": 0, "memory": False, **options})


def test_what_is_measured() -> None:
    model = echo()
    found = measure_performance(model, {"inputs": X, "targets": Y, "batch_size": 4}, seconds=0)
    keys = {"latency_ms_p50", "latency_ms_p90", "latency_ms_p99", "throughput", "size_bytes", "sparsity"}
    assert set(found) - {"peak_memory_bytes"} == keys | {"accuracy", "batch_size", "threads"}
    assert ("peak_memory_bytes" in found) == HAS_PROC
    assert all(type(v) is float and np.isfinite(v) for v in found.values())
    assert found["accuracy"] == np.mean(X.argmax(1) == Y)
    assert 0 < found["latency_ms_p50"] <= found["latency_ms_p90"] <= found["latency_ms_p99"]
    assert found["size_bytes"] == model.size_bytes
    assert (found["batch_size"], found["threads"]) == (4, 1)


def test_what_has_no_input_is_absent() -> None:
    found = quick(echo(), {"inputs": X, "metric": "f1"})
    assert not {"accuracy", "f1", "peak_memory_bytes", "latency_ratio"} & set(found)
    assert "latency_ms_p99.9" in quick(echo(), {"inputs": X}, percentiles=(99.9,))


@pytest.mark.parametrize("metric", ["rmse", "r2"])
def test_a_named_metric_stands_under_both_names(metric: str) -> None:
    noise = RNG.standard_normal(X.shape).astype(F32)
    found = quick(echo(), {"inputs": X, "targets": X + 0.1 * noise, "metric": metric, "batch_size": 4})
    if metric == "rmse":
        assert found["rmse"] == pytest.approx(np.sqrt(np.mean((0.1 * noise) ** 2)), rel=1e-5)
        assert found["accuracy"] == -found["rmse"]  # higher is better
    else:
        assert 0.9 < found["r2"] == found["accuracy"] < 1


def test_a_callable_sees_all_samples_in_order_and_in_kind() -> None:
    def closeness(outputs: Any, targets: Any) -> float:
        np.testing.assert_array_equal(outputs, X)
        assert targets is given
        return 0.25

    given = list(range(10))
    found = quick(echo(), {"inputs": X, "targets": given, "metric": closeness, "batch_size": 4})
    assert (found["accuracy"], found["closeness"]) == (0.25, 0.25)

    def throughput(outputs: Any, targets: Any) -> float:  # a name that is taken
        return -5.0

    found = quick(echo(), {"inputs": (X,), "targets": Y, "metric": throughput})
    assert found["accuracy"] == -5
    assert found["throughput"] > 0


def test_tensors_in_tensors_to_the_callable() -> None:
    import torch

    seen = []
    x = torch.from_numpy(X)
    data = {"inputs": {"x": x}, "targets": torch.from_numpy(Y), "batch_size": 3}
    quick(echo(outputs=2), data | {"metric": lambda outputs, targets: seen.append(outputs) or 0.5})
    assert isinstance(seen[0], tuple)
    assert torch.equal(seen[0][1], x)
    assert quick(echo(), data)["accuracy"] == np.mean(X.argmax(1) == Y)


def test_a_baseline_takes_turns() -> None:
    found = quick(echo(), {"inputs": X, "targets": Y}, baseline=wide_echo())
    for key in ("accuracy", "latency_ms_p50", "throughput", "size_bytes"):
        assert found[f"{key}_ratio"] == found[key] / found[f"baseline_{key}"]
    assert found["latency_ratio_p10"] <= found["latency_ratio"] <= found["latency_ratio_p90"]
    assert found["baseline_size_bytes"] > found["size_bytes"]
    assert "sparsity_ratio" not in found  # the baseline's is 0


def wide_echo() -> taille.CompiledModel:
    return echo(metadata={"name": "echo", "note": "x" * 1000})


def test_threads_are_those_asked_for() -> None:
    model = echo()
    assert native_model(model, None) is model
    found = quick(model, {"inputs": X}, threads=2, baseline=model)
    assert (found["threads"], found["baseline_threads"], model.threads) == (2, 2, 1)
    found = quick(model, {"inputs": X}, baseline=native_model(model, 2))  # the same conditions for both
    assert (found["threads"], found["baseline_threads"]) == (1, 1)


def test_fewer_samples_than_a_batch_repeat_for_times_alone() -> None:
    calls = []

    def count(outputs: Any, targets: Any) -> float:
        calls.append(len(outputs))
        return 1.0

    found = quick(echo(), {"inputs": X, "targets": Y, "metric": count, "batch_size": 64})
    assert (found["batch_size"], calls) == (64, [10])
    samples = read_samples(X, echo().input_spec, 64)
    np.testing.assert_array_equal(samples.full_batch()["x"], X[np.arange(64) % 10])


def test_a_fixed_batch() -> None:
    model = echo(batch=5)
    found = quick(model, {"inputs": X, "targets": Y})
    assert (found["batch_size"], found["accuracy"]) == (5, np.mean(X.argmax(1) == Y))
    with pytest.raises(ValueError, match="fixed to 5"):
        quick(model, {"inputs": X, "batch_size": 2})
    with pytest.raises(ValueError, match="9 samples"):
        quick(model, {"inputs": X[:9]})


NAN = X.copy()
NAN[7, 1] = np.nan


def raises(outputs: Any, targets: Any) -> float:
    raise KeyError("lost")


@pytest.mark.parametrize(
    ("test_data", "error", "part"),
    [
        ([X], TypeError, "test_data is list"),
        ({"input": X}, ValueError, "did you mean inputs"),
        ({"targets": Y}, ValueError, "no inputs; wanted x: float32"),
        ({"inputs": X, "metric": "mse"}, ValueError, r"test_data\['metric'\] is 'mse'; wanted one of accuracy"),
        ({"inputs": X, "targets": Y[:9]}, ValueError, r"test_data\['targets'\] has 9 targets; .* has 10 samples"),
        ({"inputs": X, "targets": 1}, TypeError, r"test_data\['targets'\] is int"),
        ({"inputs": X, "targets": NAN[:, 1], "metric": "rmse"}, ValueError, r"\['targets'\] is NaN at sample 7"),
        ({"inputs": X, "targets": list(NAN[:, 1]), "metric": "rmse"}, ValueError, r"\['targets'\] is NaN at sample 7"),
        ({"inputs": X, "targets": (Y, Y[:3]), "metric": raises}, ValueError, r"\['targets'\]\[1\] has 3"),
        ({"inputs": X.astype(float)}, TypeError, r"test_data\['inputs'\]: input 'x' is float64"),
        ({"inputs": X[:, :2]}, ValueError, r"test_data\['inputs'\]: input 'x' has shape"),
        ({"inputs": X[:0]}, ValueError, r"test_data\['inputs'\] has samples: 'x' 0"),
        ({"inputs": {"z": X}}, ValueError, r"test_data\['inputs'\]: .*unknown: z"),
        ({"inputs": X, "batch_size": 0}, ValueError, r"test_data\['batch_size'\] is 0"),
        ({"inputs": X, "batch_size": 2.0}, TypeError, r"test_data\['batch_size'\] is 2.0"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(test_data: Any, error: type[Exception], part: str) -> None:
    model = echo()
    model.predict = None  # type: ignore[assignment,method-assign] # so that a run would be a TypeError of its own
    with pytest.raises(error, match=part):
        measure_performance(model, test_data)


@pytest.mark.parametrize(
    ("test_data", "error", "part"),
    [
        ({"inputs": NAN, "targets": Y}, ValueError, "output 'y0' is NaN at sample 7"),
        ({"inputs": X, "targets": Y, "metric": raises}, RuntimeError, r"\['metric'\], raises, raised KeyError: 'lost'"),
        ({"inputs": X, "targets": Y, "metric": lambda o, t: np.nan}, ValueError, r"\['metric'\].*gave nan"),
        ({"inputs": X, "targets": Y, "metric": lambda o, t: None}, TypeError, r"\['metric'\].*gave NoneType"),
        ({"inputs": X, "targets": Y, "metric": "rmse"}, ValueError, r"\['metric'\]: rmse takes .* one shape"),
        ({"inputs": X, "targets": X[:, 0]}, ValueError, r"\['metric'\]: accuracy takes integer classes"),
    ],
)
def test_what_goes_wrong_in_a_run_is_told_before_times_are_measured(
    test_data: Any, error: type[Exception], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taille.measurement.performance.time_batch", lambda *_: pytest.fail("times are measured"))
    with pytest.raises(error, match=part):
        quick(echo(), test_data | {"batch_size": 4})


def test_a_named_metric_takes_one_output() -> None:
    with pytest.raises(ValueError, match=r"takes one output; the model gives 2"):
        quick(echo(outputs=2), {"inputs": X, "targets": Y})


def test_other_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="percentiles has 101"):
        quick(echo(), {"inputs": X}, percentiles=(101,))
    with pytest.raises(ValueError, match="seconds is -1"):
        quick(echo(), {"inputs": X}, seconds=-1)
    with pytest.raises(ValueError, match="baseline takes"):
        quick(echo(), {"inputs": X}, baseline=wide(3, 8).__class__(two_inputs(), {}, threads=1))
    with pytest.raises(TypeError, match="TorchModel"):
        measure_performance(object(), {"inputs": X})  # type: ignore[arg-type]


def two_inputs() -> Any:
    from taille import _native

    g = _native.Graph()
    a, b = g.add_input("x", "float32", ["batch", 3]), g.add_input("z", "float32", ["batch", 3])
    g.add_output("y", g.add_node("add", [a, b], {}, "sum"))
    return _native.optimize(g)[0]


class Clock:
    """A clock that only the contestants move."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        pass


def test_times_are_what_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = Clock(), []
    monkeypatch.setattr(turns, "time", clock)
    monkeypatch.setattr(turns, "TURN_SECONDS", 0.03)

    def contestant(name: str, seconds: float) -> Any:
        def call() -> None:
            order.append(name)
            clock.now += seconds

        return call

    slow, quick = take_turns([contestant("slow", 0.02), contestant("quick", 0.002)], seconds=2)
    assert set(np.round(slow.samples, 9)) == {0.02}
    assert set(np.round(quick.samples, 9)) == {0.002}
    assert {len(turn) for turn in slow.turns} == {1}
    assert len(quick.turns[0]) in (14, 15)  # 30 ms, in floating point
    assert len(slow.turns) == len(quick.turns) >= 5
    after = order[-2 * (2 + 1 + len(quick.turns[0])) :]
    assert after == (["slow"] * 2 + ["quick"] * (1 + len(quick.turns[0]))) * 2
    assert quick.spread == pytest.approx((1, 1))


def test_a_latency_says_how_sure_its_median_is() -> None:
    latency = Latency([[1.0, 1.0, 9.0], [2.0, 2.0, 9.0], [4.0, 4.0, 9.0]])
    assert latency.medians == [1, 2, 4]
    low, high = np.percentile([1, 2, 4], [10, 90]) / 2
    assert latency.spread == pytest.approx((low, high))
    assert latency.percentile(100) == 9


@pytest.mark.skipif(not HAS_PROC, reason="no /proc to read memory from")
def test_peak_memory_is_that_of_the_model() -> None:
    model = wide(64, 16384)  # 4 MiB of weights
    x = np.ones((512, 64), F32)
    one, many = peak_memory(model, {"x": x[:1]}), peak_memory(model, {"x": x})
    assert one is not None
    assert many is not None
    assert model.size_bytes <= one < 4 * model.size_bytes  # as stored and as packed, for a moment both
    assert 28 * 2**20 < many - one < 40 * 2**20  # what the first layer gives is 32 MiB
    inputs = np.ones((1024, 4096), F32)  # 16 MiB, which are there without the model
    narrow = peak_memory(wide(4096, 16), {"x": inputs})
    assert narrow is not None
    assert narrow < inputs.nbytes / 2


@pytest.mark.parametrize(
    ("may_reset", "readings", "peak"),  # readings of (now, most): before, then after each run
    [
        (True, [(100, 120), (150, 180), (150, 180)], 80),  # at its height while it loads
        (True, [(100, 120), (110, 115), (112, 115)], 15),  # below the start-up's peak, which is forgotten
        (False, [(100, 120), (150, 180), (150, 180)], 80),
        (False, [(100, 120), (110, 120), (112, 120)], 12),  # the peak is the start-up's, so what stays counts
    ],
)
def test_the_peak_is_told_from_that_of_the_start_up(
    may_reset: bool,
    readings: list[tuple[int, int]],
    peak: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    echo().save(tmp_path / "m.safetensors")
    monkeypatch.setattr(resident, "CLEAR", tmp_path / "clear" if may_reset else tmp_path / "none" / "clear")
    monkeypatch.setattr(resident, "resident", iter(readings).__next__)
    resident.main(str(tmp_path / "m.safetensors"), str(tmp_path / "x.npz"), "1")
    assert json.loads(capsys.readouterr().out) == {"peak_bytes": peak}


@pytest.mark.skipif(not HAS_PROC, reason="no /proc to read memory from")
def test_a_process_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"peak memory: exit status 1: (.|\n)*rank|shape"):
        peak_memory(echo(), {"x": X[0]})
    monkeypatch.setattr(sys, "executable", None)
    assert peak_memory(echo(), {"x": X}) is None


@pytest.mark.skipif(not HAS_PROC, reason="no /proc to read memory from")
def test_the_process_needs_no_torch(tmp_path: Path) -> None:
    echo().save(tmp_path / "m.safetensors")
    np.savez(tmp_path / "x.npz", x=X)
    code = CHILD.replace("main(*", "sys.modules['torch'] = None; main(*")
    arguments = [json.dumps(sys.path), str(tmp_path / "m.safetensors"), str(tmp_path / "x.npz"), "1"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert list(json.loads(done.stdout)) == ["peak_bytes"]


def test_importing_it_brings_no_torch() -> None:
    code = "import sys, taille.measurement, taille.validation; print('torch' in sys.modules)"
    assert output_of(code) == "False"
