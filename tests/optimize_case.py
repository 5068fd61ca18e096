"""A small network with its data, for searches that take seconds."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import nn

import taille

RNG = np.random.default_rng(0)
CENTRES = RNG.standard_normal((8, 32)).astype(np.float32)


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.integers(0, 8, count)
    return (CENTRES[labels] + 0.9 * RNG.standard_normal((count, 32))).astype(np.float32), labels


TRAIN, TRAIN_LABELS = samples(512)
HELD_OUT, LABELS = samples(256)


@cache
def trained() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(32, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8))
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        x, y = torch.from_numpy(TRAIN), torch.from_numpy(TRAIN_LABELS)
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()
    return net.eval()


def case(judged: Callable[[], object] = lambda: None) -> taille.TorchModel:
    """The trained network; `judged` is called whenever its quality, or that of what is made of it, is measured."""

    def accuracy(model: taille.BaseMLModel) -> float:
        judged()
        return float((np.asarray(model.predict(HELD_OUT)).argmax(1) == LABELS).mean())

    x = torch.from_numpy(TRAIN)
    return taille.TorchModel(trained(), (x[:2],), calibration_data=x.split(64), eval_fn=accuracy, name="case")
