"""What `ignore` names: nodes by name, op, shell pattern, regular expression, or class of module."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

import taille


class Twice(nn.Module):
    """A layer that is called twice, and a product that comes from no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(3, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(self.fc(torch.tanh(self.fc(x))), self.weight)


def images() -> taille.TorchModel:
    torch.manual_seed(0)
    net = nn.Sequential()
    net.add_module("stem", nn.Conv2d(3, 8, 3))
    net.add_module("body", nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1)))
    net.add_module("flat", nn.Flatten())
    net.add_module("fc", nn.Linear(8 * 4 * 4, 5))
    x = torch.randn(8, 3, 8, 8)
    return taille.TorchModel(net.eval(), (x,), calibration_data=[x])


@pytest.mark.parametrize(
    ("ignore", "left"),
    [
        (["fc"], ["fc"]),
        (["body.0", "stem"], ["body.0", "stem"]),
        (["body.*"], ["body.0", "body.2"]),
        (["conv2d"], ["body.0", "body.2", "stem"]),
        (["linear"], ["fc"]),
        (["re:body.[01]"], ["body.0"]),
        (["re:(fc|stem)"], ["fc", "stem"]),
        ([re.compile(r".*[2m]")], ["body.2", "stem"]),
        ([nn.Linear], ["fc"]),
        ([nn.Conv2d, "fc"], ["body.0", "body.2", "fc", "stem"]),
        ([nn.Sequential], ["body.0", "body.2", "fc", "stem"]),  # the root is one
    ],
)
def test_what_is_named_stays_float32(ignore: list[Any], left: list[str]) -> None:
    small = taille.quantize_model(images(), ignore=ignore)
    assert sorted(r.name for r in small.report if r.why == "ignored by request") == left
    assert {r.name for r in small.report if r.precision == "int8"} == {"stem", "body.0", "body.2", "fc"} - set(left)


@pytest.mark.parametrize(
    ("ignore", "error", "message"),
    [
        (["head"], ValueError, "no node is called 'head'; the nodes are .*stem, body.0, "),
        (["head.*"], ValueError, r"no node is called 'head\.\*'"),
        (["re:head"], ValueError, "no node matches 're:head'"),
        (["re:tem"], ValueError, "no node matches 're:tem'"),  # the whole name
        (["re:("], ValueError, r"'re:\(' is no regular expression"),
        ([re.compile("x+")], ValueError, r"no node matches 're:x\+'"),
        ([nn.LayerNorm], ValueError, "no node comes from a LayerNorm"),
        ([nn.ReLU], ValueError, "no node comes from a ReLU"),  # it went into the convolution
        ([3], TypeError, "ignore holds 3; wanted a name"),
        ([int], TypeError, "ignore holds <class 'int'>"),
        ("stem", TypeError, "ignore is the text 'stem'; wanted a sequence"),
    ],
)
def test_what_matches_nothing_is_an_error(ignore: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        taille.quantize_model(images(), ignore=ignore)


def test_a_module_called_twice_is_ignored_twice() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 8)
    model = taille.TorchModel(Twice().eval(), (x,), calibration_data=[x])
    small = taille.quantize_model(model, ignore=[nn.Linear])
    assert {r.name: r.precision for r in small.report if r.op == "linear"} == {
        "fc": "float32", "fc_1": "float32", "linear": "int8"
    }  # fmt: skip
    assert small.metadata["recipe"][0]["ignore"] == ["torch.nn.modules.linear.Linear"]
