"""Layers that take a batch one sample at a time: the results of whole batches, in less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import taille
from taille import _native

SIZE = 48


class Residual(nn.Module):
    """A value read twice, a pool, and a head whose weights are too many for a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.a = nn.Conv2d(32, 32, 3, padding=1)
        self.b = nn.Conv2d(32, 32, 1)
        self.pool = nn.MaxPool2d(2)
        self.c = nn.Conv2d(32, 16, 1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.b(torch.relu(self.a(x))) + x)
        return self.head(torch.relu(self.c(self.pool(x))).mean((2, 3)))


class Concat(nn.Module):
    """What only the concat reads is written in its place; one of its parts is also an output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.a = nn.Conv2d(32, 24, 1)
        self.b = nn.Conv2d(32, 16, 3, padding=1)
        self.last = nn.Conv2d(40, 8, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.relu(self.stem(x))
        a = torch.relu(self.a(x))
        return self.last(torch.cat([a, torch.relu(self.b(x))], 1)), a


def graph_of(net: nn.Module, precision: str) -> _native.Graph:
    torch.manual_seed(0)
    data = [torch.randn(4, 3, SIZE, SIZE)]
    model = taille.TorchModel(net.eval(), (data[0],), calibration_data=data)
    return taille.quantize_model(model, "int8").graph if precision == "int8" else _native.optimize(model.capture())[0]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("net", [Residual, Concat])
def test_batches_are_their_samples(net, precision) -> None:
    graph = graph_of(net(), precision)
    x = np.random.default_rng(0).standard_normal((13, 3, SIZE, SIZE)).astype(np.float32)
    for isa in _native.supported_isas():
        for threads in (1, 2):
            model = _native.Model(graph, threads, isa)
            alone = [model.run({graph.inputs[0][0]: x[i : i + 1]}) for i in range(len(x))]
            for out, *parts in zip(model.run({graph.inputs[0][0]: x}), *alone, strict=True):
                np.testing.assert_array_equal(out, np.concatenate(parts), err_msg=f"{isa}, {threads} threads")


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_memory_does_not_grow_with_the_batch(precision) -> None:
    graph = graph_of(Residual(), precision)
    name = graph.inputs[0][0]

    def arena(batch: int) -> int:
        return _native.Model(graph, 1).plan({name: np.zeros((batch, 3, SIZE, SIZE), np.float32)})

    one = SIZE * SIZE * 32 * (1 if precision == "int8" else 4)  # bytes of a layer's output, of one sample
    assert arena(64) - arena(32) < 32 * one  # without loops 32 of two such layers and more
