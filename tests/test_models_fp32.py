"""Whole models in float32 against torch, each from one artefact: relative error at most 1e-4 of the output's scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from support import missing
from zoo import cifar, minilm, mlp, relative_error, resnet20, tokens

BOUND = 1e-4


def saved(model: taille.TorchModel, folder: Path) -> taille.CompiledModel:
    """The model by way of a file."""
    path = folder / "model.safetensors"
    model.save(path)
    return taille.load(path)


def test_mlp(tmp_path: Path) -> None:
    model = taille.TorchModel(mlp(), (torch.randn(1, 20),))
    native = saved(model, tmp_path)
    for batch in (1, 2, 7, 64):
        x = torch.randn(batch, 20)
        assert relative_error(native.predict(x), model.predict(x)) <= BOUND


def test_resnet20_with_its_weights(tmp_path: Path) -> None:
    net = resnet20()
    images, labels = cifar("test", 0, 200)
    model = taille.TorchModel(net, (images[:2],), name="resnet20")
    native = saved(model, tmp_path)
    for batch in (1, 5, 200):
        given, wanted = native.predict(images[:batch]), model.predict(images[:batch])
        assert relative_error(given, wanted) <= BOUND
    assert (given.argmax(1).numpy() == labels).mean() > 0.7
    names = {n["name"] for n in native.nodes()}
    assert {"conv1", "layer2.0.conv1", "linear"} <= names


def resnet18() -> nn.Module:
    try:
        from transformers import ResNetConfig, ResNetModel
    except ImportError:
        missing("transformers is not installed")
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic")
    net = ResNetModel(config)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def test_resnet18_of_transformers(tmp_path: Path) -> None:
    model = taille.TorchModel(resnet18(), {"pixel_values": torch.randn(1, 3, 64, 64)})
    native = saved(model, tmp_path)
    for batch in (1, 3):
        x = {"pixel_values": torch.randn(batch, 3, 64, 64)}
        given, wanted = native.predict(x), model.predict(x)
        assert list(given) == list(wanted) == ["last_hidden_state", "pooler_output"]
        for name in wanted:
            assert relative_error(given[name], wanted[name]) <= BOUND


@pytest.fixture(scope="module")
def bert() -> tuple[Any, Any]:
    return minilm()


def test_minilm_with_its_weights(bert: tuple[Any, Any], tmp_path: Path) -> None:
    net, tokenizer = bert
    axes = {0: "batch", 1: "sequence"}
    example = tokens(tokenizer, ["one sentence", "another, somewhat longer sentence"])
    model = taille.TorchModel(net, example, dynamic_shapes=dict.fromkeys(example, axes), name="MiniLM-L6")
    native = saved(model, tmp_path)
    assert native.input_spec[0].shape == ("batch", "sequence")
    for sentences in (
        ["A man is playing a guitar on the stage.", "Hello."],
        ["The quick brown fox jumps over the lazy dog, and then it goes home to sleep for the night. " * 3],
        ["One.", "Two words here.", "And a third one, which is a good deal longer than the others."],
    ):
        inputs = tokens(tokenizer, sentences)
        given, wanted = native.predict(inputs), model.predict(inputs)
        for name in ("last_hidden_state", "pooler_output"):
            assert relative_error(given[name], wanted[name]) <= BOUND
    with pytest.raises(ValueError, match="'sequence' is at most 512"):
        native.predict({n: np.ones((1, 513), np.int64) for n in ("input_ids", "attention_mask")})
    with pytest.raises(ValueError, match="30522"):
        native.predict({n: np.full((1, 4), 30522, np.int64) for n in ("input_ids", "attention_mask")})


def test_the_whole_sentence_embedding(bert: tuple[Any, Any]) -> None:
    """Mean over the tokens that are there, then normalised, as the model is meant to be used."""

    class Embed(nn.Module):
        def __init__(self, net: nn.Module):
            super().__init__()
            self.net = net

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.net(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).expand(hidden.size()).float()
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return nn.functional.normalize(pooled, p=2, dim=1)

    net, tokenizer = bert
    example = tokens(tokenizer, ["one sentence", "another, somewhat longer sentence"])
    axes = {0: "batch", 1: "sequence"}
    model = taille.TorchModel(Embed(net), example, dynamic_shapes=dict.fromkeys(example, axes))
    native = taille.compile_model(model)
    inputs = tokens(tokenizer, ["A man is playing.", "Nothing of the kind happens in this much longer sentence."])
    assert relative_error(native.predict(inputs), model.predict(inputs)) <= BOUND
