"""`InferenceOptimizer` from end to end, and what it does where threads and batches are not enough."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from made_up_machine import Machine
from plain_models import echo, kinds, wide
from runner_models import int8_mlp
from taille import InferenceOptimizer, Runner, _native
from taille.inference import load as loads
from taille.inference import optimizer, precision, tuning
from taille.inference.load import Load, closed_loop
from taille.inference.tuning import layouts
from taille.runner_choice import KEY, RunnerChoice, stored_choice, this_cpu


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SECONDS", 0.005)
    monkeypatch.setattr(loads, "LEAST", 3)


def entry(model: taille.CompiledModel) -> dict[str, Any]:
    found: dict[str, Any] = model.metadata[KEY][this_cpu()]
    return found


LAX = {"batch": {"max_latency": 60.0, "size": 8}}  # no bound that a busy machine could miss


def test_from_the_measurement_to_the_runner(short: None, tmp_path: Path) -> None:
    given = int8_mlp()
    metadata = given.metadata | {KEY: {"another CPU": {"streams": 9}}}
    given = taille.CompiledModel(given.graph, metadata)
    found = InferenceOptimizer(LAX).optimize_inference(given, 30.0)
    x = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    np.testing.assert_array_equal(found.predict(x), given.predict(x))
    assert found.metadata[KEY]["another CPU"] == {"streams": 9}
    stored = entry(found)
    assert json.loads(json.dumps(stored)) == stored
    assert (stored["target_latency"], stored["max_latency"], stored["request"]) == (30.0, 60.0, {"x": [1, 32]})
    assert stored["max_batch"] in (8, 4, 2, 1)
    measured = stored["measured"]
    assert 0 < measured["latency_p50"] <= measured["latency_p99"] <= 60
    assert measured["throughput"] > 0
    assert measured["in_flight"] > 1
    assert {(row["streams"], row["threads"]) for row in stored["tried"]} == set(layouts(_native.granted_threads()[0]))
    assert stored["ended"] == tuning.ALL
    assert "precision" not in stored
    found.save(tmp_path / "m.safetensors")
    loaded = taille.load(tmp_path / "m.safetensors")
    assert loaded.metadata == found.metadata
    for model in (found, loaded):
        with Runner(model) as runner:
            assert (runner.streams, runner.threads) == (stored["streams"], stored["threads"])
            assert (runner.max_batch, runner.timeout, runner.max_latency) == (
                stored["max_batch"], stored["timeout"], 60.0,
            )  # fmt: skip
            np.testing.assert_array_equal(runner.predict(x), given.predict(x))


def test_a_closed_loop_keeps_so_many_in_flight() -> None:
    model = wide(64, 64)
    x = {"x": np.ones((1, 64), np.float32)}
    peaks = []

    class Watched(Runner):
        def close(self, timeout: float | None = None) -> None:
            stats = self.stats()
            peaks.append((stats["submitted"] - stats["completed"], max(stats["batch_sizes"]), stats["completed"]))
            super().close(timeout)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loads, "Runner", Watched)
        for in_flight in (1, 6):
            found = closed_loop(model, x, RunnerChoice(1, 1, 4, 0.0, 1.0), in_flight, 0.01, 1e18)
            assert len(found.latencies) >= 2 * in_flight
            assert found.throughput > 0
            assert found.largest_batch <= 4
        ended = closed_loop(model, x, RunnerChoice(1, 1, 4, 0.0, 1.0), 6, 1e9, 0.0)
        assert len(ended.latencies) == 1  # the time is over
    (alone, batch, _), (some, larger, answers), _ = peaks
    assert (alone, batch) == (0, 1)
    assert 0 <= some <= 6
    assert 1 < larger <= 4
    assert answers >= 18  # the first six are not counted


def test_requests_that_the_model_refuses_end_it(short: None) -> None:
    model = kinds()
    request = {"ids": np.full((1, 2), 99), "flags": np.ones((1, 2), bool)}  # the table has 5 rows
    for in_flight in (1, 3):
        with pytest.raises(ValueError, match="99"):
            closed_loop(model, request, RunnerChoice(1, 1, 4, 0.0, 1.0), in_flight, 0.01, 1e18)
    with pytest.raises(ValueError, match="inputs must be given"):
        InferenceOptimizer().optimize_inference(model, 1.0)
    found = InferenceOptimizer(LAX).optimize_inference(model, 30.0, inputs=request | {"ids": np.ones((1, 7), np.int64)})
    assert entry(found)["request"] == {"ids": [1, 7], "flags": [1, 2]}
    with pytest.raises(TypeError, match="ids"):
        InferenceOptimizer().optimize_inference(model, 1.0, inputs={**request, "ids": np.ones((1, 2), np.float32)})


def test_an_interrupt_leaves_the_best_so_far(short: None) -> None:
    mine = InferenceOptimizer(LAX)
    assert mine.best is None

    def interrupted(stage: str, done: int, total: int) -> None:
        if stage == "the best again":
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        mine.optimize_inference(int8_mlp(), 30.0, progress=interrupted)
    assert threading.active_count() == before
    assert mine.best is not None
    assert stored_choice(mine.best) is not None


def test_a_target_that_nothing_meets(short: None) -> None:
    with pytest.raises(taille.ConstraintError) as caught:
        InferenceOptimizer(LAX).optimize_inference(int8_mlp(), 1e-9)
    text = str(caught.value)
    assert text.startswith("target_latency is 1e-09 s; a request alone takes ")
    assert "whose precision is settled: give the TorchModel with calibration_data" in text
    nearest = caught.value.nearest
    assert nearest is not None
    assert nearest["metrics"]["in_flight"] == 1
    would = float(text.partition(" would be met")[0].rpartition("target_latency=")[2])
    assert nearest["metrics"]["latency_p50"] < would < 1.3 * nearest["metrics"]["latency_p50"]
    with pytest.raises(taille.ConstraintError, match=r"batch.max_latency is 1e-09 s; 99 % .* batch.max_latency=\S+ w"):
        InferenceOptimizer({"batch": {"max_latency": 1e-9}}).optimize_inference(int8_mlp(), 30.0)
    with pytest.raises(taille.ConstraintError, match="time_budget_s ended before anything was measured"):
        InferenceOptimizer(LAX).optimize_inference(int8_mlp(), 30.0, time_budget_s=1e-9)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ({"target_latency": "5ms"}, TypeError, "target_latency is '5ms'"),
        ({"target_latency": True}, TypeError, "target_latency is True"),
        ({"target_latency": 0}, ValueError, "target_latency is 0"),
        ({"target_latency": float("nan")}, ValueError, "target_latency is nan"),
        ({"time_budget_s": -1}, ValueError, "time_budget_s is -1"),
        ({"model": "m.safetensors"}, TypeError, "optimize_inference takes"),
        ({"inputs": np.zeros((1, 4), np.float32)}, ValueError, "input 'x' has shape"),
    ],
)
def test_bad_arguments(what: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        InferenceOptimizer().optimize_inference(**{"model": echo(), "target_latency": 1.0} | what)


def test_bad_configurations() -> None:
    for config, message in (({"batch": {"sise": 3}}, "did you mean batch.size"), ({"memory": {}}, "memory")):
        with pytest.raises(ValueError, match=message):
            InferenceOptimizer(config)


class TestCaching:
    """The response cache that the configuration describes."""

    def filled(self, config: dict[str, Any], given: dict[str, Any] | None = None) -> dict[str, Any]:
        model = echo()
        InferenceOptimizer({"cache": config}).setup_caching(model, given)
        for i in range(50):
            model.predict(np.full((1, 3), i % 25, np.float32))
        found = model.cache_statistics
        assert found is not None
        return found

    def test_every_field_has_an_effect(self) -> None:
        usual = self.filled({})
        assert (usual["entries"], usual["hits"], usual["evictions"], usual["expired"]) == (25, 25, 0, 0)
        small = self.filled({"size": "1kB"})
        assert small["evictions"] > 0
        assert small["bytes"] <= 1000
        assert self.filled({"ttl": 1e-9})["hits"] == 0
        with pytest.raises(ValueError, match=r"cache\.strategy"):
            self.filled({"strategy": "lfu"})

    def test_what_is_given_goes_before(self) -> None:
        assert self.filled({"size": "1kB", "ttl": 1e-9}, {"size": "1GB"})["evictions"] == 0
        assert self.filled({"size": "1kB", "ttl": 1e-9}, {"ttl": 3600, "size": "1MB"})["hits"] == 25
        with pytest.raises(ValueError, match=r"cache\.sice"):
            self.filled({}, {"sice": 3})
        with pytest.raises(TypeError, match="cache_config is 3"):
            self.filled({}, 3)  # type: ignore[arg-type]


class TestPrecision:
    """What is done where threads and batches are not enough; times are made up, models and qualities are real."""

    FLOAT, INT8 = 1e-2, 2e-3

    @pytest.fixture(autouse=True)
    def made_up_times(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def measure(native: Any, request: Any, choice: RunnerChoice, in_flight: int, *_: Any) -> Load:
            int8 = any(step["precision"] in ("int8", "mixed") for step in native.metadata["recipe"])
            return Machine(fixed=self.INT8 if int8 else self.FLOAT, each=0.0).measure(choice, in_flight, 0.0)

        monkeypatch.setattr(optimizer, "closed_loop", measure)
        monkeypatch.setattr(_native, "granted_threads", lambda: (1, "made up"))

    def test_float32_stays_where_it_is_fast_enough(self) -> None:
        from optimize_case import case

        found = InferenceOptimizer().optimize_inference(case(), 0.02)
        assert found.metadata["recipe"] == []
        assert "precision" not in entry(found)
        assert entry(found)["request"] == {"input": [1, 32]}

    def test_int8_where_it_is_needed(self) -> None:
        from optimize_case import case

        found = InferenceOptimizer().optimize_inference(case(), 5e-3)
        assert found.metadata["recipe"][-1]["precision"] == "int8"
        said = entry(found)["precision"]
        assert said["chosen"] == "int8"
        assert said["accuracy"] >= said["baseline_accuracy"] - precision.DROP
        assert said["why"] == "target_latency is 0.005 s; a request alone takes 0.01 s (median)"
        # Without an eval_fn nobody judges.
        model = case()
        model.eval_fn = None
        said = entry(InferenceOptimizer().optimize_inference(model, 5e-3))["precision"]
        assert (said["chosen"], "accuracy" in said) == ("int8", False)

    def test_mixed_where_int8_loses_too_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from optimize_case import case

        model = case()
        model.eval_fn = lambda m: 0.5 if (m.metadata["recipe"] or [{}])[-1].get("precision") == "int8" else 0.9
        said = entry(InferenceOptimizer().optimize_inference(model, 5e-3))["precision"]
        assert (said["chosen"], said["accuracy"], said["baseline_accuracy"]) == ("mixed", 0.9, 0.9)
        model.eval_fn = lambda m: 0.9 if not m.metadata["recipe"] else 0.5
        with pytest.raises(taille.ConstraintError, match=r"int8 .*0.5.* and mixed .* cost more than 0.01"):
            InferenceOptimizer().optimize_inference(model, 5e-3)

    def test_what_is_not_allowed_or_of_no_use(self) -> None:
        from optimize_case import case

        model = case()
        with pytest.raises(taille.ConstraintError, match=r"0.002 s \(median\) with 1 thread in int8.* tried as well"):
            InferenceOptimizer().optimize_inference(model, 1e-3)
        with pytest.raises(taille.ConstraintError, match="fewer bits do not gain as much as that"):
            InferenceOptimizer().optimize_inference(model, 1e-4)
        with pytest.raises(taille.ConstraintError, match="it is a QuantizedModel, whose precision is settled"):
            InferenceOptimizer().optimize_inference(taille.quantize_model(model), 1e-3)
        model.calibration_data = None
        with pytest.raises(taille.ConstraintError, match=r"calibration_data=batches. would allow int8"):
            InferenceOptimizer().optimize_inference(model, 5e-3)

    def test_the_budget_holds_for_quantising(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from optimize_case import case

        def late(stage: str, *_: Any) -> None:
            if stage == "calibrating":
                monkeypatch.setattr(optimizer.time, "perf_counter", lambda: 1e18)

        with pytest.raises(taille.ConstraintError, match="time_budget_s ran out while the model was quantised"):
            InferenceOptimizer().optimize_inference(case(), 5e-3, progress=late)


def test_the_command(short: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from taille.cli.app import app

    file = tmp_path / "m.safetensors"
    int8_mlp().save(file)
    monkeypatch.setenv("TAILLE_BATCH_MAX_LATENCY", "60")
    monkeypatch.setenv("TAILLE_BATCH_SIZE", "4")
    arguments = ["tune", str(file), "-o", str(file), "--target-latency-ms", "30000"]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    choice = stored_choice(taille.load(file))
    assert choice is not None
    told = json.loads(done.stdout)
    assert (told["cpu"], told["streams"], told["threads"]) == (this_cpu(), choice.streams, choice.threads)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    assert "requests/s" in done.stdout
    refused = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*arguments[:-1], "1e-6"])
    assert refused.exit_code == 1
    assert "target_latency is 1e-09 s" in refused.output
