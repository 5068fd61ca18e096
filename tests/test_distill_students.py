"""Students made of the teacher: shallower, narrower, sparse; each a model like any other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import taille
from channel_nets import model_of
from distill_nets import Block, Blocks, one_thread, random_teacher, small
from taille.distillation import train
from taille.distillation.depth import find_stacks, shallower
from taille.pruning.channels import ChannelPrunedModel, prune_channels

one_thread = pytest.fixture(autouse=True, scope="module")(one_thread)


def distil(**config: Any) -> taille.DistilledModel:
    return taille.distill_model(random_teacher(), {"epochs": 1, **config})


@pytest.mark.parametrize(
    ("config", "blocks", "width", "steps"),
    [
        ({"depth": 0.5}, 2, 48, ["depth"]),
        ({"width": 0.5}, 4, 24, ["prune"]),
        ({"sparsity": 0.75}, 4, 48, ["prune"]),
        (
            {"depth": 0.25, "width": 0.75, "sparsity": 0.5, "pattern": "unstructured"},
            1,
            36,
            ["depth", "prune", "prune"],
        ),
        ({"student": Blocks(width=32, blocks=1), "sparsity": 0.5}, 1, 32, ["prune"]),
    ],
)
def test_derived_students_are_models_like_any_other(config: Any, blocks: int, width: int, steps: list[str]) -> None:
    teacher = random_teacher(eval_fn=lambda model: 0.0)
    teacher.module.requires_grad_(False)  # a frozen teacher has students that learn
    made = taille.distill_model(teacher, {"epochs": 1, "lr": 1e-2, **config})
    assert len(made.module.blocks) == blocks
    assert made.module.stem.out_features == width
    recipe = made.metadata["recipe"]
    assert [step["step"] for step in recipe] == [*steps, "distill"]
    assert bool(made.masks) == ("sparsity" in config)
    if made.masks:
        for name, mask in made.masks.items():
            weight = made.module.get_submodule(name).weight
            assert (weight[~mask] == 0).all()
            assert float(mask.float().mean()) == pytest.approx(1 - config["sparsity"], abs=0.01)
        again = taille.prune_model(made, 0.9, "structured", recovery="none")
        assert all((again.masks[name] <= mask).all() for name, mask in made.masks.items())
    x = next(iter(teacher.train_data))[0]
    native = taille.compile_model(made)
    torch.testing.assert_close(native.predict(x), made.predict(x), rtol=1e-3, atol=1e-4)
    assert [step["step"] for step in native.metadata["recipe"]] == [*steps, "distill"]
    assert native.metadata["history"] == made.metadata["history"]
    int8 = taille.quantize_model(with_calibration(made, x))
    error = (int8.predict(x) - made.predict(x)).square().sum() / made.predict(x).square().sum()
    assert 0 < float(error) < 0.01
    assert [step["step"] for step in int8.metadata["recipe"]] == [*steps, "distill", "quantize"]


def with_calibration(model: taille.TorchModel, x: torch.Tensor) -> taille.TorchModel:
    model.calibration_data = [x]
    return model


@pytest.mark.parametrize("given", [False, True])
def test_masks_hold_at_every_step_and_after(given: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros: list[float] = []
    losses = train.Training.losses

    def noted(training: Any, batch: Any) -> Any:
        zeros.append(float((training.student.module.blocks[0].inner.weight == 0).float().mean()))
        return losses(training, batch)

    monkeypatch.setattr(train.Training, "losses", noted)
    config: dict[str, Any] = {"sparsity": 0.75}
    if given:  # a copy of it, without what holds the masks of a PrunedModel
        config = {"student": taille.prune_model(random_teacher(), 0.25, "structured", recovery="none")}
    made = distil(**config, epochs=2, lr=1e-2)
    assert zeros == [0.75] * 12
    weight = made.module.blocks[0].inner.weight
    optimizer = torch.optim.AdamW(made.module.parameters(), lr=0.1)
    made.module(torch.randn(8, 64)).square().mean().backward()
    old = weight.detach().clone()
    optimizer.step()
    assert not torch.equal(weight, old)
    assert float((weight == 0).float().mean()) == 0.75


def test_layers_that_stay_are_evenly_spaced_and_keep_their_weights() -> None:
    net = Blocks(width=8, blocks=7)
    for share, kept in ((0.6, [0, 2, 4, 6]), (0.4, [0, 3, 6]), (0.3, [0, 6]), (0.01, [0]), (0.99, list(range(7)))):
        less, record = shallower(net, share, "net")
        assert record == {"step": "depth", "depth": share, "kept": {"blocks[0:7]": kept}}
        assert len(less.blocks) == len(kept)
        for block, i in zip(less.blocks, kept, strict=True):
            assert block is not net.blocks[i]
            assert torch.equal(block.inner.weight, net.blocks[i].inner.weight)
    assert len(net.blocks) == 7


def test_stacks_are_neighbours_of_one_form() -> None:
    def conv(stride: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(4, 4, 3, stride, 1), nn.ReLU(), nn.ReLU())

    net = nn.Sequential(
        nn.Sequential(conv(1), conv(1), conv(2), conv(1), conv(1), conv(1)),  # another stride is another form
        nn.ReLU(), nn.ReLU(),  # nothing in them
        nn.ModuleList([Blocks(8, 8, 3), Blocks(8, 8, 3)]),  # what they are made of is not looked into
    )  # fmt: skip
    assert [(s.name, s.start, s.count) for s in find_stacks(net)] == [("0", 0, 2), ("0", 3, 3), ("3", 0, 2)]
    less, record = shallower(net, 0.5, "net")
    assert record["kept"] == {"0[0:2]": [0], "0[3:6]": [3, 5], "3[0:2]": [0]}
    assert [len(less[0]), len(less[3])] == [4, 1]
    assert less[0][1][0].stride == (2, 2)


@pytest.mark.parametrize("name", ["basic", "encoder"])
def test_channels_go_evenly(name: str) -> None:
    small_one = prune_channels(model_of(name), 0.5, evenly=True)
    assert isinstance(small_one, ChannelPrunedModel)
    rows = [r for r in small_one.report if not r.why]
    assert rows
    for row in rows:
        units = row.before // row.width
        assert row.after == max(1, round(units / 2)) * row.width
    assert small_one.metadata["recipe"][-1]["evenly"] is True
    assert small_one.report.share == small_one.report.weights_after / small_one.report.weights_before < 0.6


def test_a_student_may_call_its_inputs_otherwise() -> None:
    made = distil(student=small(16))
    assert [s.name for s in made.input_spec] == ["input"]
    assert made.input_spec[0].shape == ("batch", 64)
    wrapped = taille.TorchModel(small(16), (torch.zeros(2, 64),), name="pupil")
    again = distil(student=wrapped)
    assert again.name == "pupil"
    assert again.metadata["recipe"][-1]["student"] == "pupil"
    assert Block is type(distil(depth=0.5).module.blocks[0])


def test_a_teacher_can_have_been_a_student() -> None:
    first = distil(depth=0.5)
    second = taille.distill_model(first, {"student": small(8), "epochs": 1})
    assert second.metadata["lineage"]["teacher"]["lineage"]["teacher"]["name"] == "teacher"
    assert [s["step"] for s in second.metadata["lineage"]["teacher"]["recipe"]] == ["depth", "distill"]
