"""Teachers for the tests of distillation: networks of equal blocks, one that knows digits."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

import taille


class Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.dropout(self.outer(torch.relu(self.inner(x))))


class Blocks(nn.Module):
    def __init__(self, inputs: int = 64, width: int = 96, blocks: int = 4, outputs: int = 10, dropout: float = 0.0):
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(Block(width, dropout) for _ in range(blocks))
        self.head = nn.Linear(width, outputs)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = self.stem(pixels)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def one_thread() -> Iterator[None]:
    """Networks as small as these are trained by one thread: several would wait for one another on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(width: int = 64, seed: int = 0, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))


@functools.cache
def digits() -> tuple[torch.Tensor, ...]:
    """Training images and labels, test images and labels; images as rows of 64 pixels."""
    from taille.cli.digits import load_digits

    data = load_digits()
    return data.train_x.flatten(1), data.train_y, data.test_x.flatten(1), data.test_y


def trained_teacher() -> nn.Module:
    x, y, *_ = digits()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3)
    for _ in range(10):
        for picked in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(net(x[picked]), y[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def random_teacher(**data: Any) -> taille.TorchModel:
    """A small teacher that nothing has taught, with random data."""
    torch.manual_seed(1)
    net = Blocks(width=48).eval()
    x = torch.randn(96, 64)
    labels = net(x).argmax(1)
    given = {"train_data": list(zip(x.split(16), labels.split(16), strict=True)), "loss_fn": nn.CrossEntropyLoss()}
    return taille.TorchModel(net, (x[:2],), **{**given, "name": "teacher", **data})


def accuracy(model: taille.BaseMLModel) -> float:
    _, _, x, y = digits()
    return float((model.predict(x).argmax(1) == y).float().mean())
