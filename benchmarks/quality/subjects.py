"""The networks: each with its trained dense form, its data, its recovery, and how its quality is measured."""

from __future__ import annotations

import pydoc
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import taille
from taille.cli.digits import load_digits
from taille.cli.digits import train as train_digits
from zoo import cifar, embeddings, fine_tuned, in_batches, minilm, sentence_pairs, tokens

NOISE = 0.3  # standard deviations of the normalised pixels


class Subject(ABC):
    """One network.

    Attributes:
        name: of the network.   dense: it, with its data.   sample: one input, whose time is measured.
    """

    name: str
    dense: taille.TorchModel
    sample: Any

    @abstractmethod
    def quality(self, model: taille.BaseMLModel) -> float:
        """On data that neither training nor calibration saw."""

    @abstractmethod
    def elsewhere(self, model: taille.BaseMLModel) -> float:
        """On data of another kind."""

    @abstractmethod
    def steps(self, longer: bool) -> int:
        """Of training, for every pattern."""

    @abstractmethod
    def recovery(self, longer: bool) -> dict[str, Any]:
        """The keywords of `prune_model` for it."""

    @abstractmethod
    def channels(self, share: float) -> taille.TorchModel:
        """The network without channels, trained for as many steps."""


def accuracy(model: taille.BaseMLModel, images: torch.Tensor, labels: Any) -> float:
    found = [np.asarray(model.predict(part.numpy())).argmax(1) for part in images.split(500)]
    return float((np.concatenate(found) == np.asarray(labels)).mean())


def noisy(images: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    return images + NOISE * images.std() * noise


class Shuffled:
    """Batches in another order at every pass, from torch's random numbers; `change` alters the images."""

    def __init__(self, tensors: tuple[torch.Tensor, ...], size: int, change: Callable[[Any], Any] = lambda x: x):
        self.tensors, self.size, self.change = tensors, size, change

    def __len__(self) -> int:
        return len(self.tensors[0]) // self.size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        order = torch.randperm(len(self.tensors[0]))
        for i in range(len(self)):
            picked = order[i * self.size : (i + 1) * self.size]
            first, *rest = (t[picked] for t in self.tensors)
            yield (self.change(first), *rest)


def shifted(images: torch.Tensor, most: int = 4) -> torch.Tensor:
    """Moved by up to `most` pixels, half of them mirrored; channels last, in which torch trains 1.5 times as fast."""
    padded = nn.functional.pad(images, (most,) * 4, mode="reflect")
    y, x = torch.randint(0, 2 * most + 1, (2, len(images))).tolist()
    size = images.shape[-1]
    moved = torch.stack([p[:, a : a + size, b : b + size] for p, a, b in zip(padded, y, x, strict=True)])
    mirrored = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, moved.flip(3), moved)
    return mirrored.contiguous(memory_format=torch.channels_last)


def fit(model: taille.TorchModel, dense: nn.Module, steps: int, rate: float = 7e-4) -> taille.TorchModel:
    """Train a smaller module: distillation of the outputs, with the labels where there are some."""
    data, module = model.train_data, model.module
    assert data is not None
    optimizer, labelled = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=0.0), model.loss_fn is not None
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train(labelled)
    torch.manual_seed(0)
    done = 0
    while done < steps:
        for batch in data:
            inputs, targets = (batch, ()) if isinstance(batch, dict) else ({"": batch[0]}, batch[1:])
            call = (lambda m, i=inputs: m(**i)) if isinstance(batch, dict) else (lambda m, i=inputs: m(i[""]))
            with torch.no_grad():
                wanted = pooled(call(dense), inputs)
            outputs = call(module)
            given = pooled(outputs, inputs)
            loss = (given - wanted).square().mean() / wanted.square().mean()
            if model.loss_fn is not None:
                loss = loss + model.loss_fn(outputs, *targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            if done == steps:
                break
    module.eval()
    return model


def pooled(outputs: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scores as they are; of a sequence the mean over its tokens."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    mask = inputs["attention_mask"][..., None].float()
    return (outputs["last_hidden_state"] * mask).sum(1) / mask.sum(1)


class Images(Subject):
    """Classifiers of images, with labels to train on."""

    short_steps = 200
    long_steps = 1500
    test: tuple[torch.Tensor, Any]

    def quality(self, model: taille.BaseMLModel) -> float:
        return accuracy(model, *self.test)

    def elsewhere(self, model: taille.BaseMLModel) -> float:
        return accuracy(model, noisy(self.test[0]), self.test[1])

    def steps(self, longer: bool) -> int:
        return self.long_steps if longer else self.short_steps

    def recovery(self, longer: bool) -> dict[str, Any]:
        return {"recovery": "schedule", "schedule": "oneshot", "steps": self.steps(longer), "lr": 2e-3}

    def channels(self, share: float) -> taille.TorchModel:
        smaller = taille.prune_model(self.dense, share, "structured", pattern="channel")
        return fit(smaller, self.dense.module, self.steps(False), 2e-3)


def classifier(net: nn.Module, data: tuple[torch.Tensor, torch.Tensor], name: str, **change: Any) -> taille.TorchModel:
    images = data[0]
    return taille.TorchModel(
        net, (images[:2],), calibration_data=images[:1024].split(64), train_data=Shuffled(data, 64, **change),
        loss_fn=nn.functional.cross_entropy, name=name,
    )  # fmt: skip


class Digits(Images):
    name = "digits"
    short_steps = 120

    def __init__(self, work: Path):
        data = load_digits()
        net = trained(work / "digits.pt", lambda: train_digits(data, 30, lambda: None))
        self.dense = classifier(net, (data.train_x, data.train_y), self.name)
        self.test = data.test_x, data.test_y.numpy()
        self.sample = data.test_x[:1].numpy()


class ResNet20(Images):
    name = "resnet20"
    long_steps = 3500  # nearly the 40 minutes that its floor allows

    def __init__(self, work: Path):
        images, labels = cifar("train", 0, 50000)
        targets = torch.from_numpy(labels.astype(np.int64))
        net = trained(work / "resnet20.pt", lambda: fine_tuned(images, targets))
        self.dense = classifier(net, (images, targets), self.name, change=shifted)
        self.test = cifar("test", 0, 10000)
        self.sample = images[:1].numpy()


def trained(path: Path, train: Callable[[], nn.Module]) -> nn.Module:
    """The dense network, trained at the first call."""
    if not path.exists():
        torch.save(train(), path)
    net: nn.Module = torch.load(path, weights_only=False)  # our own file
    return net.eval()


class MiniLM(Subject):
    name = "minilm"

    def __init__(self, _work: Path):
        net, self.tokenizer = minilm()
        first, second, _ = sentence_pairs("sick_train.tsv", 5000)
        sentences = sorted(set(first + second))
        order = np.random.default_rng(0).permutation(len(sentences))
        batches = [tokens(self.tokenizer, part) for part in in_batches([sentences[i] for i in order], 16)]
        self.dense = taille.TorchModel(
            net, batches[0], dynamic_shapes={name: {0: "batch", 1: "sequence"} for name in batches[0]},
            calibration_data=batches, train_data=batches, name=self.name,
        )  # fmt: skip
        self.pairs = sentence_pairs("sick_trial.tsv", 500)
        self.documentation = documentation(256)
        self.exact = embeddings(taille.compile_model(self.dense), self.tokenizer, self.documentation)
        words = np.random.default_rng(1).integers(1000, 20000, (1, 128))
        self.sample = {"input_ids": words, "attention_mask": np.ones_like(words)}

    def quality(self, model: taille.BaseMLModel) -> float:
        from scipy.stats import spearmanr

        first, second, scores = self.pairs
        found = embeddings(model, self.tokenizer, first + second)
        return float(spearmanr([found[a] @ found[b] for a, b in zip(first, second, strict=True)], scores).statistic)

    def elsewhere(self, model: taille.BaseMLModel) -> float:
        found = embeddings(model, self.tokenizer, self.documentation)
        return float(np.mean([found[s] @ self.exact[s] for s in self.documentation]))

    def steps(self, longer: bool) -> int:
        return 1600 if longer else 120

    def recovery(self, longer: bool) -> dict[str, Any]:
        samples = 512 if longer else 256
        return {"recovery": "distillation", "steps": self.steps(longer), "calibration_samples": samples}

    def channels(self, share: float) -> taille.TorchModel:
        smaller = taille.prune_model(self.dense, share, "structured", pattern="channel", ignore=[nn.LayerNorm])
        return fit(smaller, self.dense.module, self.steps(False))


def documentation(count: int) -> list[str]:
    """Sentences from the documentation of Python's standard library, which nothing here was tuned on."""
    import argparse
    import asyncio
    import collections
    import datetime
    import logging
    import pathlib
    import socket
    import sqlite3
    import threading
    import zipfile

    modules = (argparse, asyncio, collections, datetime, logging, pathlib, socket, sqlite3, threading, zipfile)
    text = " ".join(pydoc.plain(pydoc.render_doc(module)).replace("|", " ") for module in modules)
    sentences = re.findall(r"[A-Z][a-z][^.|_=<>{}\[\]]{25,160}\.(?=\s)", re.sub(r"\s+", " ", text))
    return list(dict.fromkeys(sentences))[:count]


SUBJECTS: dict[str, Callable[[Path], Subject]] = {"digits": Digits, "minilm": MiniLM, "resnet20": ResNet20}
