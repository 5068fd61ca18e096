"""Which channels go together, which have to stay and why, and what the options of channel pruning do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import taille
from channel_nets import (
    Basic,
    Dense,
    Encoder,
    Images,
    Inverted,
    Packed,
    SelfAttention,
    conv_bn,
    randomised,
    rows,
)
from taille.pruning.channels import ChannelPrunedModel, prune_channels

OUTPUT = "the model's output keeps its size"


def pruned(net: nn.Module, shape: tuple[int, ...], target: float = 0.5, **options: Any) -> ChannelPrunedModel:
    torch.manual_seed(1)
    return prune_channels(taille.TorchModel(randomised(net), (torch.randn(shape),)), target, **options)


class From(nn.Module):
    """A module from its parts and a function."""

    def __init__(self, forward: Callable[..., torch.Tensor], **parts: Any):
        super().__init__()
        self.function = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


# What goes together ---------------------------------------------------------------------------------------------------


def test_a_residual_stage_is_one_group() -> None:
    small = pruned(Images(8, 8, Basic(8, 8), Basic(8, 8)), (2, 3, 8, 8))
    stage = next(r for r in small.report if r.name == "stem.0")
    wanted = {"stem.0", "stem.1", "head"}
    for k in (0, 1):
        wanted |= {f"blocks.{k}.conv1.0", f"blocks.{k}.conv2.0", f"blocks.{k}.conv2.1"}
    assert set(stage.layers) == wanted
    inner = next(r for r in small.report if r.name == "blocks.0.conv1.0")
    assert set(inner.layers) == {"blocks.0.conv1.0", "blocks.0.conv1.1", "blocks.0.conv2.0"}


def test_concatenated_layers_are_groups_of_their_own() -> None:
    small = pruned(Images(8, 16, Dense(8, 4, 2)), (2, 3, 8, 8), 0.3)
    module: Any = small.module
    dense = module.blocks[0]
    groups = {r.name: r.after for r in small.report}
    assert dense.convs[1].in_channels == dense.norms[1].num_features == groups["stem.0"] + groups["blocks.0.convs.0"]
    assert module.head.in_features == dense.convs[1].in_channels + groups["blocks.0.convs.1"]
    assert groups["blocks.0.convs.0"] < 4


def test_depthwise_and_grouped_convolutions_state_their_groups() -> None:
    module: Any = pruned(Images(8, 12, Inverted(8, 24, 12)), (2, 3, 8, 8)).module
    depth = module.blocks[0].depth[0]
    assert depth.groups == depth.in_channels == depth.out_channels == module.blocks[0].up[0].out_channels < 24
    grouped = nn.Sequential(conv_bn(3, 16), nn.ReLU(), conv_bn(16, 32, 3, groups=4), nn.ReLU(), nn.Conv2d(32, 3, 1))
    small: Any = pruned(grouped, (2, 3, 8, 8), 0.5)
    conv = small.module[2][0]
    assert (conv.groups, conv.in_channels, conv.out_channels) == (2, 8, 16)
    assert rows(small)["0.0"] == (16, 8, "")


def test_a_flattened_channel_takes_its_columns() -> None:
    small: Any = pruned(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 4, 3)), (2, 3, 2, 2))
    kept = small.module[0].out_channels
    assert small.module[3].in_features == kept * 4 < 32
    assert rows(small)["0"] == (8, kept, "")


def test_heads_go_whole_and_their_number_is_updated() -> None:
    small: Any = pruned(Encoder(SelfAttention(16, 4), 16, 24), (2, 5, 16), 0.6)
    attention = small.module.attention
    assert attention.query.out_features == attention.num_heads * 4 == attention.out.in_features < 16
    assert (attention.head_dim, attention.width) == (4, 16)  # of the same value as the heads; what the module reads
    step = small.metadata["recipe"][-1]
    assert step["attributes"]["attention"] == {"num_heads": attention.num_heads}
    head = next(r for r in small.report if r.name == "attention.query")
    assert head.width == 4


def test_a_packed_layer_loses_the_same_head_three_times() -> None:
    small: Any = pruned(Encoder(Packed(16, 4), 16, 24), (2, 5, 16), 0.6)
    attention = small.module.attention
    assert attention.qkv.out_features == 3 * 4 * attention.heads == 3 * attention.out.in_features < 48


def test_the_width_of_a_transformer_goes_where_all_follow() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(m.norm(m.body(m.embed(x) + m.place)).mean(1))

    net = From(forward, embed=nn.Embedding(20, 16), place=nn.Parameter(torch.randn(1, 5, 16)),
               body=Encoder(SelfAttention(16, 4), 16, 24), norm=nn.LayerNorm(16), head=nn.Linear(16, 3))  # fmt: skip
    model = taille.TorchModel(randomised(net), (torch.arange(10).reshape(2, 5),))
    small: Any = prune_channels(model, 0.6)
    before, after, why = rows(small)["embed"]
    assert after < before == 16
    assert "LayerNorm" in why
    width = small.module.embed.embedding_dim
    assert small.module.place.shape == (1, 5, width)
    assert small.module.norm.normalized_shape == (width,)
    assert small.module.body.attention.query.in_features == width == after
    fixed = prune_channels(model, 0.6, ignore=[nn.LayerNorm])
    assert rows(fixed)["embed"][:2] == (16, 16)
    assert "is ignored" in rows(fixed)["embed"][2]


def test_padded_shortcuts_keep_what_is_added_to_zeros() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(m.stem(x))
        y = m.conv2(torch.relu(m.conv1(x))) + F.pad(x, (0, 0, 0, 0, 4, 4))
        return m.head(torch.relu(y).mean((2, 3)))

    net = From(forward, stem=conv_bn(3, 8), conv1=conv_bn(8, 16), conv2=conv_bn(16, 16), head=nn.Linear(16, 3))
    small: Any = pruned(net, (2, 3, 8, 8))
    kept = small.module.stem[0].out_channels
    assert kept < 8
    assert small.module.head.in_features == kept + 8
    assert rows(small)["conv2.0"] == (8, 8, "pad pads to a fixed size")


FOLLOWED: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], dict[str, nn.Module], tuple[int, ...]]] = {
    "halves of a gate": (
        lambda m, x: m.b((lambda u, g: u * torch.sigmoid(g))(*m.a(x).chunk(2, -1))),
        {"a": nn.Linear(6, 32), "b": nn.Linear(16, 3)}, (4, 6),
    ),
    "glu": (lambda m, x: m.b(F.glu(m.a(x))), {"a": nn.Linear(6, 32), "b": nn.Linear(16, 3)}, (4, 6)),
    "squeeze and excitation": (
        lambda m, x: m.b((lambda y: y * torch.sigmoid(m.s(y.mean((2, 3)))).view(y.shape[0], y.shape[1], 1, 1))(m.a(x))),
        {"a": nn.Conv2d(3, 16, 3), "s": nn.Linear(16, 16), "b": nn.Conv2d(16, 3, 1)}, (2, 3, 8, 8),
    ),
    "transposed convolution": (
        lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x))))),
        {"a": nn.Conv2d(3, 16, 1), "b": nn.ConvTranspose2d(16, 12, 2, 2), "c": nn.Conv2d(12, 3, 1)}, (2, 3, 4, 4),
    ),
    "channels last": (
        lambda m, x: m.b(F.gelu(m.a(x)).permute(0, 2, 3, 1)),
        {"a": nn.Conv2d(3, 16, 1), "b": nn.Linear(16, 3)}, (2, 3, 4, 4),
    ),
    "one dimension": (
        lambda m, x: m.c(F.max_pool1d(m.p(m.n(m.a(x))), 2)),
        {"a": nn.Conv1d(3, 16, 3), "n": nn.BatchNorm1d(16), "p": nn.PReLU(16), "c": nn.Conv1d(16, 3, 1)}, (2, 3, 12),
    ),
    "a layer used twice": (
        lambda m, x: m.c(torch.relu(m.b(torch.relu(m.b(torch.relu(m.a(x))))))),
        {"a": nn.Linear(6, 16), "b": nn.Linear(16, 16), "c": nn.Linear(16, 3)}, (4, 6),
    ),
    "products of parameters": (
        lambda m, x: torch.addmm(m.c.bias, torch.relu(m.a(x)) @ m.b.weight.t(), m.c.weight.t()),
        {"a": nn.Linear(6, 16), "b": nn.Linear(16, 12), "c": nn.Linear(12, 3)}, (4, 6),
    ),
    "an image that was flattened": (
        lambda m, x: m.b(torch.relu(m.a(x)).flatten(1).unflatten(1, (-1, 4, 4))),
        {"a": nn.Conv2d(3, 16, 1), "b": nn.Conv2d(16, 3, 1)}, (2, 3, 4, 4),
    ),
    "stacked": (
        lambda m, x: m.c(torch.stack([m.a(x), m.b(x)]).sum(0)),
        {"a": nn.Linear(6, 16), "b": nn.Linear(6, 16), "c": nn.Linear(16, 3)}, (4, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLLOWED)
def test_follows(case: str) -> None:
    forward, parts, shape = FOLLOWED[case]
    small = pruned(From(forward, **parts), shape)
    assert small.report.share < 0.7
    assert {r.why for r in small.report.refused} <= {OUTPUT, "the input 'x' keeps its size"}
    x = next(iter(small.examples.values()))
    assert small.module(x).shape[1:] == forward(From(forward, **parts), x).shape[1:]


# What stays, and why --------------------------------------------------------------------------------------------------

THREE = {"a": nn.Linear(8, 12), "b": nn.Linear(12, 8), "c": nn.Linear(8, 3)}  # 8 > 12 > 8 > 3
REFUSED: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], dict[str, Any], str, str]] = {
    "output": (lambda m, x: m.c(m.b(m.a(x))), THREE, "c", OUTPUT),
    "input": (lambda m, x: m.c(m.b(m.a(x))), THREE, "input of a", "the input 'x' keeps its size"),
    "added to the input": (lambda m, x: m.c(m.b(m.a(x)) + x), THREE, "b", "the input 'x' keeps its size"),
    "softmax": (lambda m, x: m.c(torch.softmax(m.b(m.a(x)), -1)), THREE, "b", "softmax runs over it"),
    "norm": (lambda m, x: m.c((lambda y: y / y.norm(dim=-1, keepdim=True))(m.b(m.a(x)))), THREE, "b",
             "linalg_vector_norm runs over it"),
    "an index": (lambda m, x: m.c(m.b(m.a(x)) * m.a(x)[:, 2:3]), THREE, "a", "slice cuts it"),
    "selected": (lambda m, x: m.c(m.b(m.a(x)) * m.a(x)[:, 2].unsqueeze(1)), THREE, "a", "select takes index 2 of it"),
    "unequal parts": (lambda m, x: m.c(m.b(m.a(x))) * m.a(x).split([3, 9], 1)[0], THREE, "a",
                      "split_with_sizes splits it into unequal parts"),
    "an op that is not known": (lambda m, x: m.c(torch.flip(m.b(m.a(x)), (1,))), THREE, "b", "flip is not followed"),
    "a sorted width": (lambda m, x: m.c(m.b(m.a(x)).sort(-1)[0]), THREE, "b", "sort is not followed"),
    "a product of activations": (lambda m, x: m.c(m.b(m.a(x))) @ (m.a(x).t() @ m.a(x))[:3, :3], THREE, "a",
                                 "slice cuts it"),
    "a LayerNorm without weights": (lambda m, x: m.c(F.layer_norm(m.b(m.a(x)), (8,))), THREE, "b",
                                    "layer_norm has no weights that would say its size"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_with_the_reason(case: str) -> None:
    forward, parts, group, why = REFUSED[case]
    small = pruned(From(forward, **parts), (4, 8))
    before, after, found = rows(small)[group]
    assert before == after
    assert found == why
    assert group in {r.name for r in small.report.refused}
    assert group in str(small.report)
    assert why in str(small.report)
    assert small.metadata["recipe"][-1]["refused"][group] == why


def test_group_norm_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 12, 1), nn.ReLU(),
                        nn.Conv2d(12, 3, 1))  # fmt: skip
    small = pruned(net, (2, 3, 8, 8))
    why = "1: group_norm normalises over groups of channels, which would change with their number"
    assert rows(small)["0"] == (8, 8, why)
    assert rows(small)["3"][1] < 12


def test_attention_of_torch_keeps_its_heads() -> None:
    small = pruned(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), (2, 5, 16))
    assert rows(small)["self_attn"][2] == "self_attn: select takes index 0 of it"
    assert rows(small)["linear1"][1] < 32


def test_heads_without_an_attribute_are_refused() -> None:
    class Fixed(SelfAttention):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            b, t, _ = x.shape
            q, k, v = (f(x).view(b, t, 4, 4).transpose(1, 2) for f in (self.query, self.key, self.value))
            return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    small = pruned(Encoder(Fixed(16, 4), 16, 24), (2, 5, 16))
    before, after, why = rows(small)["attention.query"]
    assert before == after == 16
    assert why.startswith(
        "no attribute found that holds a size in the module's code (4 in attention: view); last trial"
    )


def test_a_module_that_reads_its_own_sizes_is_refused() -> None:
    # The width is in no graph: what the trace shows of it is a number. Only a trial shows that the results differ.
    net = From(lambda m, x: m.b(m.a(x) * m.a.out_features), a=nn.Linear(6, 16), b=nn.Linear(16, 12), c=nn.ReLU())
    chained = nn.Sequential(net, nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    small = pruned(chained, (4, 6))
    before, after, why = rows(small)["0.a"]
    assert before == after == 16
    assert why.startswith("a trial without channels failed: outputs differ by")
    assert rows(small)["1"][1] < 8


def test_buffers_that_are_not_saved_stay() -> None:
    net = From(lambda m, x: m.b(m.a(x) * m.scale), a=nn.Linear(6, 8), b=nn.Linear(8, 12))
    net.register_buffer("scale", torch.rand(8), persistent=False)
    small = pruned(nn.Sequential(net, nn.ReLU(), nn.Linear(12, 3)), (4, 6))
    assert rows(small)["0.a"] == (8, 8, "the buffer '0.scale' is not in the state_dict")


def test_parameters_that_are_not_read_are_named() -> None:
    net = From(lambda m, x: m.b(m.a(x)), a=nn.Linear(6, 8), b=nn.Linear(8, 3), spare=nn.Linear(8, 2))
    assert pruned(net, (4, 6)).report.unused == ("spare.weight", "spare.bias")


def test_nothing_to_prune_is_an_error_with_every_reason() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Softmax(-1), nn.Linear(8, 4))
    with pytest.raises(ValueError, match=r"no channels of net can be removed:\n  0: 1: softmax runs over it\n"):
        prune_channels(taille.TorchModel(net, (torch.randn(2, 8),), name="net"), 0.5)
    with pytest.raises(ValueError, match="no layer with channels was found"):
        prune_channels(taille.TorchModel(nn.ReLU(), (torch.randn(2, 8),)), 0.5)
