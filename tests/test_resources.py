"""Fitting a model to memory and time: the order of least harm, measured, and what the settings do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import taille
from optimize_case import case
from taille.measurement.memory import peak_memory
from taille.optimization import evaluation
from taille.resources import ResourceOptimizer, optimizer


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluation, "SECONDS", 0.02)
    monkeypatch.setattr(evaluation, "FINAL_SECONDS", 0.02)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def settings(**compute: Any) -> dict[str, Any]:
    return {"compute": {"batch_size": 2, "max_threads": 1} | compute}


def test_memory_is_kept_and_measured() -> None:
    model = case()
    most = 8_000_000
    found = ResourceOptimizer(settings()).optimize_memory(model, most)
    stored = found.metadata["resources"]
    assert stored["batch_size"] == 2
    assert stored["peak_memory_bytes"] <= most
    sample = evaluation.sample_of(model, 2)
    assert (peak_memory(found, sample) or 0) <= 1.2 * most  # measured anew; it differs from run to run
    assert found.threads == 1


def test_batches_shrink_before_weights_go(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Refusing:
        def optimize_model(self, _: Any, constraints: dict[str, Any], **__: Any) -> Any:
            asked.append((constraints["batch_size"], len(constraints["techniques"]), constraints["max_memory"]))
            raise taille.ConstraintError("too small")

    monkeypatch.setattr(optimizer, "ModelOptimizer", Refusing)
    with pytest.raises(taille.ConstraintError, match="too small"):
        ResourceOptimizer(settings(batch_size=4)).optimize_memory(case(), "3GB")
    assert asked == [(4, 1, 2 * 10**9), (2, 1, 2 * 10**9), (1, 1, 2 * 10**9), (1, 3, 2 * 10**9)]  # max_usage is 2GB
    asked.clear()
    with pytest.raises(taille.ConstraintError):
        ResourceOptimizer({"memory": {"max_usage": "1MB"}} | settings()).optimize_memory(case(), "3GB")
    assert {most for *_, most in asked} == {10**6}


def test_the_buffer_bounds_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    native = taille.compile_model(case(), threads=1)
    arenas = {batch: native.arena_bytes(evaluation.sample_of(case(), batch)) for batch in (256, 128, 1)}
    assert arenas[256] > arenas[128] > arenas[1] > 0

    class Found:
        def optimize_model(self, _: Any, constraints: dict[str, Any], **__: Any) -> Any:
            return native, {"peak_memory_bytes": 5e6, "size_bytes": 4e6}

    monkeypatch.setattr(optimizer, "ModelOptimizer", Found)
    for batch, buffer in arenas.items():
        small = ResourceOptimizer({"memory": {"buffer_size": buffer}} | settings(batch_size=256))
        stored = small.optimize_memory(case(), "1GB").metadata["resources"]
        assert (stored["batch_size"], stored["arena_bytes"]) == (batch, buffer)
    least = arenas[1]
    with pytest.raises(taille.ConstraintError, match=f"buffer_size is .* a batch of 1 take {least:,} bytes"):
        ResourceOptimizer({"memory": {"buffer_size": least - 1}} | settings()).optimize_memory(case(), "1GB")


def test_the_arena_is_what_a_run_makes() -> None:
    native = taille.compile_model(case(), threads=1)
    sample = evaluation.sample_of(case(), 64)
    planned = native.arena_bytes(sample)
    assert native._model.arena_bytes() == 0
    native.predict(sample)
    assert native._model.arena_bytes() == planned


def test_compute_goes_by_the_batch_and_the_threads() -> None:
    found = ResourceOptimizer(settings(batch_size=3)).optimize_compute(case(), 1.0)
    contract = found.metadata["search"]["contract"]
    assert (contract["batch_size"], contract["threads"], contract["max_latency_ms"]) == (3, 1, 1000.0)
    with pytest.raises(taille.ConstraintError, match="max_latency_ms"):
        ResourceOptimizer(settings()).optimize_compute(case(), 1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda r: r.optimize_memory(case(), "5 apples"), ValueError, "target_size"),
        (lambda r: r.optimize_compute(case(), "fast"), TypeError, "target_latency is 'fast'"),
        (lambda r: r.optimize_compute(case(), 0), ValueError, "target_latency is 0"),
        (lambda r: r.optimize_compute(case(), 1, device="tpu"), ValueError, "device is 'tpu'"),
    ],
)
def test_what_is_no_target(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(ResourceOptimizer())
