"""Metrics in numpy give what scikit-learn and scipy give, and refuse what they are not defined for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as peer

from taille.measurement.metrics import accuracy, f1, mean_ranks, r2, rmse, spearman

F32 = np.float32


def arrays(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_classes_agree_with_sklearn(samples: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((samples, classes)).astype(F32)
    targets = rng.integers(0, classes + 1, samples)  # one class is never predicted
    predicted = scores.argmax(1)
    assert accuracy(scores, targets) == pytest.approx(peer.accuracy_score(targets, predicted))
    assert f1(scores, targets) == pytest.approx(peer.f1_score(targets, predicted, average="macro"))
    assert f1(predicted, targets) == f1(scores, targets)


@pytest.mark.parametrize("shape", [(50,), (50, 4), (50, 1)])
def test_regression_agrees_with_sklearn(shape: tuple[int, ...]) -> None:
    outputs, targets = arrays(*shape), arrays(*shape, seed=1) * np.arange(1, shape[-1] + 1, dtype=F32)
    columns = [a.astype(np.float64).reshape(50, -1) for a in (targets, outputs)]
    assert rmse(outputs, targets) == pytest.approx(np.sqrt(peer.mean_squared_error(*columns)))
    assert r2(outputs, targets) == pytest.approx(peer.r2_score(*columns))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40))
def test_ranks_agree_with_scipy(pairs: list[tuple[int, int]]) -> None:
    outputs, targets = np.array(pairs, F32).T
    np.testing.assert_array_equal(mean_ranks(outputs), stats.rankdata(outputs))
    if np.ptp(outputs) == 0 or np.ptp(targets) == 0:
        with pytest.raises(ValueError, match="not defined"):
            spearman(outputs, targets)
    else:
        assert spearman(outputs, targets) == pytest.approx(stats.spearmanr(outputs, targets).statistic, abs=1e-12)


def test_a_column_does_not_broadcast_against_a_row() -> None:
    column, row = arrays(5, 1), arrays(5, seed=1)
    assert rmse(column, row) == pytest.approx(rmse(column.ravel(), row))
    assert spearman(column, row) == pytest.approx(spearman(column.ravel(), row))


def test_accuracy_of_maps() -> None:
    scores, targets = arrays(2, 3, 4, 5), np.random.default_rng(1).integers(0, 3, (2, 4, 5))
    assert accuracy(scores, targets) == pytest.approx(np.mean(scores.argmax(1) == targets))


@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "part"),
    [
        (accuracy, arrays(4, 3), arrays(4), "integer classes"),
        (accuracy, arrays(4, 1), np.zeros(4, int), "pass a callable"),  # the largest of one is always right
        (accuracy, arrays(4), np.zeros(4, int), "pass a callable"),
        (f1, arrays(4, 3), np.zeros((4, 2), int), "pass a callable"),
        (rmse, arrays(4, 3), arrays(4), "one shape"),
        (rmse, arrays(4), np.array(["a"] * 4), "real numbers"),
        (r2, arrays(4), np.ones(4), "not defined"),
        (spearman, arrays(4, 2), arrays(4, 2), "one number per sample"),
    ],
)
def test_what_does_not_fit_is_refused(metric: Any, outputs: Any, targets: Any, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        metric(outputs, targets)
