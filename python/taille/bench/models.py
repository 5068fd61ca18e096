"""The built-in models: public configurations with seeded random weights, and seeded inputs for them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from taille.torch_model import TorchModel

__all__ = ["MODELS", "STANDARD", "build"]

STANDARD = (
    ("mlp", 1), ("mlp", 64), ("resnet50", 1), ("resnet50", 8), ("mobilenetv2", 1), ("minilm", 1), ("minilm", 16),
    ("bert-base", 1),
)  # fmt: skip
SAMPLES = 16  # for calibration
VOCABULARY = 30522

Batches = list[dict[str, "torch.Tensor"]]


def build(name: str, batch: int, sequence: int | None) -> TorchModel:
    """A built-in model with calibration and test data in batches of that size.

    Args:
        name: one of `MODELS`.
        batch: samples in a batch.
        sequence: tokens in a sample, for the transformers; None: 128.

    Raises:
        ImportError: transformers, whose configurations these are, is not installed.
        ValueError: a length for a model that takes no sequences.
    """
    import torch

    from taille.torch_model import TorchModel

    make, transformer = MODELS[name]
    if sequence is not None and not transformer:
        raise ValueError(f"{name} takes no sequences; leave --sequence out")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make().eval()
        if transformer:
            data = token_batches(batch, sequence or 128)
        else:
            key, shape = ("input", (256,)) if name == "mlp" else ("pixel_values", (3, 224, 224))
            data = normal_batches(key, batch, shape)
    calibration, test = data[:-1], data[-1:]
    axes = {0: "batch", 1: "sequence"} if transformer else {0: "batch"}
    return TorchModel(
        net, test[0], dynamic_shapes=dict.fromkeys(test[0], axes), calibration_data=calibration, test_data=test,
        name=name,
    )  # fmt: skip


def normal_batches(key: str, batch: int, shape: tuple[int, ...]) -> Batches:
    """Normal floats: batches for calibration, and one more to test with."""
    import torch

    return [{key: torch.randn(batch, *shape)} for _ in range(max(2, SAMPLES // batch) + 1)]


def token_batches(batch: int, sequence: int) -> Batches:
    """Random tokens, none of them padding: batches for calibration, and one more to test with."""
    import torch

    mask = torch.ones(batch, sequence, dtype=torch.int64)
    return [
        {"input_ids": torch.randint(1000, VOCABULARY, (batch, sequence)), "attention_mask": mask}
        for _ in range(max(2, SAMPLES // batch) + 1)
    ]


def mlp() -> nn.Module:
    """256-1024-1024-1024-10 with ReLU between."""
    from torch import nn

    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise((256, 1024, 1024, 1024, 10)):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def resnet50() -> nn.Module:
    """ResNet-50 of transformers, with its head."""
    library = transformers()
    return settled(library.ResNetForImageClassification(library.ResNetConfig(num_labels=1000)))


def mobilenetv2() -> nn.Module:
    """MobileNetV2 1.0 224 of transformers, with its head."""
    library = transformers()
    return settled(library.MobileNetV2ForImageClassification(library.MobileNetV2Config(num_labels=1001)))


def minilm() -> nn.Module:
    """The encoder of MiniLM-L6."""
    return bert(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)


def bert_base() -> nn.Module:
    """The encoder of BERT-base."""
    return bert()


def bert(**sizes: int) -> nn.Module:
    """A BERT encoder without the pooler; the sizes that are not given are BERT-base's."""
    library = transformers()
    net: nn.Module = library.BertModel(library.BertConfig(vocab_size=VOCABULARY, **sizes), add_pooling_layer=False)
    return net


def transformers() -> Any:
    """The library, told not to look for anything on the network."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers as library
    except ImportError as error:
        raise ImportError("the built-in models but mlp need transformers: pip install 'taille[peers]'") from error
    return library


def settled(net: nn.Module) -> nn.Module:
    """Set the statistics of the batch norms from random images.

    Trained networks have activations of similar size in every layer. With untrained weights alone they would fade
    from layer to layer, down to denormal numbers.
    """
    import torch
    from torch import nn

    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # then one pass sets them
    with torch.no_grad():
        net.train()(torch.randn(4, 3, 224, 224))
    return net.eval()


# name -> what makes the module, and whether it takes tokens
MODELS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "mlp": (mlp, False),
    "resnet50": (resnet50, False),
    "mobilenetv2": (mobilenetv2, False),
    "minilm": (minilm, True),
    "bert-base": (bert_base, True),
}
