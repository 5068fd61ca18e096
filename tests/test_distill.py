"""Distillation: students learn more from a teacher than from labels alone, the best is kept, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import taille
from distill_nets import accuracy, digits, one_thread, random_teacher, small, trained_teacher
from taille.distillation.losses import softened_divergence

one_thread = pytest.fixture(autouse=True, scope="module")(one_thread)


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    return trained_teacher()


@pytest.mark.parametrize("seed", range(3))
def test_a_teacher_gives_more_than_labels_alone(teacher: nn.Module, seed: int) -> None:
    """60 labelled digits; the same student, images, order and steps, with and without the soft loss."""
    x, y, *_ = digits()
    model = taille.TorchModel(teacher, (x[:2],), train_data=[(x[:60], y[:60])], loss_fn=nn.CrossEntropyLoss())
    config = {"student": small(seed=seed), "epochs": 150, "lr": 3e-2, "seed": seed}
    alone, taught = (taille.distill_model(model, {**config, "alpha": alpha}) for alpha in (1.0, 0.1))
    assert accuracy(taught) > accuracy(alone) + 0.04
    step = taught.metadata["recipe"][-1]
    assert (step["task"], step["task_because"]) == ("classification", "loss_fn is CrossEntropyLoss")
    assert step["data"] == {"source": "train_data", "labelled": True, "batches": 1, "held_out": 0}


def test_inputs_without_labels_will_do(teacher: nn.Module) -> None:
    x, *_ = digits()
    model = taille.TorchModel(teacher, (x[:2],), calibration_data=x.split(64), loss_fn=nn.CrossEntropyLoss(),
                              eval_fn=accuracy, name="digits")  # fmt: skip
    told: list[Any] = []
    made = taille.distill_model(model, {"student": small(), "epochs": 6, "lr": 2e-2}, on_epoch=told.append)
    assert accuracy(made) > accuracy(model) - 0.03
    metadata = made.metadata
    step = metadata["recipe"][-1]
    assert step["data"] == {"source": "calibration_data", "labelled": False, "batches": 22, "held_out": 0}
    assert (step["alpha"], list(step["losses"]), step["judge"]) == (0.0, ["soft"], "eval_fn")
    before = accuracy(taille.TorchModel(small(), (x[:2],)))
    assert step["quality"] == {"teacher": accuracy(model), "before": before, "after": accuracy(made)}
    assert metadata["lineage"]["teacher"]["name"] == "digits"
    assert metadata["lineage"]["teacher"]["parameters"] == model.parameter_count > 10 * made.parameter_count
    assert [row["epoch"] for row in metadata["history"]] == list(range(7))
    assert [e.quality for e in told] == [row["quality"] for row in metadata["history"][1:]]
    assert [(e.epoch, e.epochs) for e in told] == [(i, 6) for i in range(1, 7)]
    assert told[-1].seconds_left == 0 < told[0].seconds_left
    assert made.eval_fn is accuracy
    assert made.calibration_data is model.calibration_data


class Script:
    """An `eval_fn` that says what it was told to, and remembers the weights that it was asked about."""

    def __init__(self, *values: float) -> None:
        self.values = values
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, model: Any) -> float:
        if len(model.module.state_dict()) > 4:
            return 1.0  # the teacher
        assert not model.module.training
        self.seen.append({n: t.clone() for n, t in model.module.state_dict().items()})
        return self.values[len(self.seen) - 1]


@pytest.mark.parametrize(
    ("values", "stopping", "best", "run"),
    [
        ((0.1, 0.5, 0.7, 0.6, 0.65), {"patience": 2}, 2, 4),
        ((0.1, 0.5, 0.7, 0.6, 0.65, 0.7, 0.7), None, 2, 6),
        ((0.9, 0.5, 0.7), {"patience": 2}, 0, 2),  # never better than before training
        ((0.1, 0.5, 0.55, 0.58), {"patience": 2, "min_delta": 0.1}, 3, 3),  # not better enough, but the best
    ],
)
def test_the_best_weights_are_given_back(values: Any, stopping: Any, best: int, run: int) -> None:
    script = Script(*values)
    config = {"student": small(16), "epochs": 6, "early_stopping": stopping, "lr": 1e-2}
    made = taille.distill_model(random_teacher(eval_fn=script), config)
    step = made.metadata["recipe"][-1]
    assert (step["best_epoch"], step["epochs_run"], step["stopped_early"]) == (best, run, run < 6)
    assert (step["quality"]["before"], step["quality"]["after"]) == (values[0], values[best])
    weights = made.module.state_dict()
    assert [all(torch.equal(t, weights[n]) for n, t in seen.items()) for seen in script.seen].index(True) == best


def test_without_eval_fn_some_batches_are_held_out() -> None:
    seen: list[int] = []
    model = random_teacher()
    hard, batches = nn.CrossEntropyLoss(), list(model.train_data)

    def loss(given: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if given.requires_grad:
            seen.append([torch.equal(y, labels) for _, y in batches].index(True))
        return hard(given, labels)

    model.loss_fn = loss
    config = {"student": small(16), "epochs": 4, "early_stopping": {"patience": 4}, "hold_out": 0.3, "lr": 1e-2}
    made = taille.distill_model(model, {**config, "task": "classification"})
    step = made.metadata["recipe"][-1]
    assert (step["judge"], step["data"]["batches"], step["data"]["held_out"]) == ("loss on held-out batches", 4, 2)
    assert set(seen) == {0, 1, 3, 4}  # of six: every third is held out
    rows = made.metadata["history"]
    assert step["quality"]["after"] == max(row["quality"] for row in rows) > rows[0]["quality"]
    assert rows[step["best_epoch"]]["quality"] == step["quality"]["after"]
    x, y = (torch.cat([batches[i][at] for i in (2, 5)]) for at in (0, 1))
    with torch.no_grad():
        given, wanted = made.module(x), model.module(x)
        by_hand = 0.1 * hard(given, y) + 0.9 * softened_divergence(given, wanted, 3.0)
    assert step["quality"]["after"] == pytest.approx(-float(by_hand), rel=1e-5)


def test_what_is_held_out_must_stay_so() -> None:
    """A loader that shuffles by a generator of its own would train on what is held out."""
    x = torch.randn(64, 64)
    for generator in (None, torch.Generator().manual_seed(0)):
        loader = DataLoader(x, batch_size=8, shuffle=True, generator=generator)
        model = random_teacher(train_data=None, calibration_data=loader)
        config = {"student": small(16), "epochs": 2, "early_stopping": {}}
        if generator is None:
            assert taille.distill_model(model, config).metadata["recipe"][-1]["data"]["held_out"] == 1
        else:
            with pytest.raises(ValueError, match="that are held out differ from pass to pass"):
                taille.distill_model(model, config)


class Interrupt(KeyboardInterrupt):
    pass


def shuffled() -> taille.TorchModel:
    """Labelled data in an order that is drawn, and a quality of its own."""
    model = random_teacher()
    x, y = (torch.cat([batch[at] for batch in model.train_data]) for at in (0, 1))
    model.train_data = DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)
    model.eval_fn = lambda m: float((m.predict(x).argmax(1) == y).float().mean())
    return model


CONFIG = {"epochs": 4, "lr": 1e-2, "features": {"stem": "0"}, "early_stopping": {"patience": 3}, "seed": 5}


def student(seed: int = 0) -> nn.Module:
    net = small(16, dropout=0.3)
    return nn.Sequential(net[0], nn.BatchNorm1d(16), *net[1:])


def assert_same(one: taille.TorchModel, other: taille.TorchModel) -> None:
    for name, tensor in one.module.state_dict().items():
        assert torch.equal(tensor, other.module.state_dict()[name]), name
    assert one.metadata == other.metadata


def test_the_seed_settles_everything() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(3)
    torch.manual_seed(3)
    learner, model = student(), shuffled()
    before = [{n: t.clone() for n, t in m.state_dict().items()} for m in (learner, model.module)]
    torch.manual_seed(3)
    first = taille.distill_model(model, {**CONFIG, "student": learner})
    assert torch.equal(torch.rand(3), wanted)  # torch's random numbers go on as if nothing had been drawn
    assert float(first.module[1].running_mean.abs().max()) > 0  # it was in train mode
    second = taille.distill_model(shuffled(), {**CONFIG, "student": student()})
    assert_same(first, second)
    other = taille.distill_model(shuffled(), {**CONFIG, "student": student(), "seed": 6})
    assert not torch.equal(other.module[0].weight, first.module[0].weight)
    for module, state in zip((learner, model.module), before, strict=True):  # neither was changed
        assert all(torch.equal(t, state[n]) for n, t in module.state_dict().items())


def stop_at(step: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("training", 24)
        if done == step:
            raise Interrupt

    return progress


def test_resuming_gives_the_same_result(tmp_path: Path) -> None:
    whole = taille.distill_model(shuffled(), {**CONFIG, "student": student()})
    path = tmp_path / "state.safetensors"
    config = {**CONFIG, "student": student()}
    for step in (1, 6, 13):
        with pytest.raises(taille.TrainingInterrupt, match=f"after step {step} of 24; call again") as raised:
            taille.distill_model(shuffled(), config, checkpoint=path, progress=stop_at(step))
        assert raised.value.best is not None
        config["student"] = student()
        nn.init.normal_(config["student"][0].weight)  # another first weight: the file has the true ones
        torch.manual_seed(step)

    model, calls = shuffled(), [0]

    def killed(given: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        if calls[0] == 3:
            os.kill(os.getpid(), signal.SIGINT)  # in the midst of a step
        return nn.functional.cross_entropy(given, labels)

    model.loss_fn = killed
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of shells ignore it
    with pytest.raises(KeyboardInterrupt, match="after step 16 of 24"):
        taille.distill_model(model, config, checkpoint=path)
    signal.signal(signal.SIGINT, before)
    done: list[int] = []
    made = taille.distill_model(shuffled(), config, checkpoint=path, progress=lambda _, step, __: done.append(step))
    assert done[0] == 17
    assert list(tmp_path.iterdir()) == []
    assert_same(whole, made)


def test_without_interrupts_files_are_written_as_training_goes(tmp_path: Path, monkeypatch: Any) -> None:
    """What ends a process without a word, too, loses little."""
    monkeypatch.setattr("taille.distillation.train.SAVE_EVERY", 4)
    path, seen = tmp_path / "state.safetensors", []

    def progress(_stage: str, done: int, _total: int) -> None:
        seen.append((done, path.exists() and path.read_bytes()))

    taille.distill_model(random_teacher(), {"student": small(16), "epochs": 2}, checkpoint=path, progress=progress)
    changes = [done for (done, data), (_, last) in zip(seen[1:], seen, strict=False) if data != last]
    assert changes == [4, 7, 8, 12]  # every fourth step, and the end of the first epoch, seen a step later


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        taille.distill_model(shuffled(), {**CONFIG, "student": student()}, checkpoint=path, progress=stop_at(3))
    for change, name in (({"lr": 1e-3}, "lr"), ({"student": small(8)}, "features, student")):
        config = {**CONFIG, "student": student(), **change} | ({} if "lr" in change else {"features": {"head": "3"}})
        with pytest.raises(ValueError, match=f"was made with another {name}; wanted the same arguments"):
            taille.distill_model(shuffled(), config, checkpoint=path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="is not one of distill_model"):
        taille.distill_model(shuffled(), {**CONFIG, "student": student()}, checkpoint=path)


def fails_late() -> taille.TorchModel:
    """A loss that becomes NaN in the second epoch, of six steps each."""
    calls = [0]

    def loss(given: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return nn.functional.cross_entropy(given, labels) * (float("nan") if calls[0] == 9 else 1.0)

    return random_teacher(loss_fn=loss)


def test_a_loss_that_is_nan_leaves_the_best(tmp_path: Path) -> None:
    config = {"student": small(16), "epochs": 3, "task": "classification"}
    path = tmp_path / "state.safetensors"
    with pytest.raises(taille.TrainingError, match="the loss is nan at training step 9; try a smaller lr") as raised:
        taille.distill_model(fails_late(), config, checkpoint=path)
    best = raised.value.best
    assert best is not None
    assert all(t.isfinite().all() for t in best.module.state_dict().values())
    assert not torch.equal(best.module[0].weight, small(16)[0].weight)
    assert path.exists()
    with pytest.raises(taille.TrainingError, match=r"the loss is .*there is no best yet"):
        taille.distill_model(random_teacher(), {"student": small(16), "lr": 1e30})
    steep = random_teacher(loss_fn=lambda given, _: (0 * given).sum().sqrt())  # 0, and a gradient that is NaN
    steep.train_data = steep.train_data[:1]
    with pytest.raises(taille.TrainingError, match="a weight is NaN or infinite at training step 1; try a smaller lr"):
        taille.distill_model(steep, {"student": small(16), "alpha": 1, "epochs": 1})
    nan = random_teacher(eval_fn=lambda m: float("nan"))
    with pytest.raises(taille.TrainingError, match="the eval_fn gives nan"):
        taille.distill_model(nan, {"student": small(16)})
