"""What the options of channel pruning do: the share that remains, scores, rounding, ignored layers, errors."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import taille
from channel_nets import model_of, rows, with_masks
from taille.pruning import channels
from taille.pruning.channels import prune_channels


@pytest.fixture(scope="module", autouse=True)
def traced_once() -> Iterator[None]:
    """Tracing takes most of the time, and several tests prune the same model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(channels, "export", functools.lru_cache(None)(channels.export))
        yield


def test_the_least_channels_go() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([5.0, 1.0, 4.0, 0.1, 3.0, 2.0])[:, None].expand(6, 4))
        net[2].weight.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0, 0.0, 0.0]).expand(2, 6))
    small: Any = prune_channels(taille.TorchModel(net, (torch.randn(3, 4),)), 0.5)
    # Rows and columns count: channel 1 is small in the first layer, and large in the second.
    assert small.module[0].weight[:, 0].tolist() == [5.0, 1.0, 4.0]


def test_equal_scores_keep_the_lower_channels() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
        net[0].bias.copy_(torch.arange(6.0))
    small: Any = prune_channels(taille.TorchModel(net, (torch.randn(3, 4),)), 0.5)
    assert small.module[0].bias.tolist() == [0.0, 1.0, 2.0]


def test_groups_compete_by_their_own_mean() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
                        nn.Linear(16, 3))  # fmt: skip
    with torch.no_grad():
        net[0].weight.mul_(1e-3)
        net[2].weight.mul_(1e-3)
    small: Any = prune_channels(taille.TorchModel(net, (torch.randn(3, 8),)), 0.5)
    assert small.module[0].out_features > 6  # not all of them, though the layer's weights are a thousand times smaller


@pytest.mark.parametrize("target", [0.9, 0.6, 0.3, 0.1])
def test_reaches_the_share(target: float) -> None:
    small = prune_channels(model_of("chain"), target)
    assert abs(small.report.share - target) < 0.05
    weights = [p for p in small.module.parameters() if p.dim() > 1]
    assert small.report.weights_after == sum(w.numel() for w in weights)


def test_a_share_of_one_removes_nothing() -> None:
    model = model_of("chain")
    small = prune_channels(model, 1.0)
    assert small.report.share == 1.0
    x = model.examples["x"]
    assert torch.equal(small.module(x), model.module(x))


def test_one_channel_of_each_group_remains() -> None:
    small: Any = prune_channels(model_of("mlp"), 1e-6)
    assert small.module[0].out_features == small.module[2].out_features == 1
    assert small.report.share > 1e-6


@pytest.mark.parametrize("multiple", [4, 8])
def test_rounding(multiple: int) -> None:
    small = prune_channels(model_of("basic"), 0.5, round_to=multiple)
    after = [r.after for r in small.report if r.after != r.before]
    assert after
    assert all(a % multiple == 0 for a in after)
    heads = prune_channels(model_of("encoder"), 0.5, round_to=multiple)
    assert all(r.after % multiple == 0 for r in heads.report if r.after != r.before)


def test_too_narrow_for_rounding_is_said() -> None:
    small = prune_channels(model_of("densenet"), 0.5, round_to=4)
    assert rows(small)["blocks.0.convs.0"][2] == "its 4 channels are the least that may remain (round_to is 4)"


@pytest.mark.parametrize("entry", ["body.2.0", "body.2.*", r"re:body\.2\.\d", nn.Linear])
def test_ignored_layers_keep_their_shapes(entry: Any) -> None:
    small: Any = prune_channels(model_of("chain"), 0.7, ignore=[entry])
    if entry is nn.Linear:
        assert small.module.head.in_features == 12
        assert rows(small)["body.4.0"] == (12, 12, "head is ignored (torch.nn.modules.linear.Linear)")
    else:
        assert small.module.body[2][0].weight.shape == (16, 12, 3, 3)
        assert rows(small)["body.0.0"][2].startswith("body.2.0 is ignored")
    assert small.report.share < 0.8


def test_progress_and_data_are_passed_on() -> None:
    def score(_: Any) -> float:
        return 1.0

    seen: list[tuple[str, int, int]] = []
    data = [torch.randn(4, 20)]
    model = taille.TorchModel(model_of("mlp").module, (data[0],), calibration_data=data, train_data=data,
                              test_data=data, eval_fn=score, name="perceptron")  # fmt: skip
    small = prune_channels(model, 0.5, progress=lambda *step: seen.append(step))
    assert seen[0] == ("pruning channels", 0, 4)
    assert seen[-1] == ("pruning channels", 4, 4)
    assert small.calibration_data is small.train_data is small.test_data is data
    assert small.eval_fn is score
    assert small.name == small.metadata["name"] == "perceptron"
    native = taille.compile_model(small)
    assert native.metadata["recipe"][0]["method"] == "channels"


def test_bad_options() -> None:
    model = copy.deepcopy(model_of("mlp"))
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "target_size is 0; wanted a share", {"target_size": 0}),
        (ValueError, "target_size is 1.5", {"target_size": 1.5}),
        (ValueError, "target_size is nan", {"target_size": float("nan")}),
        (TypeError, "target_size is '0.5'", {"target_size": "0.5"}),
        (TypeError, "target_size is True", {"target_size": True}),
        (ValueError, "score is 'wanda'; wanted one of magnitude", {"score": "wanda"}),
        (ValueError, "round_to is 0", {"round_to": 0}),
        (TypeError, "round_to is 1.5", {"round_to": 1.5}),
        (ValueError, "ignore: 'conv9' matches no layer; the layers are 0, 2, 4", {"ignore": ["conv9"]}),
        (TypeError, "ignore holds 3", {"ignore": [3]}),
    ]
    for kind, message, options in wrong:
        with pytest.raises(kind, match=message):
            prune_channels(model, **{"target_size": 0.5, **options})
    with pytest.raises(TypeError, match="TorchModel"):
        prune_channels(model.module, 0.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a TorchModel, not CompiledModel"):
        prune_channels(taille.compile_model(model), 0.5)
    with torch.no_grad():
        model.module[2].weight[1, 2] = float("nan")  # type: ignore[index]
    with pytest.raises(ValueError, match=r"'2.weight' holds nan at \[1, 2\]"):
        prune_channels(model, 0.5)


def test_masks_tell_a_wrong_cut() -> None:
    """The comparison of the other file would see it if other channels were removed than are masked."""
    small: Any = prune_channels(model_of("mlp"), 0.5)
    x = torch.randn(4, 20)
    wanted = small.module(x).detach()
    small.module[4].weight.data = small.module[4].weight.data.roll(1, 1)
    masked = with_masks(model_of("mlp").module, small.module)
    torch.testing.assert_close(masked(x).detach(), wanted)
    assert (small.module(x) - wanted).abs().max() > 1e-3
