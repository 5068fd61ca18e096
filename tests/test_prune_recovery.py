"""What pruning costs is won back: reconstruction, distillation, the schedule; and all of it after an interrupt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import taille
from taille.pruning.layers import weight_rows
from taille.pruning.reconstruct import unfolded


class Blocks(nn.Module):
    """Convolutions of every kind that reconstruction unfolds, residual blocks with dropout, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 16, 3, stride=2, padding=(1, 2))
        self.wide = nn.Conv2d(16, 16, 3, padding="same", dilation=2, bias=False)
        self.norm = nn.BatchNorm2d(16, momentum=0.5)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16)) for _ in range(2))
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.down(input=torch.relu(self.stem(x))))
        x = torch.relu(self.norm(self.wide(x))).mean((2, 3))
        for block in self.blocks:
            x = x + self.dropout(block(x))
        return self.head(x)


def samples(count: int, seed: int) -> torch.Tensor:
    """Smooth images: their pixels say something about one another, as real ones do."""
    torch.manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 4)
    return nn.functional.interpolate(coarse, size=10, mode="bilinear") + 0.05 * torch.randn(count, 3, 10, 10)


def network(**data: Any) -> taille.TorchModel:
    torch.manual_seed(0)
    net = Blocks()
    for seed in range(4):
        net(samples(32, 20 + seed))  # running statistics that are true
    return taille.TorchModel(net.eval(), (samples(2, 0),), **{"calibration_data": samples(256, 1).split(64), **data})


def error(model: taille.BaseMLModel, dense: taille.BaseMLModel) -> float:
    x = samples(128, 9)  # that nothing was fitted to
    wanted = dense.predict(x)
    return float((model.predict(x) - wanted).square().sum() / wanted.square().sum())


def prune(model: taille.TorchModel, **options: Any) -> Any:
    return taille.prune_model(model, 0.4, "structured", **{"min_weights": 0, "steps": 40, **options})


def colour(x: torch.Tensor) -> torch.Tensor:
    """What the networks with labels learn: the strongest of three colours."""
    return x.mean((2, 3)).argmax(1)


def labelled() -> dict[str, Any]:
    parts = [samples(32, seed) for seed in range(3, 9)]
    return {"train_data": [(x, colour(x)) for x in parts], "loss_fn": nn.CrossEntropyLoss()}


@pytest.fixture(scope="module")
def trained() -> taille.TorchModel:
    """A network that knows colours, right in 87 of 100 cases."""
    model = network(**labelled())
    optimizer = torch.optim.AdamW(model.module.train().parameters(), lr=5e-3)
    for i in range(60):
        x = samples(64, 100 + i)
        loss = nn.functional.cross_entropy(model.module(x), colour(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.module.eval()
    return model


def masks_hold(model: Any) -> None:
    assert 0.3 < model.sparsity < 0.7
    for name, mask in model.masks.items():
        weight = model.module.get_submodule(name).weight
        assert (weight[~mask] == 0).all()
        assert (weight[mask] != 0).float().mean() > 0.99


def test_reconstruction_lowers_the_error_and_distillation_more() -> None:
    model = network()
    made = {kind: prune(model, recovery=kind, steps=80) for kind in ("none", "reconstruction", "distillation")}
    errors = {kind: error(small, model) for kind, small in made.items()}
    assert errors["reconstruction"] < 0.5 * errors["none"]
    assert errors["distillation"] < 0.8 * errors["reconstruction"]
    for kind, small in made.items():
        masks_hold(small)
        step = small.metadata["recipe"][-1]
        assert (step["recovery"], step["steps"]) == (kind, 80 if kind == "distillation" else 0)
        assert step["reconstructed"] == (0 if kind == "none" else 6)
        assert all(m is not None for m in small.masks.values())
    assert all(r.output_error < 0.5 for r in made["reconstruction"].report if not r.why)


def test_reconstruction_does_not_fit_noise() -> None:
    """Fewer rows than unknowns, which say nothing about one another: the ridge is chosen on samples held out."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 4)).eval()
    x = torch.randn(400, 64)
    for count in (3, 40, 80):
        model = taille.TorchModel(net, (x[:2],), calibration_data=[torch.randn(count, 64)])
        none, fitted = (taille.prune_model(model, 0.25, recovery=r) for r in ("none", "reconstruction"))
        wanted = model.predict(x)
        errors = [float((m.predict(x) - wanted).square().sum()) for m in (none, fitted)]
        assert (
            errors[1] < 0.95 * errors[0] if count > 3 else torch.equal(fitted.module[2].weight, none.module[2].weight)
        )


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": (1, 2)},
        {"padding": "same", "dilation": 2, "bias": False},
        {"padding": (2, 1), "padding_mode": "reflect", "stride": (1, 3)},
    ],
)
def test_unfolding_is_the_convolution(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer, x = nn.Conv2d(16, 16, (3, 5), **options), torch.randn(3, 16, 12, 11)
    given = unfolded(layer, x) @ weight_rows(layer.weight).T + (0 if layer.bias is None else layer.bias)
    wanted = layer(x)
    torch.testing.assert_close(given, wanted.permute(0, 2, 3, 1).reshape(-1, 16), rtol=1e-4, atol=1e-5)


def test_one_layer_is_refitted_as_least_squares_says() -> None:
    """Against numpy's solver on the same rows; the ridge is small beside what it leaves."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).eval()
    x = torch.randn(400, 6)
    model = taille.TorchModel(net, (x,), calibration_data=x.split(50))
    small = taille.prune_model(model, 0.5, min_weights=0, recovery="reconstruction")
    with torch.no_grad():
        hidden = net[:2](x).double()
        wanted = net[2](hidden.float()).double().numpy()
    ones = np.ones((400, 1))
    best = total = ours = 0.0
    for i, mask in enumerate(small.masks["2"].numpy()):
        kept = np.hstack([hidden.numpy()[:, mask], ones])
        fit = kept @ np.linalg.lstsq(kept, wanted[:, i], rcond=None)[0]
        best += ((fit - wanted[:, i]) ** 2).sum()
        layer = small.module[2]
        given = hidden.numpy() @ layer.weight[i].detach().double().numpy() + float(layer.bias[i].detach())
        ours += ((given - wanted[:, i]) ** 2).sum()
        total += (wanted[:, i] ** 2).sum()
    assert best <= ours < 1.1 * best
    assert {r.name: r.output_error for r in small.report}["2"] == pytest.approx(ours / total, rel=1e-3)


def test_inputs_far_from_zero_are_solved_for() -> None:
    """In float32 their moments are no longer those of a positive matrix once the means are taken off."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 32), nn.Linear(32, 3)).eval()
    net[0].bias.data += 3e4
    x = torch.randn(600, 8)
    model = taille.TorchModel(net, (x[:2],), calibration_data=x[:500].split(50))
    none, fitted = (taille.prune_model(model, 0.5, recovery=r).predict(x[500:]) for r in ("none", "reconstruction"))
    wanted = model.predict(x[500:])
    assert (fitted - wanted).square().sum() < 0.1 * (none - wanted).square().sum()


@pytest.mark.parametrize("schedule", ["polynomial", "oneshot"])
def test_the_schedule_trains_on_labels(trained: taille.TorchModel, schedule: str) -> None:
    small = prune(trained, schedule=schedule, recovery="schedule", epochs=7, steps=None, lr=3e-3)
    masks_hold(small)
    step = small.metadata["recipe"][-1]
    assert (step["recovery"], step["schedule"], step["steps"]) == ("schedule", schedule, 42)
    assert step["share"] == pytest.approx(0.4, abs=0.02)
    x = samples(256, 9)
    made = (small, prune(trained, recovery="none"))
    losses = [float(nn.functional.cross_entropy(m.predict(x), colour(x))) for m in made]
    assert losses[0] < 0.8 * losses[1]
    assert (small.predict(x).argmax(1) == colour(x)).float().mean() > 0.8


@pytest.mark.parametrize("recovery", ["distillation", "schedule"])
def test_masks_hold_at_every_step(recovery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from taille.pruning import train

    seen: list[bool] = []
    loss_of = train.loss_of

    def noted(work: Any, *rest: Any) -> Any:
        seen.extend(bool((work.module.get_submodule(n).weight[~m] == 0).all()) for n, m in work.state.masks.items())
        return loss_of(work, *rest)

    monkeypatch.setattr(train, "loss_of", noted)
    small = prune(network(**labelled()), recovery=recovery, steps=8)
    assert not any(m.training for m in small.module.modules())  # it came in eval mode
    assert len(seen) == 8 * 6
    assert all(seen)


@pytest.mark.parametrize("pattern", ["block4x4", "2:4"])
def test_polynomial_masks_close_step_by_step(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from taille.pruning import train

    shares: list[float] = []
    close = train.close_masks

    def noted(work: Any) -> None:
        close(work)
        shares.append(float(work.state.masks["down"].float().mean()))

    monkeypatch.setattr(train, "close_masks", noted)
    target = 0.25 if pattern == "block4x4" else 0.5
    taille.prune_model(network(**labelled()), target, "structured", pattern=pattern, min_weights=0, steps=41)
    assert len(shares) == 41
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1
    assert shares[31:] == [target] * 10  # three quarters of the way, and from there on
    if pattern == "block4x4":
        for step in (5, 15, 25):
            assert shares[step] == pytest.approx(0.25 + 0.75 * (1 - step / 30) ** 3, abs=0.01)


@pytest.mark.parametrize(
    ("data", "recovery"),
    [
        ({}, "reconstruction"),
        ({"calibration_data": None}, "none"),
        ({"train_data": [samples(16, 4)]}, "distillation"),
        ({"train_data": [samples(16, 4)], "calibration_data": None}, "distillation"),
        ({"train_data": [(samples(16, 4), torch.zeros(16, dtype=torch.int64))], "loss_fn": nn.CrossEntropyLoss()},
         "schedule"),
    ],
)  # fmt: skip
def test_recovery_goes_by_what_the_user_has(data: dict[str, Any], recovery: str) -> None:
    step = prune(network(**data), steps=2).metadata["recipe"][-1]
    assert step["recovery"] == recovery
    assert step["steps"] == (2 if recovery in ("distillation", "schedule") else 0)
    assert step["reconstructed"] == (6 if recovery in ("reconstruction", "distillation") else 0)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    ],
)
def test_a_further_fine_tune_keeps_the_masks(optimizer: Callable[[Any], Any]) -> None:
    small = prune(network(), recovery="none")
    before = small.module.down.weight.detach().clone()
    step = optimizer(small.module.parameters())
    for _ in range(5):
        step.zero_grad()
        small.module(samples(8, 2)).square().mean().backward()
        step.step()
    assert not torch.equal(small.module.down.weight, before)
    masks_hold(small)
    small.module.down.weight.data += 1
    small.apply_masks()
    masks_hold(small)
    native = taille.compile_model(small)  # the hooks on gradients are not in its way
    x = samples(4, 5)
    torch.testing.assert_close(native.predict(x), small.predict(x), rtol=1e-3, atol=1e-4)


class Tokens(nn.Module):
    """Token by token, with a mask for who wants to know."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 32)
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32), nn.LayerNorm(32))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.layers(self.table(input_ids)) * (1 + 0 * attention_mask[..., None])


@pytest.mark.parametrize("recovery", ["reconstruction", "distillation"])
def test_what_is_padding_does_not_matter(recovery: str) -> None:
    torch.manual_seed(0)
    net, made = Tokens().eval(), []
    ids, mask = torch.randint(0, 40, (64, 12)), (torch.arange(12) < torch.randint(2, 12, (64, 1))).long()
    for padding in (41, 49):
        batches = [
            {"input_ids": torch.where(m == 1, i, padding), "attention_mask": m}
            for i, m in zip(ids.split(16), mask.split(16), strict=True)
        ]
        axes = {key: {0: "batch", 1: "sequence"} for key in batches[0]}
        model = taille.TorchModel(net, batches[0], dynamic_shapes=axes, calibration_data=batches)
        made.append(taille.prune_model(model, 0.25, "structured", recovery=recovery, steps=5))
    for name, tensor in made[0].module.state_dict().items():
        torch.testing.assert_close(tensor, made[1].module.state_dict()[name], rtol=1e-4, atol=1e-6, msg=name)
    assert all(torch.equal(m, made[1].masks[n]) for n, m in made[0].masks.items())


def test_embeddings_keep_their_likeness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cosines between the samples of a batch, which a mean error of each embedding leaves open."""
    from taille.training import losses
    from taille.training.data import Batch

    torch.manual_seed(0)
    net = Tokens()
    ids = torch.randint(0, 30, (4, 8, 6))
    data = [{"input_ids": i, "attention_mask": torch.ones(8, 6).long()} for i in ids]
    dense = taille.TorchModel(net, data[0], train_data=data, calibration_data=data)
    assert torch.allclose(losses.likeness(3 * torch.eye(2, 5)), torch.eye(2))
    seen: list[int] = []
    likeness = losses.likeness

    def noted(pooled: torch.Tensor) -> torch.Tensor:
        seen.append(pooled.shape[0])
        return likeness(pooled)

    def gap(model: taille.TorchModel) -> float:
        total = 0.0
        for inputs in data:
            batch = Batch(inputs, (), 8)
            with torch.no_grad():
                cosines = [likeness(batch.pooled(m(**inputs))) for m in (model.module, net)]
            total += float((cosines[0] - cosines[1]).square().mean())
        return total

    options = {"min_weights": 0, "include_first_last": True, "recovery": "distillation", "steps": 60, "lr": 1e-2}
    monkeypatch.setattr(losses, "likeness", noted)
    with_it = gap(taille.prune_model(dense, 0.25, "structured", **options))
    assert seen == [8] * 2 * 60
    monkeypatch.setattr(losses, "likeness", lambda pooled: torch.ones(1))
    assert with_it < gap(taille.prune_model(dense, 0.25, "structured", **options))


class Interrupt(KeyboardInterrupt):
    pass


def interrupted(stage: str, at: int) -> Callable[[str, int, int], None]:
    def progress(now: str, done: int, _: int) -> None:
        if (now, done) == (stage, at):
            raise Interrupt

    return progress


@pytest.mark.parametrize(
    ("recovery", "stops"),
    [
        ("reconstruction", [("reconstructing", 2), ("reconstructing", 4)]),
        ("distillation", [("scoring", 256), ("reconstructing", 3), ("training", 12), ("training", 23)]),
        ("schedule", [("training", 5), ("training", 12), ("training", 23)]),
    ],
)
def test_resuming_gives_the_same_result(
    recovery: str, stops: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taille.pruning.train.SAVE_EVERY", 10)
    data: dict[str, Any] = {}
    if recovery == "schedule":
        x = samples(80, 3)
        loader = DataLoader(TensorDataset(x, colour(x)), batch_size=16, shuffle=True)
        data = {"train_data": loader, "loss_fn": nn.CrossEntropyLoss()}
    options = {"recovery": recovery, "steps": 24}
    whole = prune(network(**data), **options)
    path = tmp_path / "state.safetensors"
    for stage, at in stops:
        with pytest.raises(Interrupt):
            prune(network(**data), checkpoint=path, progress=interrupted(stage, at), **options)
        torch.manual_seed(at)  # what else draws numbers does not matter
    assert path.exists()
    done: list[int] = []

    def note(stage: str, step: int, _: int) -> None:
        if stage == "training":
            done.append(step)

    small = prune(network(**data), checkpoint=path, progress=note, **options)
    assert not done or done[0] == 21  # it did go on
    assert list(tmp_path.iterdir()) == []
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, small.module.state_dict()[name]), name
    assert all(torch.equal(mask, small.masks[name]) for name, mask in whole.masks.items())
    assert small.metadata == whole.metadata
    assert str(small.report) == str(whole.report)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(Interrupt):
        prune(network(), checkpoint=path, progress=interrupted("reconstructing", 2))
    with pytest.raises(ValueError, match="was made with another score, seed; wanted the same arguments"):
        prune(network(), checkpoint=path, seed=3, score="magnitude")
    other = network()
    other.module.down.weight.data[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match="was made with another weights"):
        prune(other, checkpoint=path)
    for content in (b"", b"not a checkpoint at all", (b"\x02" + bytes(7) + b"{}")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not one of prune_model"):
            prune(network(), checkpoint=path)


def test_training_that_explodes_says_so() -> None:
    with pytest.raises(ValueError, match=r"the loss is .* at training step .*; wanted finite losses: try a smaller lr"):
        prune(network(), recovery="distillation", lr=1e30)
    frozen = network()
    frozen.module.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter of the module requires a gradient"):
        prune(frozen, recovery="distillation")


def test_training_starts_from_an_earlier_result_with_nothing_refitted_again() -> None:
    inputs = samples(256, 3).split(32)
    dense = network(train_data=inputs)
    options = {"pattern": "block4x4", "ignore": ["down"]}
    refit = taille.prune_model(dense, 0.5, "structured", recovery="reconstruction", **options)
    stages: list[str] = []
    trained = taille.prune_model(
        dense, 0.5, "structured", recovery="distillation", steps=20, start=refit,
        progress=lambda stage, _done, _total: stages.append(stage), **options,
    )  # fmt: skip
    whole = taille.prune_model(dense, 0.5, "structured", recovery="distillation", steps=20, **options)
    assert set(stages) == {"training"}
    for name, value in whole.module.state_dict().items():
        assert torch.equal(trained.module.state_dict()[name], value), name
    assert trained.report.to_json() == whole.report.to_json()
    assert trained.metadata["recipe"] == whole.metadata["recipe"]


def test_a_start_that_does_not_fit_is_refused() -> None:
    dense = network(train_data=samples(64, 3).split(32))
    start = taille.prune_model(dense, 0.5, "structured", recovery="none")
    with pytest.raises(ValueError, match=r"target_size is 0\.25, and start was pruned with 0\.5"):
        taille.prune_model(dense, 0.25, "structured", recovery="distillation", steps=1, start=start)
    with pytest.raises(ValueError, match="permute is True, and start, whose order is taken over, was pruned with Fals"):
        taille.prune_model(dense, 0.5, "structured", recovery="distillation", permute=True, start=start)
    with pytest.raises(ValueError, match="no pruned form of this model"):
        taille.prune_model(start, 0.5, "structured", recovery="distillation", steps=1, start=start)
    with pytest.raises(TypeError, match="start is TorchModel; wanted what an earlier prune_model gave"):
        taille.prune_model(dense, 0.5, "structured", recovery="distillation", steps=1, start=dense)  # type: ignore[arg-type]
