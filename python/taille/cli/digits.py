"""The demo's data and network: scikit-learn's bundled digits, and a small residual convolutional network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

__all__ = ["Digits", "DigitsNet", "load_digits", "train"]

TEST_SHARE = 0.25


@dataclass(frozen=True)
class Digits:
    """1797 handwritten digits of 8 x 8 pixels, split once with a fixed seed.

    Attributes:
        train_x, test_x: float32 [n, 1, 8, 8], from 0 to 1.   train_y, test_y: int64 [n].
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor

    def batches(self, size: int = 64) -> CalibrationBatches:
        """The training images in batches, which can be iterated again and again."""
        return CalibrationBatches(self.train_x, size)


class CalibrationBatches:
    """Batches of images, iterated anew each time."""

    def __init__(self, images: torch.Tensor, size: int):
        self._images, self._size = images, size

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self._images.split(self._size))


def load_digits(seed: int = 0) -> Digits:
    """Read the images that come with scikit-learn and hold a quarter of them out."""
    from sklearn.datasets import load_digits as read

    images, labels = read(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    x = torch.from_numpy((images[order] / 16.0).astype(np.float32).reshape(-1, 1, 8, 8))
    y = torch.from_numpy(labels[order].astype(np.int64))
    held_out = int(len(y) * TEST_SHARE)
    return Digits(x[held_out:], y[held_out:], x[:held_out], y[:held_out])


class Block(nn.Module):
    """conv-bn-relu-conv-bn, add, relu."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[n, c, h, w] to the same shape."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + x)


class DigitsNet(nn.Module):
    """Three convolutions of 32, 64 and 128 channels, a residual block, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.widen = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.down = nn.Sequential(nn.Conv2d(64, 128, 3, 2, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU())
        self.block = Block(128)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classify = nn.Linear(128, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[n, 1, 8, 8] to scores [n, 10]."""
        features = self.pool(self.block(self.down(self.widen(self.stem(images)))))
        scores: torch.Tensor = self.classify(features.flatten(1))
        return scores


def train(data: Digits, epochs: int, progress: Callable[[], None], seed: int = 0) -> DigitsNet:
    """Train a network with AdamW, a one-cycle rate and shifts by a pixel; the same seed gives the same network.

    Args:
        data: the digits; only the training part is read.
        epochs: passes over it.
        progress: called after each epoch.
        seed: of the weights, the order and the shifts.
    """
    torch.manual_seed(seed)
    net, size = DigitsNet(), 64
    steps = -(-len(data.train_y) // size)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        for picked in torch.randperm(len(data.train_y)).split(size):
            dx, dy = torch.randint(-1, 2, (2,)).tolist()
            images = torch.roll(data.train_x[picked], (dy, dx), (2, 3))
            loss = nn.functional.cross_entropy(net(images), data.train_y[picked], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress()
    net.eval()
    return net
