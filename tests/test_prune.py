"""Pruning: which weights stay, which layers stay dense and why, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from taille.pruning.masks import make_mask, make_masks
from taille.pruning.patterns import parse_pattern
from taille.pruning.sensitivity import allocate


def images(*, seed: int = 0, **data: Any) -> taille.TorchModel:
    """Convolutions of several kinds and a head; layer "2" and on can be pruned, but for "4", "8" and the last."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32), nn.ReLU(),
        nn.Conv2d(32, 36, 1, bias=False), nn.BatchNorm2d(36),
        nn.Conv2d(36, 6, 1), nn.ReLU(), nn.Flatten(),
        nn.Linear(6 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    x = torch.randn(96, 3, 8, 8)
    return taille.TorchModel(net.eval(), (x[:2],), **{"calibration_data": x.split(32), **data})


def rows(weight: torch.Tensor) -> np.ndarray[Any, Any]:
    """[outputs, taps, inputs]."""
    return weight.detach().reshape(weight.shape[0], weight.shape[1], -1).permute(0, 2, 1).numpy()


def weights_of(model: taille.TorchModel) -> dict[str, torch.Tensor]:
    return {n: m.weight for n, m in model.module.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("method", ["magnitude", "structured"])
def test_shares_are_exact_to_a_block(method: str, share: float) -> None:
    model = images()
    small = taille.prune_model(model, share, method, recovery="none")
    for row in small.report:
        weight = weights_of(small)[row.name]
        if row.why:
            assert torch.equal(weight, weights_of(model)[row.name])
            continue
        unit = 1 if method == "magnitude" else 16
        kept = int((weight != 0).sum())
        assert kept == unit * round(weight.numel() / unit * share)
        assert row.kept == kept / weight.numel()
    step = small.metadata["recipe"][-1]
    assert step["share"] == step["weights"]["kept"] / step["weights"]["prunable"] == pytest.approx(share, abs=0.01)
    assert step["recovery"] == "none"


@pytest.mark.parametrize(
    ("pattern", "outputs", "inputs"),
    [("block1x4", 1, 4), ("block2x4", 2, 4), ("block4x4", 4, 4), ("block4x16", 16, 4), ("block4x32", 32, 4)],
)
def test_blocks_stay_or_go_whole(pattern: str, outputs: int, inputs: int) -> None:
    small = taille.prune_model(images(), 0.3, "structured", pattern=pattern)
    assert small.report.rows[1].pattern == pattern
    for row in small.report:
        if not row.why:
            kept = rows(weights_of(small)[row.name]) != 0
            o, t, i = kept.shape
            blocks = kept.reshape(o // outputs, outputs, t, i // inputs, inputs)
            assert (blocks.all((1, 4)) | ~blocks.any((1, 4))).all()
            assert torch.equal(small.masks[row.name], weights_of(small)[row.name] != 0)


@pytest.mark.parametrize(("pattern", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4), ("3:8", 3, 8), ("4:4", 4, 4)])
def test_n_of_m_neighbours_stay(pattern: str, n: int, m: int) -> None:
    small = taille.prune_model(images(), n / m, "structured", pattern=pattern)
    pruned = [r.name for r in small.report if not r.why]
    assert "2" in pruned
    for name in pruned:
        kept = rows(weights_of(small)[name]) != 0
        assert (kept.reshape(*kept.shape[:2], -1, m).sum(-1) == n).all()


def test_the_best_of_m_neighbours_stay() -> None:
    scores = np.random.default_rng(0).random((8, 16))
    mask = make_mask(scores, parse_pattern("1:4"), 0.25)
    groups = scores.reshape(8, 4, 4)
    np.testing.assert_array_equal(mask.reshape(8, 4, 4), groups == groups.max(2, keepdims=True))


def test_the_best_blocks_stay() -> None:
    """Against a sort of the block sums, done here another way."""
    model = images()
    small = taille.prune_model(model, 0.25, "structured", score="magnitude", recovery="none")
    energy = rows(weights_of(model)["2"]).astype(np.float64) ** 2  # [32, 9, 16]
    sums = energy.reshape(8, 4, 9, 4, 4).sum((1, 4))
    wanted = sums >= np.sort(sums.ravel())[-72]
    mask = small.masks["2"].reshape(32, 16, 9).permute(0, 2, 1).numpy()
    np.testing.assert_array_equal(mask.reshape(8, 4, 9, 4, 4).all((1, 4)), wanted)


def test_wanda_weighs_by_the_inputs() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)).eval()
    loud = torch.arange(32) % 2 == 0
    net[0].weight.data[~loud] *= 1e-3
    net[0].bias.data[~loud] = 0
    net[1].weight.data.uniform_(0.5, 1)
    x = torch.randn(64, 8)
    model = taille.TorchModel(net, (x,), calibration_data=[x])
    small = taille.prune_model(model, 0.5, "magnitude", score="wanda", recovery="none")
    assert torch.equal(small.masks["1"], loud.expand(32, 32))
    assert not torch.equal(taille.prune_model(model, 0.5, recovery="none").masks["1"], loud.expand(32, 32))


def test_fisher_weighs_by_the_gradients_of_single_samples() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    x, y = torch.randn(40, 8), torch.randint(0, 4, (40,))
    loss = nn.CrossEntropyLoss()
    model = taille.TorchModel(net, (x,), train_data=[(x[:25], y[:25]), (x[25:], y[25:])], loss_fn=loss)
    small = taille.prune_model(model, 0.3, score="fisher", recovery="none")
    total = torch.zeros(32, 32, dtype=torch.float64)
    for i in range(40):
        (gradient,) = torch.autograd.grad(loss(net(x[i : i + 1]), y[i : i + 1]), [net[2].weight])
        total += gradient.double() ** 2
    scores = total * net[2].weight.detach().double() ** 2
    assert torch.equal(small.masks["2"], scores >= scores.ravel().sort().values[-round(0.3 * 1024)])
    assert net[2].weight.grad is None


def test_global_scope_lets_layers_compete() -> None:
    model = images(seed=1)
    with torch.no_grad():
        model.module[2].weight *= 0.01
    small = taille.prune_model(model, 0.5, scope="global", recovery="none")
    step, shares = small.metadata["recipe"][-1], {r.name: r.kept for r in small.report}
    assert step["weights"]["kept"] == round(0.5 * step["weights"]["prunable"])
    assert shares["2"] < 0.1 < 0.8 < shares["6"]
    assert all(share > 0 for share in shares.values())  # a layer without weights would cut the network


def test_ties_go_to_the_lower_index_and_nan_is_refused() -> None:
    ones, pattern = np.ones((4, 8)), parse_pattern("unstructured")
    np.testing.assert_array_equal(make_mask(ones, pattern, 0.5), np.repeat([[True], [False]], [2, 2], 0).repeat(8, 1))
    np.testing.assert_array_equal(make_mask(ones, parse_pattern("2:4"), 0.5), [[1, 1, 0, 0, 1, 1, 0, 0]] * 4)
    first, second = make_masks([ones, ones], pattern, 0.25)
    assert (first.sum(), second.sum()) == (15, 1)  # one at least stays
    scores = np.ones((4, 8))
    scores[1, 2] = np.nan
    with pytest.raises(ValueError, match="score is nan at row 1, column 2"):
        make_mask(scores, pattern, 0.5)


def test_the_report_names_what_stays_dense() -> None:
    small = taille.prune_model(images(), 0.25, "structured")
    why = {r.name: r.why for r in small.report}
    assert why == {
        "0": "the first layer", "2": "", "4": "a depthwise convolution", "6": "",
        "8": "fewer than 1024 weights", "11": "", "13": "the last layer",
    }  # fmt: skip
    text = str(small.report)
    assert re.search(r"^8 +conv2d +6x36x1x1 +dense +100.00 % +fewer than 1024 weights$", text, re.MULTILINE)
    assert re.search(r"^2 +conv2d +32x16x3x3 +block4x4 +25.00 % +0\.\d+$", text, re.MULTILINE)
    found = json.loads(small.report.to_json())["layers"]
    assert [row["name"] for row in found] == list(why)
    assert found[1]["shape"] == [32, 16, 3, 3]
    assert small.report.counts() == "3 layers pruned, 4 dense"


def test_what_stays_dense_can_be_chosen() -> None:
    options = {"include_first_last": True, "min_weights": 0, "ignore": ["linear", re.compile("[2]")]}
    small = taille.prune_model(images(), 0.25, "structured", **options)
    assert {r.name: r.why for r in small.report} == {
        "0": "block4x4 does not divide its 3 input channels", "2": "ignored by request", "4": "a depthwise convolution",
        "6": "", "8": "block4x4 does not divide its 6 output channels", "11": "ignored by request",
        "13": "ignored by request",
    }  # fmt: skip
    assert small.metadata["recipe"][-1]["ignore"] == ["linear", "re:[2]"]


class Odd(nn.Module):
    """Tied, parametrised, unused and grouped layers, and a plain parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 32)
        self.plain = nn.Linear(32, 32)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32))
        self.unused = nn.Linear(32, 32)
        self.grouped = nn.Conv2d(32, 32, 1, groups=2)
        self.head = nn.Linear(32, 40, bias=False)
        self.head.weight = self.table.weight
        self.bare = nn.Parameter(torch.randn(32, 32))
        self.norm = nn.LayerNorm(40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.normed(self.plain(self.table(x))) @ self.bare
        y = self.grouped(y.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)
        return self.norm(self.head(y))


def test_odd_layers_stay_dense() -> None:
    torch.manual_seed(0)
    model = taille.TorchModel(Odd().eval(), (torch.randint(0, 40, (2, 5)),))
    small = taille.prune_model(model, 0.5, min_weights=0)
    assert {r.name: r.why for r in small.report} == {
        "table": "an embedding", "plain": "", "normed": "its weight is parametrised: remove the parametrisation first",
        "grouped": "a convolution in 2 groups", "head": "it shares its weight with another layer",
        "unused": "it is never called as a module", "bare": "not the weight of a Linear or Conv2d",
    }  # fmt: skip


def test_an_encoder_has_no_first_and_last_layer() -> None:
    """The embedding and the norm stand there."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(50, 32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32), nn.LayerNorm(32))
    small = taille.prune_model(taille.TorchModel(net.eval(), (torch.randint(0, 50, (2, 7)),)), 0.25, "structured")
    assert {r.name: r.why for r in small.report} == {"0": "an embedding", "1": "", "3": ""}


def test_the_model_is_not_changed_and_its_data_goes_along() -> None:
    train = [(torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))]
    model = images(train_data=train, loss_fn=nn.CrossEntropyLoss(), eval_fn=lambda _: 0.5, name="net")
    model.module.train()
    before = {n: t.clone() for n, t in model.module.state_dict().items()}
    small = taille.prune_model(model, 0.25, "structured", steps=3)
    assert all(torch.equal(t, before[n]) for n, t in model.module.state_dict().items())
    assert all(m.training for m in [*model.module.modules(), *small.module.modules()])
    assert all(p.grad is None for p in model.module.parameters())
    for name in ("calibration_data", "train_data", "test_data", "eval_fn", "loss_fn", "name", "input_spec"):
        assert getattr(small, name) == getattr(model, name)
    assert isinstance(small, taille.TorchModel)
    assert model.metadata["recipe"] == []


@pytest.mark.parametrize("method", ["magnitude", "structured", "sensitivity"])
def test_all_of_it_is_the_same_function(method: str) -> None:
    model = images()
    for recovery in ("auto", "reconstruction"):
        small = taille.prune_model(model, 1.0, method, recovery=recovery)
        x = torch.randn(8, 3, 8, 8)
        torch.testing.assert_close(small.predict(x), model.predict(x), rtol=1e-4, atol=1e-5)
    assert {r.kept for r in small.report} == {1.0}


def test_pruning_twice_keeps_what_has_gone() -> None:
    first = taille.prune_model(images(), 0.5, "structured")
    second = taille.prune_model(first, 0.4, "magnitude", ignore=["2"])
    assert torch.equal(second.masks["2"], first.masks["2"])
    assert (weights_of(second)["2"][~first.masks["2"]] == 0).all()
    assert not (second.masks["6"] & ~first.masks["6"]).any()
    third = taille.prune_model(first, 0.9, "magnitude")  # more than there is: refitting brings nothing back either
    assert not any((weights_of(third)[name][~mask] != 0).any() for name, mask in first.masks.items())
    assert [s["method"] for s in second.metadata["recipe"]] == ["structured", "magnitude"]


def test_quantising_keeps_zeros_and_the_recipe() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 8)).eval()
    net[2].weight.data[8:12] *= 1e-3  # these rows go whole
    x = torch.randn(64, 16)
    model = taille.TorchModel(net, (x,), calibration_data=[x])
    pruned = taille.prune_model(model, 0.25, "structured", score="magnitude")
    assert not pruned.masks["2"][8:12].any()
    small = taille.quantize_model(pruned, "int8")
    (stored,) = (v for v in small.graph.constants().values() if v.dtype == np.int8 and v.shape == (48, 32))
    np.testing.assert_array_equal(stored[~pruned.masks["2"].numpy()], 0)
    assert np.count_nonzero(stored) > 0.9 * pruned.masks["2"].sum()
    given, wanted = small.predict(x), pruned.predict(x)
    assert torch.isfinite(given).all()
    assert (given - wanted).square().sum() < 0.01 * wanted.square().sum()
    assert [s["step"] for s in small.metadata["recipe"]] == ["prune", "quantize"]
    assert small.sparsity == pruned.sparsity > 0.4
    native = taille.compile_model(pruned)
    torch.testing.assert_close(native.predict(x), wanted, rtol=1e-4, atol=1e-5)
    assert native.metadata["recipe"] == pruned.metadata["recipe"]


class Uneven(nn.Module):
    """Layers of one shape; what two of them give hardly counts."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.ModuleList(nn.Linear(32, 32) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, gain in zip(self.inner, (1.0, 0.01, 1.0, 0.01), strict=True):
            x = x + gain * torch.relu(layer(x))
        return x


@pytest.mark.parametrize(("pattern", "target"), [("unstructured", 0.5), ("block4x4", 0.4), ("2:4", 0.75)])
def test_sensitivity_beats_the_same_share_everywhere(pattern: str, target: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(96, 32)
    model = taille.TorchModel(Uneven().eval(), (x[:2],), calibration_data=x[:64].split(16))
    stages: list[tuple[str, int, int]] = []
    options: Any = {"recovery": "none", "include_first_last": True}
    small = taille.prune_model(
        model, target, "sensitivity", pattern=pattern, progress=lambda *a: stages.append(a), **options
    )
    shares = {r.name: r.kept for r in small.report}
    assert small.metadata["recipe"][-1]["share"] == pytest.approx(target, abs=0.01)
    assert max(shares["inner.1"], shares["inner.3"]) < min(shares["inner.0"], shares["inner.2"])
    if pattern != "2:4":
        method = "magnitude" if pattern == "unstructured" else "structured"
        uniform = taille.prune_model(model, target, method, pattern=pattern, score="wanda", **options)
        errors = [(m.predict(x[64:]) - model.predict(x[64:])).square().sum() for m in (small, uniform)]
        assert errors[0] < 0.5 * errors[1]
    probes = [(done, total) for stage, done, total in stages if stage == "probing layers"]
    assert probes[-1][0] == probes[-1][1] == len(probes) > 3


def test_the_allocation_is_the_best_on_convex_curves() -> None:
    """Against all combinations of shares, for losses known in advance."""
    from taille.pruning.options import Options

    shares = [1.0, 0.75, 0.5, 0.25, 0.0]
    curves = {n: [(s, c * (1 - s) ** 2) for s in shares] for n, c in (("a", 1.0), ("b", 3.0), ("c", 9.0))}
    weights = dict.fromkeys(curves, 100)
    found = allocate(curves, weights, Options(0.5, "sensitivity"))
    assert sum(found.values()) == pytest.approx(1.5)
    loss = {n: dict(points) for n, points in curves.items()}
    best = min(
        loss["a"][a] + loss["b"][b] + loss["c"][c]
        for a in shares for b in shares for c in shares if a + b + c == 1.5
    )  # fmt: skip
    assert sum(np.interp(found[n], *zip(*sorted(curves[n]), strict=True)) for n in curves) <= best + 1e-9
    assert sum(allocate(curves, weights, Options(0.55, "sensitivity")).values()) == pytest.approx(1.65)
    bumpy = {"a": [(1.0, 0.0), (0.75, 5.0), (0.5, 1.0)], "b": [(1.0, 0.0), (0.5, 2.0)]}
    assert allocate(bumpy, {"a": 100, "b": 100}, Options(0.75, "sensitivity")) == {"a": 0.5, "b": 1.0}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target_size": 0}, ValueError, "target_size is 0; wanted the share .* in \\(0, 1\\]"),
        ({"target_size": 1.01}, ValueError, "target_size is 1.01"),
        ({"target_size": float("nan")}, ValueError, "target_size is nan"),
        ({"target_size": "half"}, TypeError, "target_size is 'half'; wanted a share"),
        ({"target_size": True}, TypeError, "target_size is True"),
        ({"method": "random"}, ValueError, "unknown method 'random'; there are magnitude, structured, sensitivity"),
        ({"pattern": "block3x3"}, ValueError, "unknown pattern 'block3x3'; there are unstructured, block1x4"),
        ({"pattern": "4:2"}, ValueError, "pattern is '4:2'; wanted N:M with 1 <= N <= M"),
        ({"pattern": "2:4"}, ValueError, "target_size is 0.25; pattern '2:4' keeps 0.5: wanted that"),
        (
            {"pattern": "2:4", "method": "sensitivity"},
            ValueError,
            "target_size is 0.25; pattern '2:4' keeps 0.5: wanted at least that",
        ),
        ({"pattern": 4}, TypeError, "pattern is int; wanted a text"),
        ({"pattern": "block4x4", "method": "magnitude"}, ValueError, 'wanted method="structured" or "sensitivity"'),
        ({"pattern": "unstructured"}, ValueError, 'wanted method="magnitude"'),
        ({"score": "size"}, ValueError, "unknown score 'size'; there are magnitude, wanda, fisher"),
        ({"scope": "all"}, ValueError, "unknown scope 'all'"),
        ({"scope": "global", "method": "sensitivity"}, ValueError, 'scope is "global" with method'),
        ({"scope": "global", "pattern": "1:4"}, ValueError, "scope is \"global\" with pattern '1:4'"),
        ({"recovery": "luck"}, ValueError, "unknown recovery 'luck'"),
        ({"schedule": "linear"}, ValueError, "unknown schedule 'linear'; there are oneshot, polynomial"),
        ({"schedule": "polynomial"}, ValueError, 'schedule="polynomial" needs train_data and loss_fn'),
        ({"schedule": "polynomial", "recovery": "none"}, ValueError, 'wanted recovery="schedule"'),
        ({"recovery": "schedule"}, ValueError, '(schedule="polynomial"|recovery="schedule") needs train_data'),
        ({"score": "fisher"}, ValueError, 'score="fisher" needs train_data and loss_fn'),
        ({"steps": 3, "epochs": 1}, ValueError, "steps is 3 and epochs is 1; wanted one of them"),
        ({"steps": 0}, ValueError, "steps is 0; wanted at least 1"),
        ({"lr": -1.0}, ValueError, "lr is -1.0; wanted a positive"),
        ({"ignore": "fc"}, TypeError, "ignore is the text 'fc'; wanted a sequence"),
        ({"ignore": ["head"]}, ValueError, "ignore: no layer is called 'head'; the layers are 0, 2, 4"),
        ({"min_weights": 10**6}, ValueError, "nothing to prune in Sequential: 0: the first layer; 2: fewer than"),
        ({"checkpoint": "/nowhere/at/all"}, ValueError, "checkpoint is '/nowhere/at/all', in a folder that"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        taille.prune_model(images(), **{"target_size": 0.25, "method": "structured", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score": "wanda"}, 'score="wanda" needs calibration_data: taille.TorchModel'),
        ({"method": "sensitivity"}, 'method="sensitivity" needs calibration_data'),
        ({"recovery": "reconstruction"}, 'recovery="reconstruction" needs calibration_data'),
        ({"recovery": "distillation"}, 'recovery="distillation" needs train_data .* or calibration_data'),
    ],
)
def test_missing_data_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        taille.prune_model(images(calibration_data=None), 0.25, **options)


def test_what_cannot_be_pruned_is_named() -> None:
    model = images()
    with pytest.raises(TypeError, match=r"takes a taille model, not the bare nn\.Module Sequential"):
        taille.prune_model(model.module, 0.5)
    for made in (taille.quantize_model(model, "float16"), taille.compile_model(model)):
        with pytest.raises(TypeError, match=f"takes a TorchModel, not {type(made).__name__}; prune first"):
            taille.prune_model(made, 0.5)
    lone = taille.TorchModel(nn.Linear(64, 64), (torch.randn(2, 64),))
    with pytest.raises(ValueError, match=r"nothing to prune in Linear: the module: the first layer\. See include"):
        taille.prune_model(lone, 0.5)
    assert taille.prune_model(lone, 0.5, include_first_last=True).sparsity == 0.5
    with pytest.raises(ValueError, match="the calibration data is empty, or a generator"):
        taille.prune_model(images(calibration_data=[]), 0.5, "structured")
    with pytest.raises(ValueError, match="calibration batch 0: input 'input' has shape"):
        taille.prune_model(images(calibration_data=[torch.randn(2, 4, 8, 8)]), 0.5, "structured")
    with pytest.raises(ValueError, match="calibration data holds NaN"):
        taille.prune_model(images(calibration_data=[torch.full((2, 3, 8, 8), torch.nan)]), 0.5, "structured")
    with torch.no_grad():
        model.module[2].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="the weight of '2' holds NaN or infinite values"):
        taille.prune_model(model, 0.5)


def test_channels_are_removed_by_tracing() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    model = taille.TorchModel(net, (torch.randn(2, 3, 8, 8),))
    small = taille.prune_model(model, 0.5, "structured", pattern="channel")
    assert small.parameter_count < 0.7 * model.parameter_count
    assert small.metadata["recipe"][-1]["method"] == "channels"
    x = np.zeros((1, 3, 8, 8), np.float32)
    assert taille.compile_model(small).predict(x).shape == (1, 4, 4, 4)
    with pytest.raises(ValueError, match='recovery is "reconstruction"; pattern="channel" has none'):
        taille.prune_model(model, 0.5, "structured", pattern="channel", recovery="reconstruction")
    for option, value in {"steps": 5, "checkpoint": "x", "scope": "global", "score": "wanda"}.items():
        with pytest.raises(ValueError, match=option):
            taille.prune_model(model, 0.5, "structured", pattern="channel", **{option: value})
