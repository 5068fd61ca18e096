"""Public configurations with seeded random weights: float32 against torch, int8 against float32, equal bits.

One artefact each, two batch sizes; the language models at two lengths.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from support import missing
from taille import _native
from zoo import relative_error

IMAGE, TEXT = "image", "text"
PIXELS = 128  # a side: no layer is left out, and it takes a third of the time of 224


class First(nn.Module):
    """The first output, by name."""

    def __init__(self, net: nn.Module, name: str):
        super().__init__()
        self.net = net
        self.name = name

    def forward(self, **inputs: torch.Tensor) -> torch.Tensor:
        return getattr(self.net(**inputs), self.name)


class Image(First):
    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return super().forward(pixel_values=pixel_values)


class Text(First):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids=input_ids, attention_mask=attention_mask)


def settled(net: nn.Module) -> nn.Module:
    """Batch norms with statistics as after training: random networks would fade or explode otherwise."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    net.train()
    with torch.no_grad():
        net(pixel_values=torch.randn(4, 3, PIXELS, PIXELS))
    return net.eval()


def build(name: str) -> tuple[nn.Module, str]:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers as t
    except ImportError:
        missing("transformers is not installed")
    torch.manual_seed(0)
    if name == "resnet50":
        return Image(settled(t.ResNetForImageClassification(t.ResNetConfig(num_labels=100))), "logits"), IMAGE
    if name == "mobilenetv2":
        config = t.MobileNetV2Config(num_labels=100)
        return Image(settled(t.MobileNetV2ForImageClassification(config)), "logits"), IMAGE
    if name == "vit-small":
        config = t.ViTConfig(
            hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_hidden_layers=3, image_size=PIXELS
        )  # of 12
        return Image(t.ViTModel(config, add_pooling_layer=False), "last_hidden_state"), IMAGE
    if name == "bert-base":
        config = t.BertConfig(num_hidden_layers=2)  # of 12, all alike
        return Text(t.BertModel(config, add_pooling_layer=False), "last_hidden_state"), TEXT
    if name == "distilbert":
        return Text(t.DistilBertModel(t.DistilBertConfig(n_layers=2)), "last_hidden_state"), TEXT  # of 6, all alike
    raise AssertionError(name)


def inputs(kind: str, batch: int, length: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if kind == IMAGE:
        return {"pixel_values": torch.randn(batch, 3, PIXELS, PIXELS, generator=generator)}
    ids = torch.randint(0, 30000, (batch, length), generator=generator)
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length - length // 3 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def real(output: Any, x: dict[str, torch.Tensor]) -> torch.Tensor:
    """Without the padding, whose values mean nothing."""
    output = torch.as_tensor(output)
    return output if "attention_mask" not in x else output * x["attention_mask"].unsqueeze(-1)


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv2", "vit-small", "bert-base", "distilbert"])
def test_family(name: str) -> None:
    net, kind = build(name)
    example = inputs(kind, 2, 16, 0)
    shapes = None if kind == IMAGE else {n: {0: "batch", 1: "sequence"} for n in example}
    calibration = [inputs(kind, 4, 24, seed) for seed in (1, 2)]
    model = taille.TorchModel(net.eval(), example, dynamic_shapes=shapes, calibration_data=calibration, name=name)
    native = taille.compile_model(model)
    small = taille.compile_model(taille.quantize_model(model, "int8"))
    for batch, length in ((1, 16), (3, 33)):
        x = inputs(kind, batch, length, 7)
        wanted = real(model.predict(x), x)
        assert relative_error(real(native.predict(x), x), wanted) <= 1e-4
        noise = real(small.predict(x), x) - wanted
        assert 10 * torch.log10((wanted**2).sum() / (noise**2).sum()) > LEAST_SQNR_DB[name]
    with taille.Runner(small) as runner:
        assert runner.why == ""  # requests are put together, and each gets what it gets alone:
    x = inputs(kind, 3, 16, 9)
    alone = [small.predict({n: a[i : i + 1] for n, a in x.items()}) for i in range(3)]
    np.testing.assert_array_equal(small.predict(x), np.concatenate(alone))
    arrays = {n: a.numpy() for n, a in inputs(kind, 1, 16, 8).items()}
    levels = [level for level in _native.supported_isas() if level != "portable"]  # minutes at this size
    runs = [_native.Model(small.graph, threads, level).run(arrays)[0] for level in levels for threads in (1, 2)]
    for other in runs[1:]:
        np.testing.assert_array_equal(runs[0].view(np.uint32), other.view(np.uint32))


# Random weights say little of the quality of trained ones; these bounds notice a layer that has gone wrong.
LEAST_SQNR_DB = {"resnet50": 10.0, "mobilenetv2": 8.0, "vit-small": 20.0, "bert-base": 20.0, "distilbert": 20.0}
