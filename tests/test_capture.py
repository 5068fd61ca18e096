"""Every op that capture knows, in a small module of its own, against torch: two batch sizes, from one artefact."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import taille
from support import missing
from zoo import relative_error

Function = Callable[..., Any]


class Fn(nn.Module):
    """A function as a module."""

    def __init__(self, function: Function):
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor, *more: torch.Tensor) -> Any:
        return self.function(x, *more)


def check(module: nn.Module, *shapes: tuple[int, ...], make: Callable[..., torch.Tensor] = torch.randn) -> None:
    """Compile once, compare with torch at the batch sizes 3, 1 and 2."""
    torch.manual_seed(1)
    module.eval()
    examples = tuple(make(2, *s) for s in shapes)
    model = taille.TorchModel(module, examples)
    native = taille.compile_model(model, threads=1)
    for batch in (3, 1, 2):
        inputs = tuple(make(batch, *s) for s in shapes)
        compare(native.predict(inputs), model.predict(inputs))


def compare(given: Any, wanted: Any) -> None:
    assert type(given) is type(wanted)
    if isinstance(wanted, tuple):
        assert len(given) == len(wanted)
        for g, w in zip(given, wanted, strict=True):
            compare(g, w)
        return
    assert given.dtype == wanted.dtype or {given.dtype, wanted.dtype} == {torch.int32, torch.int64}
    assert relative_error(given, wanted) <= 1e-4


def positive(*shape: int) -> torch.Tensor:
    return torch.rand(*shape) + 0.5


ELEMENTWISE: dict[str, Function] = {
    "relu": F.relu,
    "relu in place": lambda x: F.relu_(x * 2),
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.7),
    "relu6": lambda x: F.relu6(x * 4),
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp min": lambda x: x.clamp(min=0.1),
    "clamp max": lambda x: torch.clamp_max(x, 0.1),
    "clamp tensor": lambda x: torch.clamp(x, min=torch.tensor(0.1), max=torch.tensor(0.2)),
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hardswish": lambda x: F.hardswish(x * 3),
    "hardsigmoid": lambda x: F.hardsigmoid(x * 3),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.1),
    "exp": torch.exp,
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: (x.abs() + 0.5).rsqrt(),
    "log": lambda x: (x.abs() + 0.5).log(),
    "neg": lambda x: -x,
    "abs": torch.abs,
    "erf": torch.erf,
    "reciprocal": lambda x: (x.abs() + 0.5).reciprocal(),
    "add": lambda x: x + x.tanh(),
    "add scalar": lambda x: x + 2,
    "add alpha": lambda x: torch.add(x, x.tanh(), alpha=0.5),
    "add in place": lambda x: (x * 1.5).add_(3),
    "sub": lambda x: x - x.tanh(),
    "sub alpha": lambda x: torch.sub(x, x.tanh(), alpha=3),
    "rsub": lambda x: 1.0 - x,
    "mul": lambda x: x * x.tanh(),
    "mul scalar": lambda x: x * 3,
    "div": lambda x: x / (x.abs() + 1),
    "div scalar": lambda x: x / 3,
    "scalar div": lambda x: 3 / (x.abs() + 1),
    "pow 2": lambda x: x**2,
    "pow 3": lambda x: x**3,
    "pow half": lambda x: x.abs() ** 0.5,
    "pow -half": lambda x: (x.abs() + 0.5) ** -0.5,
    "pow 2.5": lambda x: x.abs() ** 2.5,
    "pow tensor": lambda x: (x.abs() + 0.1) ** x,
    "square": torch.square,
    "maximum": lambda x: torch.maximum(x, x.tanh() * 2),
    "minimum": lambda x: torch.minimum(x, x * 2),
    "eq": lambda x: (x > 0) == (x < 1),
    "ne": lambda x: (x * 2).to(torch.int64) != 1,
    "lt": lambda x: x < 0.1,
    "le tensor": lambda x: x <= x.tanh() * 1.1,
    "gt": lambda x: x > 0,
    "ge": lambda x: x >= 1,
    "and": lambda x: (x > 0) & (x < 1),
    "logical_and": lambda x: torch.logical_and(x > 0, x < 1),
    "or": lambda x: (x > 1) | (x < 0),
    "not": lambda x: ~(x > 0),
    "logical_not": lambda x: torch.logical_not(x > 0),
    "where": lambda x: torch.where(x > 0, x, x * 0.1),
    "where scalar": lambda x: torch.where(x > 0, x, 7.0),
    "where bool": lambda x: torch.where(x > 0, x < 1, x > -1),
    "masked_fill": lambda x: x.masked_fill(x > 0.5, -3.0),
    "cast to int and back": lambda x: (x * 10).to(torch.int64).float() * 0.5,
    "int arithmetic": lambda x: (x * 10).long() * 3 + 2 - (x > 0).long(),
    "int clamp": lambda x: (x * 10).long().clamp(-3, 4),
    "bool to float": lambda x: (x > 0).float() * x,
    "bool times float": lambda x: (x > 0) * x,
    "type_as": lambda x: (x > 0).type_as(x),
    "dropout": lambda x: F.dropout(x, 0.5, training=False),
    "dropout in place": lambda x: F.dropout(x * 1, 0.5, training=False, inplace=True),
    "contiguous, clone, detach": lambda x: x.transpose(1, 2).contiguous().clone().detach() + 1,
    "double constant": lambda x: x * torch.tensor(0.5, dtype=torch.float64),
    "softmax": lambda x: x.softmax(-1),
    "softmax of axis 1": lambda x: x.softmax(1),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise(name: str) -> None:
    check(Fn(ELEMENTWISE[name]), (5, 7))


REDUCE_AND_MOVE: dict[str, Function] = {
    "mean": lambda x: x.mean((1, 2)),
    "mean keepdim": lambda x: x.mean(-1, keepdim=True),
    "mean of one axis": lambda x: x.mean(2),
    "sum": lambda x: x.sum(1),
    "sum of two axes": lambda x: x.sum((1, 3), keepdim=True),
    "sum of a mask": lambda x: (x > 0).sum(1),
    "sum of a mask of integers": lambda x: (x > 0).long().sum((1, 2)),
    "cumsum": lambda x: x.cumsum(1),
    "cumsum of the last axis": lambda x: x.cumsum(-1),
    "cumsum of a mask": lambda x: (x > 0).int().cumsum(2),
    "norm": lambda x: F.normalize(x, dim=1),
    "view": lambda x: x.view(x.shape[0], -1),
    "view of batch": lambda x: x.view(-1, x.shape[3]),
    "reshape": lambda x: x.reshape(x.shape[0], 2, -1, 6),
    "flatten": lambda x: x.flatten(1),
    "flatten all": lambda x: x.flatten(),
    "unflatten": lambda x: x.unflatten(1, (2, 2)),
    "transpose": lambda x: x.transpose(1, 3),
    "transpose batch": lambda x: x.transpose(0, 1),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "movedim": lambda x: x.movedim(1, -1),
    "t": lambda x: x.mean((2, 3)).t(),
    "unsqueeze": lambda x: x.unsqueeze(2),
    "squeeze": lambda x: x[:, :1].squeeze(1),
    "expand": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "expand_as": lambda x: x[:, :1].expand_as(x),
    "expand rank": lambda x: x.mean((1, 2, 3)).expand(2, x.shape[0]) + 1,
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=2),
    "slice": lambda x: x[:, 1:3],
    "slice step": lambda x: x[:, :, ::2, 1::2],
    "slice negative": lambda x: x[:, -2:],
    "slice to negative": lambda x: x[:, :-1],
    "narrow": lambda x: x.narrow(2, 1, 2),
    "select": lambda x: x[:, 2],
    "select negative": lambda x: x[:, :, -1],
    "split": lambda x: x.split(3, dim=1)[1] + 1,
    "split sizes": lambda x: torch.split(x, [1, 3], dim=1)[1] * 2,
    "chunk": lambda x: torch.chunk(x, 2, dim=3)[0] * torch.chunk(x, 2, dim=3)[1],
    "unbind": lambda x: x.unbind(1)[0] + x.unbind(1)[3],
    "gather": lambda x: x.gather(3, (x > 0).long()),
    "index": lambda x: x[torch.arange(1), :],
    "index two": lambda x: x[torch.zeros(3, dtype=torch.long), torch.tensor([0, 2, 3])],
    "index of axis 1": lambda x: x[:, torch.tensor([2, 0])],
    "index_select": lambda x: x.index_select(2, torch.tensor([1, 0, 1])),
    "cat": lambda x: torch.cat([x, x * 2], dim=1),
    "cat batch": lambda x: torch.cat([x, x * 2]),
    "cat of mixed dtypes": lambda x: torch.cat([x, (x > 0).long()], dim=2),
    "stack": lambda x: torch.stack([x, x * 2], dim=1),
    "stack last": lambda x: torch.stack([x, x * 2], dim=-1),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=0.5),
    "pad channels": lambda x: F.pad(x, (0, 0, 0, 0, 2, 2)),
    "pad negative": lambda x: F.pad(x, (-1, 2)),
    "matmul": lambda x: x @ x.transpose(2, 3),
    "matmul vector": lambda x: x @ torch.arange(6.0),
    "bmm": lambda x: torch.bmm(x[:, 0], x[:, 1].transpose(1, 2)),
    "arange": lambda x: x + torch.arange(x.shape[3]),
    "arange of batch": lambda x: x.mean((1, 2, 3)) + torch.arange(x.shape[0]),
    "arange float": lambda x: x.mean((1, 2, 3)) + torch.arange(0, x.shape[0], 1) * 0.5,
    "zeros": lambda x: x + torch.zeros(x.shape[0], 1, 1, 1),
    "ones_like": lambda x: x + torch.ones_like(x),
    "full": lambda x: x * torch.full((x.shape[0], 1, 1, 1), 2.5),
    "new_ones": lambda x: x + x.new_ones(x.shape[0], 1, 1, 6),
    "new_zeros": lambda x: torch.cat([x, x.new_zeros(x.shape)], 1),
    "tril": lambda x: x.tril(),
    "triu": lambda x: x.triu(1),
    "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, 3)),
    "global pool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "max_pool2d": lambda x: F.max_pool2d(x, 2),
    "max_pool2d padded": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max_pool2d ceil": lambda x: F.max_pool2d(x, 2, 2, ceil_mode=True),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "avg_pool2d padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg_pool2d not counting": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool2d divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "tuple of outputs": lambda x: (x + 1, x.mean((1, 2, 3))),
    "an input as output": lambda x: (x, x + 1),
    "a constant as output": lambda x: (x + 1, torch.arange(3.0)),
}


@pytest.mark.parametrize("name", REDUCE_AND_MOVE)
def test_reduce_and_move(name: str) -> None:
    check(Fn(REDUCE_AND_MOVE[name]), (4, 5, 6))


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (3, 7)),
    "conv2d": (lambda: nn.Conv2d(3, 8, 3, padding=1), (3, 9, 7)),
    "conv2d strided": (lambda: nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False), (3, 9, 7)),
    "conv2d dilated": (lambda: nn.Conv2d(3, 8, 3, dilation=2), (3, 9, 9)),
    "conv2d groups": (lambda: nn.Conv2d(4, 8, 3, groups=2), (4, 6, 6)),
    "conv2d depthwise": (lambda: nn.Conv2d(6, 6, 3, padding=1, groups=6), (6, 6, 6)),
    "conv2d same": (lambda: nn.Conv2d(3, 4, (3, 5), padding="same", dilation=2), (3, 7, 7)),
    "conv2d valid": (lambda: nn.Conv2d(3, 4, (1, 3), padding="valid"), (3, 7, 7)),
    "conv1d": (lambda: nn.Conv1d(3, 8, 3, padding=1, stride=2), (3, 11)),
    "max_pool1d": (lambda: nn.MaxPool1d(2), (3, 8)),
    "batch_norm": (lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()), (3, 5, 5)),
    "batch_norm alone": (lambda: nn.BatchNorm2d(4, affine=False), (4, 5, 5)),
    "layer_norm": (lambda: nn.LayerNorm(16), (5, 16)),
    "layer_norm without weights": (lambda: nn.LayerNorm((5, 16), elementwise_affine=False), (5, 16)),
    "rms_norm": (lambda: nn.RMSNorm(16), (5, 16)),
    "rms_norm without weights": (lambda: nn.RMSNorm((5, 16), eps=1e-3, elementwise_affine=False), (5, 16)),
    "attention": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.1), (6, 16)),
    "attention pre-norm": (lambda: nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True), (6, 16)),
    "weight_norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(7, 5)), (7,)),
    "shared module": (lambda: (lambda layer: nn.Sequential(layer, nn.ReLU(), layer))(nn.Linear(6, 6)), (6,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    module = make()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):  # statistics of their own, so that folding shows
            part.running_mean = torch.randn(part.num_features) * 0.3
            part.running_var = torch.rand(part.num_features) + 0.5
    check(module, shape)


@pytest.mark.parametrize("name", ["llama.modeling_llama.LlamaRMSNorm", "t5.modeling_t5.T5LayerNorm",
                                  "gemma.modeling_gemma.GemmaRMSNorm", "torch"])  # fmt: skip
def test_rms_norms_are_one_node(name: str) -> None:
    module: nn.Module = nn.RMSNorm(16)
    if name != "torch":
        path, kind = f"transformers.models.{name}".rsplit(".", 1)
        try:
            module = getattr(importlib.import_module(path), kind)(16)
        except ImportError:
            missing("transformers is not installed")
    torch.manual_seed(2)
    nn.init.normal_(module.weight)
    native = taille.compile_model(taille.TorchModel(module.eval(), (torch.randn(2, 5, 16),)))
    assert [n["op"] for n in native.nodes()] == ["rms_norm"]
    check(module, (5, 16))


@pytest.mark.parametrize("mask", ["none", "bool", "float", "causal"])
def test_scaled_dot_product_attention(mask: str) -> None:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        given = None
        if mask == "bool":
            given = (k[..., 0] > -0.5)[:, :, None, :] | torch.eye(5, dtype=torch.bool)
        elif mask == "float":
            given = torch.where(k[..., 0] > -0.5, 0.0, -1e9)[:, :, None, :]
        scale = 0.3 if mask == "none" else None
        return F.scaled_dot_product_attention(q, k, v, attn_mask=given, is_causal=mask == "causal", scale=scale)

    check(Fn(attend), (2, 5, 8), (2, 5, 8), (2, 5, 8))


def test_embedding_and_ids() -> None:
    table = nn.Embedding(10, 6)

    class Ids(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = table

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.table(ids) + (ids != 0).unsqueeze(-1)

    check(Ids(), (4,), make=lambda *s: torch.randint(0, 10, s))


def test_dynamic_sequence_and_images() -> None:
    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y.flatten(2).mean(-1)

    model = taille.TorchModel(
        Pool(), (torch.randn(1, 3, 8, 8),), dynamic_shapes={"x": {0: "batch", 2: "height", 3: "width"}}
    )
    native = taille.compile_model(model)
    assert native.input_spec[0].shape == ("batch", 3, "height", "width")
    for shape in ((2, 3, 8, 8), (1, 3, 9, 12), (3, 3, 5, 7)):
        x = torch.randn(*shape)
        compare(native.predict(x), model.predict(x))


def test_limits_of_a_position_table_are_found() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(1, 12, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.table[:, : x.shape[1]]

    model = taille.TorchModel(Positions(), (torch.randn(2, 5, 4),), dynamic_shapes={"x": {0: "batch", 1: "sequence"}})
    native = taille.compile_model(model)
    x = np.zeros((1, 12, 4), np.float32)
    np.testing.assert_allclose(native.predict(x), model.predict(x), rtol=1e-5)
    with pytest.raises(ValueError, match="'sequence' is at most 12"):
        native.predict(np.zeros((1, 13, 4), np.float32))


def test_keyword_inputs_and_dict_outputs() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": x + scale, "product": x * scale}

    model = taille.TorchModel(Two(), {"scale": torch.randn(2, 3), "x": torch.randn(2, 3)})
    native = taille.compile_model(model)
    assert {s.name for s in native.input_spec} == {"x", "scale"}
    inputs = {"x": np.ones((4, 3), np.float32), "scale": np.full((4, 3), 2, np.float32)}
    out = native.predict(inputs)
    assert list(out) == ["sum", "product"]
    np.testing.assert_array_equal(out["sum"], 3)
    np.testing.assert_array_equal(out["product"], model.predict(inputs)["product"])


def test_static_shapes() -> None:
    native = taille.compile_model(taille.TorchModel(nn.Linear(4, 2), (torch.randn(3, 4),), dynamic_shapes={}))
    assert native.input_spec[0].shape == (3, 4)
    with pytest.raises(ValueError, match="dimension 0 is 2, not 3"):
        native.predict(np.zeros((2, 4), np.float32))


def test_every_unsupported_node_is_listed() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.cumprod(self.conv(x), 1)
            x = F.relu(x)
            x = torch.fft.fft(x).real
            return F.max_pool2d(x, 2, 2, ceil_mode=True).sort(dim=1)[0]

    with pytest.raises(taille.CaptureError) as caught:
        taille.compile_model(taille.TorchModel(Odd(), (torch.randn(2, 1, 8, 8),)))
    text = str(caught.value)
    for part in ("aten.cumprod.default", "aten.fft_fft.default", "aten.sort.default", "[batch, 2, 6, 6]"):
        assert part in text
    assert text.count("test_capture.py:") >= 3
    assert "torch.cumprod(self.conv(x), 1)" in text
    assert "aten.relu" not in text
    assert "aten.conv2d" not in text


def test_sums_of_integers_are_refused() -> None:
    with pytest.raises(taille.CaptureError, match="sums of integers other than counts"):
        taille.compile_model(taille.TorchModel(Fn(lambda x: (x * 10).long().sum(1)), (torch.randn(2, 3),)))


def test_an_in_place_change_seen_through_another_view_is_refused() -> None:
    def change(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, 0].add_(1)
        return y

    with pytest.raises(taille.CaptureError, match="in-place change"):
        taille.compile_model(taille.TorchModel(Fn(change), (torch.randn(2, 3),)))


def test_data_dependent_control_flow_says_where() -> None:
    def branch(x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x

    with pytest.raises(taille.CaptureError, match=r"torch\.export cannot trace"):
        taille.compile_model(taille.TorchModel(Fn(branch), (torch.randn(2, 3),)))


def test_a_batch_that_cannot_be_dynamic() -> None:
    with pytest.raises(taille.CaptureError, match="batch = 2"):
        taille.compile_model(taille.TorchModel(Fn(lambda x: x.view(2, 3) + torch.ones(2, 1)), (torch.randn(2, 3),)))


def test_random_ops_are_not_folded() -> None:
    with pytest.raises(taille.CaptureError, match="rand"):
        taille.compile_model(taille.TorchModel(Fn(lambda x: x + torch.rand(3)), (torch.randn(2, 3),)))


def test_nodes_carry_module_paths_and_lines() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer1 = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer1(x) + 1

    nodes = taille.TorchModel(Net(), (torch.randn(2, 1, 4, 4),)).capture().nodes
    assert [n["name"] for n in nodes] == ["layer1.0", "layer1.1", "add"]
    assert nodes[2]["source"].startswith("test_capture.py:")


def test_capture_leaves_the_module_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 2))
    net.train()
    net[0].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    taille.compile_model(taille.TorchModel(net, (torch.randn(1, 3),)))
    assert [m.training for m in net] == [False, True, True]
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bad_weights_are_named(value: float) -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight[1, 2] = value
    with pytest.raises(ValueError, match=r"parameter '0\.weight' holds (nan|inf) at \[1, 2\]"):
        taille.compile_model(taille.TorchModel(net, (torch.randn(1, 3),)))


def test_half_precision_weights_are_refused() -> None:
    with pytest.raises(TypeError, match=r"'weight' is torch\.bfloat16; wanted torch\.float32"):
        taille.compile_model(taille.TorchModel(nn.Linear(3, 2).bfloat16(), (torch.randn(1, 3),)))


def test_arguments_of_torch_model() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(1, 3)
    with pytest.raises(TypeError, match=r"wanted a torch\.nn\.Module"):
        taille.TorchModel(lambda x: x, (x,))
    with pytest.raises(TypeError, match="a tuple of tensors"):
        taille.TorchModel(layer, x)
    with pytest.raises(TypeError, match="'input' is ndarray"):
        taille.TorchModel(layer, (x.numpy(),))
    with pytest.raises(TypeError, match=r"float64; wanted float32"):
        taille.TorchModel(layer, (x.double(),))
    with pytest.raises(ValueError, match="forward takes 1: input"):
        taille.TorchModel(layer, (x, x))
    with pytest.raises(ValueError, match="names y; the inputs are input"):
        taille.TorchModel(layer, (x,), dynamic_shapes={"y": {0: "batch"}})
    with pytest.raises(ValueError, match="axis 2"):
        taille.TorchModel(layer, (x,), dynamic_shapes={"input": {2: "batch"}})
    with pytest.raises(
        TypeError, match=r"(?s)bare nn\.Module Linear.*taille\.TorchModel\(module, \(example_input,\)\)"
    ):
        taille.compile_model(layer)
    with pytest.raises(TypeError, match="not int"):
        taille.compile_model(3)
