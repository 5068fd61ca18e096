"""What distillation minimises, against formulas written out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import taille
from distill_nets import one_thread, random_teacher, small
from taille.distillation.losses import class_axis, embedding_loss, soft_loss, softened_divergence
from taille.distillation.train import rate_at
from taille.training.data import Batch

one_thread = pytest.fixture(autouse=True, scope="module")(one_thread)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 20.0])
def test_gradients_are_scaled_by_the_square_of_the_temperature(temperature: float) -> None:
    """d/dz of T^2 KL is T (softmax(z / T) - softmax(v / T)), the mean over the samples (Hinton et al., section 2.1)."""
    torch.manual_seed(0)
    given, wanted = (4 * torch.randn(7, 5, dtype=torch.float64) for _ in range(2))
    given.requires_grad_(True)
    loss = softened_divergence(given, wanted, temperature)
    (gradient,) = torch.autograd.grad(loss, given)
    p, q = ((v / temperature).exp() / (v / temperature).exp().sum(1, keepdim=True) for v in (wanted, given.detach()))
    torch.testing.assert_close(gradient, temperature * (q - p) / 7, rtol=1e-12, atol=1e-14)
    by_hand = temperature**2 * (p * (p / q).log()).sum() / 7
    torch.testing.assert_close(loss.detach(), by_hand, rtol=1e-12, atol=1e-14)


def test_classes_are_found_and_padding_is_left_out() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    given, wanted = (torch.randn(2, 3, 4, dtype=torch.float64) for _ in range(2))
    batch = Batch({"attention_mask": mask}, (), 2)
    options: dict[str, Any] = {"temperature": 2.0, "axis": None}
    kept = [t[mask == 1] for t in (given, wanted)]
    torch.testing.assert_close(soft_loss("classification", batch, given, wanted, **options),
                               softened_divergence(kept[0], kept[1], 2.0))  # fmt: skip
    torch.testing.assert_close(soft_loss("regression", batch, given, wanted, **options),
                               (kept[0] - kept[1]).square().mean())  # fmt: skip
    images = torch.randn(2, 4, 5, 6)
    assert class_axis(images) == 1
    assert class_axis(images, -1) == 3
    assert class_axis(torch.randn(2, 4)) == class_axis(torch.randn(2, 3), 1) == 1


def test_embeddings_are_compared_by_cosines() -> None:
    batch = Batch({}, (), 2)
    wanted = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    assert float(embedding_loss(batch, 5 * wanted, wanted)) == pytest.approx(0, abs=1e-6)
    turned = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # cosines to what is wanted: 1 and sqrt(1/2); to each other too
    away = 1 - (1 + math.sqrt(0.5)) / 2
    unlike = 2 * 0.5 / 2  # squares of what is off the diagonal, over the squares of the identity
    assert float(embedding_loss(batch, turned, wanted)) == pytest.approx(away + unlike, rel=1e-5)


def test_the_rate_warms_up_and_falls_along_a_cosine() -> None:
    rates = [rate_at(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == [pytest.approx((i + 1) / 11) for i in range(10)]
    assert rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(0, 4, 0) == 1


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_parts_are_weighted(alpha: float) -> None:
    model = taille.distill_model(random_teacher(), {"student": small(16), "alpha": alpha, "epochs": 1})
    step, (row,) = model.metadata["recipe"][-1], model.metadata["history"]
    parts = {name: part["weight"] for name, part in step["losses"].items()}
    assert parts == {name: w for name, w in (("hard", alpha), ("soft", 1 - alpha)) if w}
    assert row["loss"] == pytest.approx(sum(w * row[name] for name, w in parts.items()), rel=1e-5)


def test_features_are_matched_and_projections_thrown_away() -> None:
    teacher = random_teacher()
    x = torch.randn(64, 64)

    def unexplained(model: taille.TorchModel) -> float:
        """The share of the teacher's hidden state that no linear map of the student's gives."""
        with torch.no_grad():
            hidden = model.module[0](x).numpy()
            wanted = teacher.module.blocks[1](teacher.module.blocks[0](teacher.module.stem(x)))
        ours = torch.from_numpy(hidden)
        fit = ours @ torch.linalg.lstsq(ours, wanted).solution
        return float((fit - wanted).square().sum() / wanted.square().sum())

    config = {"student": small(24), "epochs": 25, "lr": 1e-2}
    plain = taille.distill_model(teacher, config)
    matched = taille.distill_model(teacher, {**config, "features": {"blocks.1": "0"}, "feature_weight": 20.0})
    assert unexplained(matched) < 0.8 * unexplained(plain)
    assert list(matched.module.state_dict()) == list(plain.module.state_dict())
    history = matched.metadata["history"]
    assert history[-1]["features"] < 0.5 * history[0]["features"]


class Tokens(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(30, width)
        self.layers = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, 16))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.layers(self.table(input_ids)) * (1 + 0 * attention_mask[..., None])


@pytest.mark.parametrize("task", ["embedding", "regression"])
def test_other_tasks_are_told_and_learned(task: str) -> None:
    torch.manual_seed(0)
    if task == "embedding":
        ids, mask = torch.randint(0, 30, (32, 6)), (torch.arange(6) < torch.randint(2, 7, (32, 1))).long()
        data = [{"input_ids": i, "attention_mask": m} for i, m in zip(ids.split(8), mask.split(8), strict=True)]
        axes = {key: {0: "batch", 1: "sequence"} for key in data[0]}
        teacher = taille.TorchModel(Tokens(64), data[0], dynamic_shapes=axes, calibration_data=data)
        student: nn.Module = Tokens(8)
    else:
        x = torch.randn(64, 5)
        net = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 2))
        batches = list(zip(x.split(16), net(x).detach().split(16), strict=True))
        teacher = taille.TorchModel(net, (x[:2],), train_data=batches, loss_fn=lambda y, t: (y - t).abs().mean())
        student = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))
    model = taille.distill_model(teacher, {"student": student, "epochs": 15, "lr": 2e-2})
    step, history = model.metadata["recipe"][-1], model.metadata["history"]
    assert (step["task"], step["temperature"]) == (task, None)
    assert history[-1]["soft"] < 0.3 * history[0]["soft"]
