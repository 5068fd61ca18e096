"""What the search does with its recipes: nothing is refitted twice, and hopeless shares are passed over."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
import torch

from optimize_case import TRAIN, case
from taille.config import PERFORMANCE_CONFIG, resolve
from taille.config.sections import PerformanceConfig
from taille.optimization.contract import Contract
from taille.optimization.evaluation import Evaluator
from taille.optimization.journal import Journal
from taille.optimization.prediction import LatencyTable
from taille.optimization.recipes import REFITTED, Recipe, carry_out
from taille.optimization.search import Search
from taille.torch_model import TorchModel

CONFIG = resolve(PerformanceConfig, PERFORMANCE_CONFIG)


def test_training_takes_over_the_refit_that_was_looked_at(tmp_path: Path) -> None:
    model = case()
    model.train_data = [(x,) for x in torch.from_numpy(TRAIN).split(64)]
    made: dict[str, TorchModel] = {}

    def stages(recipe: Recipe) -> set[str]:
        found = set()
        carry_out(recipe, model, CONFIG, made, tmp_path, 0, None, lambda stage, _done, _total: found.add(stage))
        return found

    blocks = {"precision": "float32", "pattern": "block4x4", "share": 0.5, "method": "structured"}
    assert "reconstructing" in stages(Recipe(**blocks, recovery=REFITTED))
    assert "reconstructing" in stages(Recipe(**blocks | {"pattern": "block1x4"}, recovery="distillation", steps=2))
    trained = stages(Recipe(**blocks, recovery="distillation", steps=2))
    assert "training" in trained
    assert "reconstructing" not in trained
    assert len(made) == 2  # the refitted one, for a longer training, and the newest


class Known(Search):
    """A search that knows how long each share takes, beside a bound of 1 ms."""

    times: dict[float, float]

    def _predicted_ms(self, recipe: Recipe) -> float | None:
        return self.times[recipe.share]


@pytest.mark.parametrize(
    ("share", "ms", "promises"),
    [(0.5, 1.02, True), (0.5, 1.1, False), (0.1, 1.1, True), (0.1, 1.2, False), (0.5, 0.5, True)],
)
def test_only_the_last_share_may_be_nearly_fast_enough(share: float, ms: float, promises: bool, tmp_path: Path) -> None:
    model, contract = case(), Contract.parse({"max_latency_ms": 1}, has_eval=True)
    evaluator = Evaluator(model, contract, CONFIG, Journal(tmp_path, "mark"), 0, math.inf, lambda *_: None)
    search = Known(model, contract, evaluator, LatencyTable(tmp_path / "table"), time.monotonic() + 60, lambda _: None)
    search.times = {share: ms}
    assert search._promises(Recipe("int8", "block4x4", share)) == promises
