"""The search on a Ray cluster: here, one that the test starts on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from optimize_case import HELD_OUT, LABELS, case
from ray_instance import ray_instance
from support import run_python
from taille.measurement.turns import Latency
from taille.optimization import ModelOptimizer, evaluation
from taille.optimization.cluster import RayExecutor, Searcher, work
from taille.optimization.recipes import Recipe
from taille.optimization.workshop import TimeIsUp, Workshop

CONTRACT = {"max_size": 65_000, "max_accuracy_drop": 0.05, "threads": 1, "techniques": ["quantization", "pruning"]}


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    with ray_instance():
        yield


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluation, "take_turns", lambda calls, _: [Latency([[1e-3]] * 5) for _ in calls])
    monkeypatch.setattr(evaluation, "peak_memory", lambda *_: None)  # which takes a process each time
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.usefixtures("two_workers")
def test_the_same_search_on_workers(tmp_path: Path) -> None:
    together = []

    def noted(stage: str, done: int, total: int) -> None:
        if stage == "candidates on the cluster":
            together.append(total)

    far, metrics = ModelOptimizer(executor="ray").optimize_model(case(), CONTRACT, journal=tmp_path, progress=noted)
    assert max(together) == 2  # as many as there are CPUs
    found = far.metadata["search"]
    made = [c for c in found["candidates"] if c["key"].startswith("block") and not c["error"]]
    assert len(made) > 1
    assert metrics["size_bytes"] <= 65_000
    quality = float((np.asarray(far.predict(HELD_OUT)).argmax(1) == LABELS).mean())
    assert quality == metrics["accuracy"]  # said by a worker, and true here
    calls = []
    near, _ = ModelOptimizer().optimize_model(case(lambda: calls.append(1)), CONTRACT, journal=tmp_path)
    there = {c["key"] for c in found["candidates"]}
    assert len(calls) == len({c["key"] for c in near.metadata["search"]["candidates"]} - there)  # the journal is one


def deadly(path: Path, times: int) -> Callable[[taille.BaseMLModel], float]:
    """A quality that kills its process so many times; the file says how often it was asked for."""

    def quality(_: taille.BaseMLModel) -> float:  # within, so that it is sent as it is, and not as a name
        with path.open("a") as file:
            file.write("x")
        if path.stat().st_size <= times:
            os._exit(1)
        return 1.0

    return quality


def executor(model: taille.TorchModel, folder: Path, deadline: float = float("inf")) -> RayExecutor:
    import time

    def tick(*_: object) -> None:
        if time.monotonic() > deadline:
            raise TimeIsUp

    return RayExecutor(Workshop(model, ModelOptimizer().config, 0, 1), folder, tick, min(deadline, 1e9))


RECIPE = Recipe("int8", "block4x4", 0.25, "structured")


@pytest.mark.usefixtures("two_workers")
def test_a_lost_worker_is_replaced_or_told(tmp_path: Path) -> None:
    model = case()
    model.eval_fn = deadly(tmp_path / "once", 1)
    (made,) = executor(model, tmp_path).make([RECIPE], None)
    assert (made.error, made.accuracy) == ("", 1.0)
    assert (tmp_path / "once").stat().st_size == 2
    model.eval_fn = deadly(tmp_path / "always", 99)
    (made,) = executor(model, tmp_path).make([RECIPE], None)
    assert made.native is None
    assert made.passing  # so the journal does not hold it against the recipe
    assert made.error.startswith("its worker was lost 3 times")
    assert (tmp_path / "always").stat().st_size == 3


@pytest.mark.usefixtures("two_workers")
def test_what_fails_on_a_worker_is_told_and_time_ends(tmp_path: Path) -> None:
    model = case()
    model.eval_fn = lambda _: float("nan")
    (made,) = executor(model, tmp_path).make([RECIPE], None)
    assert made.error.startswith("ValueError: eval_fn gave nan")
    assert not made.passing
    with pytest.raises(TimeIsUp):
        next(executor(case(), tmp_path, deadline=0.0).make([RECIPE], None))


def test_layers_are_timed_on_the_same_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Noting(Workshop):
        def make(self, *args: Any) -> Any:
            asked.append(args[-1])
            raise TimeIsUp

    shop, here = Noting(case(), ModelOptimizer().config, 0, 1), Searcher.here()
    assert not work(shop, RECIPE, None, 9.0, here).in_time
    work(shop, RECIPE, None, 9.0, Searcher("another", "avx512vnni", here.version))
    work(shop, RECIPE, None, 9.0, Searcher("another", "avx2", here.version))
    assert asked[0]["never_slower"]
    assert asked[1:] == [
        {"weight_clipping": "mse", "never_slower": False},
        {"weight_clipping": "pairs", "never_slower": False},
    ]
    other = work(shop, RECIPE, None, 9.0, Searcher(here.cpu, here.isa, "0.0"))
    assert "a worker has taille" in other.error
    assert other.passing
    assert len(asked) == 3


def test_ray_that_is_not_there_is_named() -> None:
    code = """
import sys, tempfile
sys.modules["ray"] = None  # makes `import ray` raise, as if it were not installed
from optimize_case import case
from taille.optimization import ModelOptimizer
ModelOptimizer(executor="ray").optimize_model(case(), {"max_size": "1MB"}, journal=tempfile.mkdtemp())
"""
    done = run_python(code, PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    assert "ImportError: executor='ray' needs Ray: pip install 'taille[ray]'" in done.stderr
    with pytest.raises(ValueError, match="executor is 'slurm'; wanted one of local, ray"):
        ModelOptimizer(executor="slurm")
