"""What the search does with its recipes: nothing is refitted twice, and hopeless shares are passed over."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from optimize_case import TRAIN, case
from taille.config import PERFORMANCE_CONFIG, resolve
from taille.config.sections import PerformanceConfig
from taille.optimization.contract import Contract
from taille.optimization.evaluation import Evaluator
from taille.optimization.journal import Entry, Journal
from taille.optimization.prediction import LatencyTable
from taille.optimization.recipes import REFITTED, Recipe, carry_out
from taille.optimization.search import Search
from taille.optimization.workshop import LocalExecutor, Workshop
from taille.torch_model import TorchModel

CONFIG = resolve(PerformanceConfig, PERFORMANCE_CONFIG)


def test_training_takes_over_the_refit_that_was_looked_at(tmp_path: Path) -> None:
    model = case()
    model.train_data = [(x,) for x in torch.from_numpy(TRAIN).split(64)]
    made: dict[str, TorchModel] = {}

    def stages(recipe: Recipe) -> set[str]:
        found = set()
        carry_out(recipe, model, CONFIG, made, tmp_path, 0, None, lambda stage, _done, _total: found.add(stage), {})
        return found

    blocks = {"precision": "float32", "pattern": "block4x4", "share": 0.5, "method": "structured"}
    assert "reconstructing" in stages(Recipe(**blocks, recovery=REFITTED))
    assert "reconstructing" in stages(Recipe(**blocks | {"pattern": "block1x4"}, recovery="distillation", steps=2))
    trained = stages(Recipe(**blocks, recovery="distillation", steps=2))
    assert "training" in trained
    assert "reconstructing" not in trained
    assert len(made) == 2  # the refitted one, for a longer training, and the newest


class Known(Search):
    """A search that knows how long each share takes, as if measured."""

    times: dict[float, float]

    def _predicted_ms(self, recipe: Recipe) -> float | None:
        return self.times[recipe.share]


def known(tmp_path: Path, times: dict[float, float], **bounds: Any) -> Known:
    model, contract = case(), Contract.parse(bounds, has_eval=True)
    executor = LocalExecutor(Workshop(model, CONFIG, 0, 1), tmp_path, lambda *_: None)
    evaluator = Evaluator(model, contract, Journal(tmp_path, "mark"), executor)
    search = Known(model, contract, CONFIG, evaluator, LatencyTable(tmp_path / "table"), math.inf, lambda _: None)
    search.times = times
    return search


@pytest.mark.parametrize(
    ("share", "ms", "promises"),
    [(0.5, 1.02, True), (0.5, 1.1, False), (0.1, 1.1, True), (0.1, 1.2, False), (0.5, 0.5, True)],
)
def test_only_the_last_share_may_be_nearly_fast_enough(share: float, ms: float, promises: bool, tmp_path: Path) -> None:
    search = known(tmp_path, {share: ms}, max_latency_ms=1)
    assert search._promises(Recipe("int8", "block4x4", share)) == promises


def test_what_has_no_room_for_its_evidence_does_not_end_the_search(tmp_path: Path) -> None:
    search = known(tmp_path, {0.5: 0.9, 0.4: 0.9}, max_size=10_000)

    def judged(size: int) -> str:
        search._note(Entry(f"{size} bytes", {}, metrics={"size_bytes": float(size), "latency_ms": 0.5}))
        return search.state.best.key if search.state.best is not None else ""

    assert judged(9_990) == ""
    assert search._promises(Recipe("int8", "block4x4", 0.4))  # another one of those is not faster, but smaller
    assert judged(7_500) == "7500 bytes"
    assert not search._promises(Recipe("int8", "block4x4", 0.4))
