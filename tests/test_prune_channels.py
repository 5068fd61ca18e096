"""Channel pruning: what remains computes what the dense module does with zeros, and runs natively."""

from __future__ import annotations

import copy
import functools
import json
import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from channel_nets import NETS, Packed, SelfAttention, bert, model_of, with_masks
from support import missing
from taille import capture
from taille.pruning.channels import ChannelPrunedModel, prune_channels

Pair = tuple[taille.TorchModel, ChannelPrunedModel]


@pytest.fixture(scope="module", params=[*NETS, "bert"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A model, and the same with about half of its prunable weights."""
    if request.param == "bert":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            model = bert()
        except ImportError:
            missing("transformers is not installed")
    else:
        model = model_of(request.param)
    small = prune_channels(model, 0.5)
    assert small.input_spec == model.input_spec
    return model, small


def outputs(module: nn.Module, model: taille.TorchModel) -> list[np.ndarray[Any, Any]]:
    with torch.no_grad():
        result = module(**model.examples) if model.by_keyword else module(*model.examples.values())
    values = [result] if isinstance(result, torch.Tensor) else list(result.values())
    return [v.numpy() for v in values]


def test_computes_the_dense_function_with_zeros(pair: Pair) -> None:
    model, small = pair
    assert small.parameter_count < model.parameter_count
    for found, wanted in zip(outputs(small.module, small), outputs(with_masks(model.module, small.module), model),
                             strict=True):  # fmt: skip
        assert np.abs(found).max() > 0.01
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_reaches_the_share_and_says_so(pair: Pair) -> None:
    model, small = pair
    assert 0.42 < small.report.share < 0.58
    step = small.metadata["recipe"][-1]
    assert (step["step"], step["method"], step["target_size"]) == ("prune", "channels", 0.5)
    assert step["achieved"] == small.report.share == small.report.weights_after / small.report.weights_before
    assert step["groups"] == {r.name: [r.before, r.after] for r in small.report if r.after < r.before}
    assert step["refused"] == {r.name: r.why for r in small.report.refused}
    assert [r["name"] for r in json.loads(small.report.to_json())["rows"]] == [r.name for r in small.report]
    assert model.metadata["recipe"] == []


def test_layers_state_their_sizes(pair: Pair) -> None:
    for layer in pair[1].module.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.shape == (layer.out_features, layer.in_features)
        if isinstance(layer, nn.Conv2d):
            assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.shape == layer.running_var.shape == (layer.num_features,)
        if isinstance(layer, nn.LayerNorm):
            assert layer.weight.shape == layer.normalized_shape


def test_heads_are_counted(pair: Pair) -> None:
    for layer in pair[1].module.modules():
        if isinstance(layer, SelfAttention):
            assert layer.query.out_features == layer.num_heads * layer.head_dim < layer.width
        if isinstance(layer, Packed):
            assert layer.qkv.out_features == 3 * layer.heads * 4 == 3 * layer.out.in_features < 3 * layer.width
        if hasattr(layer, "all_head_size"):
            assert layer.all_head_size == layer.query.out_features == layer.num_attention_heads * 8 < 32


def test_runs_natively(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    small = pair[1]
    monkeypatch.setattr(capture, "capture", functools.lru_cache(None)(capture.capture))  # once for both
    inputs = small.examples if small.by_keyword else next(iter(small.examples.values()))
    wanted = outputs(small.module, small)
    for model, least in ((taille.compile_model(small, threads=1), 0.999999), (taille.quantize_model(small), 0.97)):
        result = model.predict(inputs)
        values = [result] if isinstance(result, torch.Tensor) else list(result.values())
        for found, exact in zip(values, wanted, strict=True):
            a, b = found.numpy().ravel(), exact.ravel()
            assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > least


def test_trains() -> None:
    small = prune_channels(model_of("basic"), 0.5)
    module = small.module.train()
    module(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())


def test_the_model_given_stays_and_the_result_is_the_same_again() -> None:
    model = model_of("flatten")
    before = copy.deepcopy(model.module.state_dict())
    first, second = (prune_channels(model, 0.3).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(before[k], v) for k, v in model.module.state_dict().items())
