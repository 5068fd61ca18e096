"""Channels in another order: the same function, more of the scores kept, and all of it after an interrupt."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from channel_nets import NETS, bert, model_of
from taille.capture.export import export
from taille.pruning.channel_groups import build_groups
from taille.pruning.channel_trace import trace_channels
from taille.pruning.layers import survey, trace
from taille.pruning.options import Options
from taille.pruning.order_search import Reader, best_order, disjoint_pairs
from taille.pruning.patterns import parse_pattern
from taille.pruning.permute import Search, find_order, in_order, reader_of, reordered
from taille.pruning.scores import importance, score_layers

SHARE = 0.3


def found(model: taille.TorchModel, **changed: Any) -> tuple[dict[str, torch.Tensor], list[Any], dict[str, Any]]:
    """The order for a model, the rows of the report and the scores it was found for."""
    given = {"include_first_last": True, "min_weights": 0, "permute": True, **changed}
    options = Options(given.pop("target_size", SHARE), "structured", **given).settled(model)
    layers = [layer for layer in survey(model, options, trace(model)) if not layer.why]
    scores = score_layers(model.module, layers, importance(model, layers, options))
    return *find_order(model, scores, options), scores


def outputs(model: taille.TorchModel, module: nn.Module) -> list[torch.Tensor]:
    from taille.pruning.channel_trials import Trials

    return Trials(model).run(module)


@pytest.mark.parametrize("name", [*NETS, "bert"])
def test_any_order_of_a_group_computes_the_same(name: str) -> None:
    model = bert() if name == "bert" else model_of(name)
    groups = [g for g in build_groups(trace_channels(export(model), model.module).atoms) if not g.why]
    assert groups
    search = Search(model, {}, Options(SHARE, "structured"))
    wanted, rng = outputs(model, model.module), np.random.default_rng(0)
    for group in groups:
        module = reordered(model.module, search._indices(group, rng.permutation(group.units)))
        weights = dict(module.named_parameters())
        assert any(not torch.equal(w, weights[n]) for n, w in model.module.named_parameters())
        for given, exact in zip(outputs(model, module), wanted, strict=True):
            torch.testing.assert_close(given, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["basic", "inverted", "mlp", "encoder", "bert"])
def test_the_order_that_is_found_computes_the_same_and_keeps_more(name: str) -> None:
    model = bert() if name == "bert" else model_of(name)
    before = {n: t.clone() for n, t in model.module.state_dict().items()}
    order, rows, scores = found(model, pattern="block1x4")
    moved = [row for row in rows if not row.why]
    assert order
    assert moved
    assert all(row.kept_after > row.kept_before for row in moved)
    module = reordered(model.module, order)
    for given, exact in zip(outputs(model, module), outputs(model, model.module), strict=True):
        torch.testing.assert_close(given, exact, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(t, before[n]) for n, t in model.module.state_dict().items())
    # What the masks keep, measured anew on the reordered weights; magnitudes, which need no data in that order.
    order, rows, scores = found(model, pattern="block1x4", score="magnitude")
    twin = in_order(model, order)
    kept = {}
    for which in (model, twin):
        small = taille.prune_model(which, SHARE, "structured", pattern="block1x4", score="magnitude", recovery="none",
                                   include_first_last=True, min_weights=0)  # fmt: skip
        squares = {n: small.module.get_submodule(n).weight.detach().double().square().sum() for n in scores}
        total = {n: which.module.get_submodule(n).weight.detach().double().square().sum() for n in scores}
        kept[which] = sum(float(squares[n] / total[n]) for n in scores)
    assert kept[twin] > kept[model]


def interleaved(outer: int = 64) -> taille.TorchModel:
    """An inner layer that reads every fourth channel of 64 and little of the others."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, outer), nn.ReLU(), nn.Linear(outer, 8)).eval()
    with torch.no_grad():
        net[2].weight.uniform_(0.5, 1.0)
        net[2].weight[:, torch.arange(64) % 4 != 1] *= 1e-3
    x = torch.randn(256, 16)
    return taille.TorchModel(net, (x[:8],), calibration_data=x.split(64))


@pytest.mark.parametrize("pattern", ["block1x4", "block2x4", "block4x4", "block4x16", "block4x32"])
def test_interleaved_channels_come_together(pattern: str) -> None:
    """Without another order three quarters of what counts would go."""
    for score in ("magnitude", "wanda"):
        options: dict[str, Any] = {"pattern": pattern, "score": score, "recovery": "none"}
        plain = taille.prune_model(interleaved(), 0.25, "structured", permute=False, **options)
        small = taille.prune_model(interleaved(), 0.25, "structured", permute=True, **options)
        assert int((plain.module[2].weight > 0.1).sum()) == 256
        assert int((small.module[2].weight > 0.1).sum()) == 1024
        (row,) = [row for row in small.report.orders if row.name == "0"]
        assert (row.layers, row.channels, row.why) == (("0", "2"), 64, "")
        assert row.kept_before < 0.5
        assert row.kept_after > 0.999
    x = torch.randn(32, 16)
    wanted = interleaved().predict(x)
    assert (small.predict(x) - wanted).square().sum() < 1e-4 * wanted.square().sum()
    assert (plain.predict(x) - wanted).square().sum() > 0.01 * wanted.square().sum()


def test_square_blocks_bring_outputs_together_too() -> None:
    """Every fourth channel that the inner layer makes counts; blocks of one output have no need of an order."""
    model = interleaved()
    with torch.no_grad():
        model.module[2].weight.uniform_(0.5, 1.0)
        model.module[2].weight[torch.arange(64) % 4 != 1] *= 1e-3
    rows = {}
    for pattern in ("block4x4", "block1x4"):
        small = taille.prune_model(model, 0.25, "structured", pattern=pattern, score="magnitude", recovery="none",
                                   permute=True)  # fmt: skip
        assert int((small.module[2].weight > 0.1).sum()) == 1024
        rows[pattern] = next(row for row in small.report.orders if row.name == "2")
    assert rows["block4x4"].kept_before < 0.5
    assert rows["block4x4"].kept_after > 0.999
    assert rows["block1x4"].why == "no layer to prune has them one by one in groups of 4"


def test_only_channels_in_a_row_are_asked_for() -> None:
    scores, pattern, places = np.ones((8, 32)), parse_pattern("block4x4"), np.arange(32)[:, None]
    assert len(reader_of(scores, 32, places, pattern, 0.5)) == 1
    assert len(reader_of(scores, 32, places[8:24], pattern, 0.5)) == 1
    for wrong in (places[::-1], places[2:18], places[:4], places[:6], places[::2], places.reshape(16, 2)):
        assert reader_of(scores, 32, wrong, pattern, 0.5) == []
    assert reader_of(0 * scores, 32, places, pattern, 0.5) == []
    assert reader_of(scores, 32, places, parse_pattern("4:4"), 1.0) == []


def test_what_the_inputs_say_moves_along() -> None:
    """Weights that are all alike, and channels of which every fourth is loud."""
    model, x = interleaved(), torch.randn(32, 16)
    with torch.no_grad():
        model.module[2].weight.uniform_(0.5, 1.0)
        for tensor in (model.module[0].weight, model.module[0].bias):
            tensor[torch.arange(64) % 4 != 1] *= 1e-3
    small = taille.prune_model(model, 0.25, "structured", score="wanda", recovery="none", permute=True)
    wanted = model.predict(x)
    assert (small.predict(x) - wanted).square().sum() < 1e-4 * wanted.square().sum()


class Beside(nn.Module):
    """Two layers side by side, which one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.after = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(torch.cat([self.left(x), self.right(x).tanh()], -1))


def test_groups_side_by_side_both_move() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 16)
    model = taille.TorchModel(Beside().eval(), (x,), calibration_data=[x])
    order, rows, _ = found(model)
    assert {row.name for row in rows if not row.why} == {"left", "right"}
    index = order["1/after.weight"]
    assert sorted(index[:32].tolist()) == list(range(32)) != index[:32].tolist()
    assert sorted(index[32:].tolist()) == list(range(32, 64)) != index[32:].tolist()
    torch.testing.assert_close(reordered(model.module, order)(x), model.module(x), rtol=1e-4, atol=1e-5)


def test_neighbours_that_compete_are_spread() -> None:
    """N:M is the other way round: of four channels that count, 2:4 loses two."""
    model = interleaved()
    with torch.no_grad():
        model.module[2].weight.uniform_(0.5, 1.0)
        model.module[2].weight[:, 32:] *= 1e-3
    kept = [taille.prune_model(model, 0.5, "structured", pattern="2:4", recovery="none", permute=permute)
            for permute in (False, True)]  # fmt: skip
    assert [int((small.module[2].weight > 0.1).sum()) for small in kept] == [1024, 2048]
    (row,) = [row for row in kept[1].report.orders if not row.why]
    assert row.kept_after > 0.999


def reader(scores: torch.Tensor, **given: Any) -> Reader:
    return Reader(**{"scores": scores / scores.sum(), "keep": 0, "blocks": 1, "rest": torch.empty(0), **given})


def test_channels_alike_in_sum_are_told_apart_by_whom_they_serve() -> None:
    """Sixteen kinds of channels, of one sum: a sort brings nothing, and an order that loses nothing exists."""
    kinds = torch.arange(64) % 16
    noise = torch.rand(64, 16, generator=torch.Generator().manual_seed(0))
    scores = nn.functional.one_hot(kinds).float() + 0.001 * noise
    one = reader(scores, blocks=16)
    assert one.kept(torch.arange(64).reshape(-1, 4)) < 0.3
    order = best_order([one], 4, seed=0)
    assert sorted(order) == list(range(64))
    assert one.kept(torch.from_numpy(order).reshape(-1, 4)) > 0.97
    together = kinds[torch.from_numpy(order)].reshape(-1, 4)
    assert (together == together[:, :1]).all()


def test_what_an_exchange_is_said_to_bring_it_brings() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, groups = torch.rand(16, 6, generator=generator), torch.randperm(16, generator=generator).reshape(4, 4)
    out = torch.tensor([0, 3, 1, 2])
    one = reader(scores, keep=2)
    hurdles, leaving = one.hurdles(groups, out), groups[torch.arange(4), out]
    for a in range(4):
        for b in range(4):
            changed = groups.clone()
            changed[b, out[b]] = leaving[a]
            others = groups[b][torch.arange(4) != out[b]]
            brought = one.kept(changed[b : b + 1]) - float(one.scores[others].topk(2, dim=0).values.sum())
            assert float((one.scores[leaving[a]] - hurdles[b]).clamp(min=0).sum()) == pytest.approx(brought, abs=1e-6)
    two = reader(scores, blocks=5, rest=torch.tensor([0.2, 0.3]))
    totals = torch.cat([two.scores[groups].sum(1).flatten(), two.rest])
    level = totals.sort(descending=True).values[4]
    wanted = level - (two.scores[groups].sum(1) - two.scores[groups[torch.arange(4), out]])
    torch.testing.assert_close(two.hurdles(groups, out), wanted)
    assert two.kept(groups) == pytest.approx(float(totals.sort(descending=True).values[:5].sum()))
    assert two.kept(groups) > 0.5  # the two others are among those that stay


def test_pairs_are_disjoint_and_take_the_largest_gain_first() -> None:
    gains = np.array([[0.0, 3, 5, -1], [3, 0, 4, 2], [5, 4, 0, 1], [-1, 2, 1, 0]])
    assert disjoint_pairs(gains).tolist() == [[0, 2], [1, 3]]
    assert len(disjoint_pairs(np.full((4, 4), -1.0))) == 0
    assert len(disjoint_pairs(1 - np.eye(6))) == 3


def test_the_same_arguments_give_the_same_order() -> None:
    first, again = (found(model_of("basic"), pattern="block1x4") for _ in range(2))
    assert first[1] == again[1]
    assert first[0].keys() == again[0].keys()
    assert all(torch.equal(index, again[0][key]) for key, index in first[0].items())


def test_what_stays_in_order_says_why() -> None:
    _, rows, _ = found(model_of("encoder"))
    why = {row.name: row.why for row in rows}
    assert why["up"] == ""
    assert why["attention.query"] == "no layer to prune has them one by one in groups of 4"  # whole heads of four
    assert "the input 'x' keeps its size" in why.values()
    _, rows, _ = found(model_of("mlp"), target_size=1.0)
    assert {row.why for row in rows if row.kept_before} == {"no order was found that keeps more"}


def test_an_order_that_changes_the_function_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the tracing wrong, the trial would say so."""
    model = model_of("mlp")
    indices = Search._indices

    def wrong(self: Search, group: Any, units: Any) -> dict[str, torch.Tensor]:
        forgets_readers = indices(self, group, units).items()
        return {key: index for key, index in forgets_readers if key.startswith("0/")}

    rising = itertools.count()
    monkeypatch.setattr(Search, "_indices", wrong)
    monkeypatch.setattr(Search, "_kept", lambda *_: next(rising))
    order, rows, _ = found(model)
    assert order == {}
    assert all(row.why.startswith("a trial in another order failed: outputs differ by") for row in rows
               if row.kept_before is not None)  # fmt: skip
    assert any(row.kept_before is not None for row in rows)


def test_the_recipe_and_the_report_say_what_moved() -> None:
    small = taille.prune_model(interleaved(), 0.25, "structured", permute=True)
    step = small.metadata["recipe"][-1]
    assert step["permute"] is True
    (row,) = [row for row in small.report.orders if not row.why]
    assert step["permuted"] == [
        {"name": "0", "channels": 64, "kept_before": row.kept_before, "kept_after": row.kept_after}
    ]
    table = str(small.report).split("\n\n")[1]
    assert table.startswith("group")
    assert f"{100 * row.kept_before:.2f} % > {100 * row.kept_after:.2f} %" in table
    assert json.loads(small.report.to_json())["orders"][small.report.orders.index(row)]["kept_after"] == row.kept_after
    plain = taille.prune_model(interleaved(), 0.25, "structured", permute=False)
    assert plain.metadata["recipe"][-1]["permuted"] == []
    assert plain.report.orders == ()
    assert "\n\n" not in str(plain.report)


@pytest.mark.parametrize("recovery", ["reconstruction", "distillation"])
def test_the_dense_teacher_has_the_same_order(recovery: str) -> None:
    """Pulled to channels in another order, the network would lose what it knows."""
    model, x = interleaved(), torch.randn(128, 16)
    wanted = model.predict(x)
    small = taille.prune_model(model, 0.25, "structured", recovery=recovery, permute=True, steps=40)
    assert small.report.orders
    assert (small.predict(x) - wanted).square().sum() < 1e-3 * wanted.square().sum()


def test_training_from_an_earlier_result_goes_on_in_its_order() -> None:
    options = {"recovery": "distillation", "permute": True, "steps": 20}
    refit = taille.prune_model(interleaved(), 0.25, "structured", recovery="reconstruction", permute=True)
    assert refit.order
    whole = taille.prune_model(interleaved(), 0.25, "structured", **options)
    trained = taille.prune_model(interleaved(), 0.25, "structured", start=refit, **options)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(trained.module.state_dict()[name], value), name
    assert trained.metadata["recipe"] == whole.metadata["recipe"]
    assert {n: o.tolist() for n, o in trained.order.items()} == {n: o.tolist() for n, o in refit.order.items()}


def test_pruning_again_keeps_what_has_gone() -> None:
    first = taille.prune_model(interleaved(), 0.5, "magnitude")
    second = taille.prune_model(first, 0.25, "structured", permute=True)
    assert any(not row.why for row in second.report.orders)
    weight = second.module[2].weight
    assert (weight[~second.masks["2"]] == 0).all()
    assert 0.2 < float(second.masks["2"].float().mean()) <= 0.25
    assert torch.equal(first.masks["2"], first.module[2].weight != 0)  # those of the first are as they were


class Interrupt(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("recovery", ["reconstruction", "distillation", "schedule"])
def test_resuming_gives_the_same_result(recovery: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taille.pruning.train.SAVE_EVERY", 10)
    options: dict[str, Any] = {"permute": True, "recovery": recovery, "steps": 24, "pattern": "block1x4"}

    def run(stop: tuple[str, int] | None = None, **given: Any) -> Any:
        def progress(stage: str, done: int, _: int) -> None:
            seen.append(stage)
            if (stage, done) == stop:
                raise Interrupt

        model = interleaved()
        if recovery == "schedule":
            x = torch.randn(64, 16, generator=torch.Generator().manual_seed(1))
            model.train_data, model.loss_fn = [(part, part[:, :8]) for part in x.split(16)], nn.functional.mse_loss
        return taille.prune_model(model, 0.3, "structured", progress=progress, **options, **given)

    seen: list[str] = []
    whole, path = run(), tmp_path / "state.safetensors"
    stages = {"reconstruction": "reconstructing", "distillation": "training", "schedule": "training"}
    for stop in (("permuting channels", 1), (stages[recovery], 1), (stages[recovery], 13)):
        if stop[1] > 1 and recovery == "reconstruction":
            continue
        with pytest.raises(Interrupt):
            run(stop, checkpoint=path)
    assert path.exists()
    seen.clear()
    small = run(checkpoint=path)
    assert "permuting channels" not in seen  # it was read from the file
    assert any(not row.why for row in small.report.orders)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, small.module.state_dict()[name]), name
    assert all(torch.equal(mask, small.masks[name]) for name, mask in whole.masks.items())
    assert small.metadata == whole.metadata
    assert small.report == whole.report


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "magnitude"}, ValueError, "permute is True with pattern 'unstructured'"),
        ({"method": "sensitivity", "pattern": "unstructured"}, ValueError, "permute is True with pattern"),
        ({"pattern": "channel"}, ValueError, "permute is True with pattern 'channel'.*wanted blocks or N:M"),
        ({"permute": 1}, TypeError, "permute is 1; wanted True, False or None"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        taille.prune_model(interleaved(), **{"target_size": 0.25, "method": "structured", "permute": True, **options})


def test_what_cannot_be_traced_is_named() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(32, 64), nn.Linear(64, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x)) if x.sum() > 0 else self.b(-self.a(x))

    model = taille.TorchModel(Branch().eval(), (torch.randn(2, 32),))
    with pytest.raises(taille.CaptureError):
        taille.prune_model(model, 0.5, "structured", permute=True, include_first_last=True)
    model.calibration_data = torch.randn(64, 32).split(32)
    stays = taille.prune_model(model, 0.5, "structured", include_first_last=True)  # where it was not asked for
    assert stays.report.orders == ()
    assert stays.metadata["recipe"][-1]["permute"] is False
    assert stays.metadata["recipe"][-1]["reconstructed"] == 2


def test_channels_are_permuted_by_default_where_recovery_follows() -> None:
    def moves(**options: Any) -> bool:
        return taille.prune_model(interleaved(), 0.25, **options).metadata["recipe"][-1]["permute"]

    assert moves(method="structured")
    assert not moves(method="structured", recovery="none")
    assert not moves(method="magnitude")
