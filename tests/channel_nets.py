"""Small random networks of the kinds whose channels are pruned, and the dense network with masked channels."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import taille
from taille.pruning.channels import ChannelPrunedModel


def conv_bn(inner: int, outer: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution with a bias (which identifies its channels in tests) and batch norm."""
    conv = nn.Conv2d(inner, outer, size, stride, size // 2, groups=groups)
    return nn.Sequential(conv, nn.BatchNorm2d(outer))


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(3, 12), nn.ReLU(), conv_bn(12, 16), nn.ReLU(), conv_bn(16, 12), nn.ReLU())
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.adaptive_avg_pool2d(self.body(x), 1).flatten(1))


class Basic(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int = 1):
        super().__init__()
        self.conv1, self.conv2 = conv_bn(inner, outer, 3, stride), conv_bn(outer, outer)
        self.short = conv_bn(inner, outer, 1, stride) if stride != 1 or inner != outer else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.short(x))


class Bottleneck(nn.Module):
    def __init__(self, inner: int, middle: int, groups: int = 1):
        super().__init__()
        self.conv1, self.conv2 = conv_bn(inner, middle, 1), conv_bn(middle, middle, 3, groups=groups)
        self.conv3 = conv_bn(middle, inner, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.conv2(torch.relu(self.conv1(x))))
        return torch.relu(self.conv3(y) + x)


class Inverted(nn.Module):
    """MobileNetV2's block (Sandler et al. 2018)."""

    def __init__(self, width: int, expand: int, outer: int | None = None):
        super().__init__()
        self.up, self.depth = conv_bn(width, expand, 1), conv_bn(expand, expand, 3, groups=expand)
        self.down = conv_bn(expand, outer or width, 1)
        self.residual = outer is None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.down(F.relu6(self.depth(F.relu6(self.up(x)))))
        return x + y if self.residual else y


class Images(nn.Module):
    """A stem, blocks, a mean over the image and a linear layer."""

    def __init__(self, width: int, out: int, *blocks: nn.Module):
        super().__init__()
        self.stem, self.blocks, self.head = conv_bn(3, width), nn.Sequential(*blocks), nn.Linear(out, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(torch.relu(self.stem(x))).mean((2, 3)))


class Dense(nn.Module):
    """DenseNet's block: each layer reads all before it, side by side (Huang et al. 2017)."""

    def __init__(self, width: int, growth: int, count: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(width + i * growth) for i in range(count))
        self.convs = nn.ModuleList(nn.Conv2d(width + i * growth, growth, 3, padding=1) for i in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(torch.relu(norm(x)))], 1)
        return x


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc1, self.fc2 = nn.Conv2d(3, 10, 3, padding=1), nn.Linear(10 * 16, 24), nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool2d(torch.relu(self.conv(x)), 2)
        return self.fc2(torch.relu(self.fc1(y.view(y.size(0), -1))))


class SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.num_heads, self.head_dim, self.width = heads, width // heads, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, self.num_heads, self.head_dim).transpose(1, 2)
                   for f in (self.query, self.key, self.value))  # fmt: skip
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, self.num_heads * self.head_dim)
        return self.out(y)


class Packed(nn.Module):
    """Attention of vision transformers: one layer for queries, keys and values, split as [3, heads, depth]."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.qkv, self.out, self.heads, self.width = nn.Linear(width, 3 * width), nn.Linear(width, width), heads, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = torch.softmax(q @ k.transpose(-2, -1) * 0.5, -1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


class Encoder(nn.Module):
    def __init__(self, attention: nn.Module, width: int, middle: int):
        super().__init__()
        self.attention, self.norm1, self.norm2 = attention, nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, middle), nn.Linear(middle, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 24), nn.Sigmoid(), nn.Linear(24, 6))


def bert() -> taille.TorchModel:
    """A tiny BertModel of transformers; an ImportError where that is not installed."""
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=40, hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
                        intermediate_size=48, max_position_embeddings=16)  # fmt: skip
    shape = {0: "batch", 1: "sequence"}
    ids = torch.arange(16).reshape(2, 8)
    examples = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    net = randomised(BertModel(config))
    return taille.TorchModel(net, examples, dynamic_shapes=dict.fromkeys(examples, shape), calibration_data=[examples])


IMAGE, TOKENS = (4, 3, 8, 8), (4, 6, 16)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "chain": (Chain, IMAGE),
    "basic": (lambda: Images(12, 16, Basic(12, 16, 2), Basic(16, 16)), IMAGE),
    "bottleneck": (lambda: Images(16, 16, Bottleneck(16, 8), Bottleneck(16, 16, groups=4)), IMAGE),
    "inverted": (lambda: Images(8, 12, Inverted(8, 24), Inverted(8, 24, 12)), IMAGE),
    "densenet": (lambda: Images(8, 20, Dense(8, 4, 3)), IMAGE),
    "flatten": (Flat, IMAGE),
    "mlp": (mlp, (4, 20)),
    "encoder": (lambda: Encoder(SelfAttention(16, 4), 16, 24), TOKENS),
    "packed": (lambda: Encoder(Packed(16, 4), 16, 24), TOKENS),
}


def randomised(net: nn.Module) -> nn.Module:
    """The module in eval mode, with every bias, scale and statistic drawn, so that each channel can be told apart."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
            if tensor.dim() == 1 and tensor.is_floating_point():
                spread = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(spread + 0.5 if name.endswith(("weight", "running_var")) else spread - 0.5)
    return net.eval()


@functools.lru_cache(None)
def model_of(name: str) -> taille.TorchModel:
    """A network of `NETS`, with data: always the same one, so it must not be changed."""
    torch.manual_seed(0)
    make, shape = NETS[name]
    data = [torch.randn(shape) for _ in range(4)]
    return taille.TorchModel(randomised(make()), (data[0],), calibration_data=data, name=name)


def rows(model: ChannelPrunedModel) -> dict[str, tuple[int, int, str]]:
    """Channels before and after, and the reason, by group."""
    return {r.name: (r.before, r.after, r.why) for r in model.report}


def matches(dense: torch.Tensor, small: torch.Tensor) -> torch.Tensor:
    """For each row of `small` the index of the equal row of `dense`."""
    equal = (dense[None] == small[:, None]).flatten(2).all(2)
    assert (equal.sum(1) == 1).all(), "a row is not one of the dense module's"
    return equal.int().argmax(1)


def with_masks(dense: nn.Module, small: nn.Module) -> nn.Module:
    """The dense module whose layers read zeros in place of the channels that the layers of `small` do not read.

    Which those are is read off the weights alone: rows by their bias, then columns by their values.
    """
    dense = copy.deepcopy(dense)
    parts = dict(small.named_modules())
    for name, layer in dense.named_modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)) or getattr(layer, "groups", 1) != 1:
            continue
        part: Any = parts[name]
        rows = matches(layer.bias.detach()[:, None], part.bias.detach()[:, None])
        columns = matches(layer.weight.detach()[rows].transpose(0, 1), part.weight.detach().transpose(0, 1))
        mask = torch.zeros(layer.weight.shape[1])
        mask[columns] = 1.0
        mask = mask if isinstance(layer, nn.Linear) else mask[:, None, None]
        layer.register_forward_pre_hook(lambda _, args, mask=mask: (args[0] * mask,))
    return dense
