"""How layers and element-wise operations tie channels together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from taille.capture.builder import Call, fake
from taille.pruning.channel_labels import Label, Labels
from taille.pruning.channel_walk import ONE, RULES, Result, Walk, is_one, rule


@rule("pointwise", "aten.hardswish.default", "aten.log_sigmoid.default", "aten.__and__.Tensor", "aten.__or__.Tensor")
def pointwise(w: Walk, c: Call) -> Labels:
    """Operands broadcast against one another; dimensions of size 1 tie nothing."""
    operands = [n for n in c.node.all_input_nodes if isinstance(fake(n), torch.Tensor)]
    return broadcast(w, operands, c.out.dim())


def broadcast(w: Walk, operands: Sequence[fx.Node], rank: int, skip: int = 0) -> Labels:
    """The labels of the leading `rank` dimensions, `skip` dimensions at the end of each operand left out."""
    result: Labels = []
    for axis in range(rank):
        label: Label | None = None
        for operand in operands:
            k = axis - rank + fake(operand).dim() - skip
            if k < 0 or is_one(fake(operand).shape[k]):
                continue
            own = w.labels(operand)[k]
            label = own if label is None else w.atoms.join(label, own)
        result.append(ONE if label is None else label)
    return result


@rule(
    "aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default", "aten.contiguous.default",
    "aten.clone.default", "aten.detach.default", "aten.alias.default", "aten.lift_fresh_copy.default",
    "aten._to_copy.default", "aten.to.dtype", "aten.to.device", "aten.to.dtype_layout", "aten.to.other",
    "aten.type_as.default", "aten.zeros_like.default", "aten.ones_like.default", "aten.full_like.default",
)  # fmt: skip
def same(w: Walk, c: Call) -> Labels:
    """As the first operand."""
    return w.labels(c.node.args[0])


@rule("aten.prelu.default")
def prelu(w: Walk, c: Call) -> Labels:
    """A slope per channel, or one for all."""
    labels = w.labels(c["self"])
    if fake(c["weight"]).numel() > 1 and len(labels) > 1:
        labels[1] = w.atoms.join(labels[1], w.labels(c["weight"])[0])
    return labels


def produce(w: Walk, weight: Any, dim: int) -> Label:
    """The channels that a weight makes along one of its dimensions."""
    label = w.labels(weight)[dim]
    if not isinstance(label, str) and w.parameters_alone(weight):
        w.atoms.produced.append(label)
    return label


def consume(w: Walk, source: Label, weight: Any, dim: int) -> None:
    """The channels that a weight sums over."""
    label = w.labels(weight)[dim]
    w.atoms.join(source, label)
    if not isinstance(label, str):
        w.atoms.consumed.append(label)


def add_bias(w: Walk, out: Label, bias: Any) -> Label:
    """Tie the bias to the channels it is added to."""
    return out if bias is None or is_one(fake(bias).shape[-1]) else w.atoms.join(out, w.labels(bias)[-1])


@rule("aten.linear.default")
def linear(w: Walk, c: Call) -> Result:
    """Rows of the weight make channels, columns sum over them."""
    if not w.parameters_alone(c["weight"]) or fake(c["weight"]).dim() != 2:
        return w.refuse(f"{w.where()} has a weight that depends on the inputs")
    labels = w.labels(c["input"])
    consume(w, labels[-1], c["weight"], 1)
    return [*labels[:-1], add_bias(w, produce(w, c["weight"], 0), c["bias"])]


@rule("aten.matmul.default", "aten.bmm.default", "aten.mm.default", "aten.addmm.default")
def matmul(w: Walk, c: Call) -> Result:
    """A product with a parameter is a layer; between activations, only heads and batches are followed."""
    left, right = (c["mat1"], c["mat2"]) if "mat1" in c else (c["self"], c["other"] if "other" in c else c["mat2"])
    if fake(left).dim() < 2 or fake(right).dim() < 2:
        return w.refuse(f"{w.where()} has an operand of one dimension")
    x, y = w.labels(left), w.labels(right)
    if w.parameters_alone(right) and fake(right).dim() == 2:
        consume(w, x[-1], right, 0)
        out: Labels = [*x[:-1], produce(w, right, 1)]
    else:
        why = f"{w.where()} sums over it in a product of two activations"
        w.fix((x[-1], y[-2]), why)
        out = [*broadcast(w, (left, right), c.out.dim() - 2, skip=2), x[-2], y[-1]]
    if "mat1" in c:
        out[-1] = add_bias(w, out[-1], c["self"])
        w.fix(w.labels(c["self"])[:-1], f"{w.where()} adds it")
    return out


@rule(
    *(f"aten.conv{n}d.{kind}" for n in (1, 2, 3) for kind in ("default", "padding")),
    "aten.conv_transpose1d.default", "aten.conv_transpose2d.input", "aten.conv_transpose3d.input",
)  # fmt: skip
def convolution(w: Walk, c: Call) -> Result:
    """Filters make channels; in grouped and depthwise convolutions whole groups are followed."""
    weight, groups = c["weight"], int(c["groups"])
    spatial = fake(weight).dim() - 2
    labels = w.labels(c["input"])
    if not w.parameters_alone(weight) or len(labels) != spatial + 2:
        return w.refuse(f"{w.where()} has a weight that depends on the inputs, or no batch dimension")
    labels = w.keep(labels, range(2, spatial + 2), f"{w.where()} takes it for a spatial dimension")
    out_dim, in_dim = (1, 0) if "conv_transpose" in str(c.node.target) else (0, 1)
    if groups == 1:
        consume(w, labels[1], weight, in_dim)
        out = produce(w, weight, out_dim)
    else:
        out = grouped(w, labels[1], w.labels(weight), groups, transposed=out_dim == 1)
    out = add_bias(w, out, c["bias"])
    return [labels[0], out, *(["a spatial dimension"] * spatial)]


def grouped(w: Walk, source: Label, weight: Labels, groups: int, *, transposed: bool) -> Label:
    """Tie the inputs and outputs of each group of a convolution; `weight` is [outputs, inputs / groups, ...]."""
    across, inner = weight[0], weight[1]
    why = f"{w.where()} has {groups} groups; whole groups are removed"
    w.atoms.fix(inner, why)
    if isinstance(source, str) or isinstance(across, str):
        w.atoms.join(source, across)
        if not transposed:
            return source if isinstance(source, str) else why
        return why
    x, z = source.reshape(groups, -1), across.reshape(groups, -1)
    for block in (x, z):
        w.atoms.unite(block[:, :1].repeat(block.shape[1], 1).ravel(), block.ravel())
    w.atoms.unite(x[:, 0], z[:, 0])
    if not transposed:
        return across
    per_group = len(inner)  # a transposed weight is [inputs, outputs / groups, ...]
    return x[:, :1].repeat(per_group, 1).ravel()


@rule("aten.batch_norm.default", "aten.instance_norm.default")
def batch_norm(w: Walk, c: Call) -> Result:
    """A scale, an offset and statistics per channel."""
    labels = w.labels(c["input"])
    tensors = [c[n] for n in ("weight", "bias", "running_mean", "running_var") if c[n] is not None]
    if not tensors:
        return w.keep(labels, [1], f"{w.where()} has neither weights nor statistics")
    for tensor in tensors:
        labels[1] = w.atoms.join(labels[1], w.labels(tensor)[0])
    return labels


@rule("aten.layer_norm.default", "aten.rms_norm.default")
def layer_norm(w: Walk, c: Call) -> Result:
    """Channels may go, but the statistics are then those of the others: the function changes by more than zeros."""
    labels, count = w.labels(c["input"]), len(c["normalized_shape"])
    tensors = [c.get(n) for n in ("weight", "bias") if c.get(n) is not None]
    for k in range(len(labels) - count, len(labels)):
        if not tensors:
            labels = w.keep(labels, [k], f"{w.where()} has no weights that would say its size")
        for tensor in tensors:
            labels[k] = w.atoms.join(labels[k], w.labels(tensor)[k - len(labels) + count])
        if tensors and not isinstance(labels[k], str):
            own = w.labels(tensors[0])[k - len(labels) + count]
            if not isinstance(own, str):
                w.atoms.normalised.append(own)
    return labels


@rule("aten.group_norm.default")
def group_norm(w: Walk, _: Call) -> Result:
    """Refused: the channels of a group share their statistics."""
    return w.refuse(f"{w.where()} normalises over groups of channels, which would change with their number")


@rule("aten.embedding.default")
def embedding(w: Walk, c: Call) -> Labels:
    """Columns of the table are channels; its rows are what is looked up."""
    w.fix(w.labels(c["weight"])[:1], f"{w.where()}: rows of the table are looked up")
    return [*w.keep(w.labels(c["indices"]), range(fake(c["indices"]).dim()), f"{w.where()} looks it up"),
            produce(w, c["weight"], 1)]  # fmt: skip


@rule("aten.scaled_dot_product_attention.default")
def attention(w: Walk, c: Call) -> Result:
    """Heads go together in queries, keys and values; the depth of queries and keys stays."""
    if c.get("enable_gqa"):
        return w.refuse(f"{w.where()} shares keys between heads (enable_gqa)")
    query, key, value = (w.labels(c[n]) for n in ("query", "key", "value"))
    w.fix((query[-1], key[-1]), f"{w.where()}: its scale depends on the depth of queries and keys")
    w.fix((query[-2], key[-2], value[-2]), f"{w.where()} takes it for the sequence")
    leading = broadcast(w, [c["query"], c["key"], c["value"]], len(query) - 2, skip=2)
    mask = c["attn_mask"]
    if mask is not None:
        own = w.labels(mask)
        w.fix(own[-2:], f"{w.where()} takes it for the sequence")
        for k in range(1, min(len(own), len(query)) - 1):
            if not is_one(fake(mask).shape[-2 - k]):
                leading[-k] = w.atoms.join(leading[-k], own[-2 - k])
    return [*leading, "a sequence", value[-1]]


REDUCED = [
    "mean.dim", "mean.default", "sum.dim_IntList", "sum.default", "amax.default", "amin.default", "max.dim", "min.dim",
    "max.default", "min.default", "var.correction", "var.dim", "std.correction", "prod.dim_int", "logsumexp.default",
    "argmax.default", "any.dim", "all.dim", "norm.ScalarOpt_dim", "linalg_vector_norm.default",
]  # fmt: skip


@rule(*(f"aten.{name}" for name in REDUCED))
def reduction(w: Walk, c: Call) -> Result:
    """Other dimensions pass; one that is reduced stays, since every channel has a part in the result."""
    source = next(n for n in c.node.all_input_nodes if isinstance(fake(n), torch.Tensor))
    labels, rank = w.labels(source), fake(source).dim()
    given = c.get("dim")
    dims = [given] if isinstance(given, int) else list(given or range(rank))
    axes = {d % rank for d in dims} if rank else set()
    labels = w.keep(labels, axes, f"{w.where()} runs over it")
    kept = [ONE if k in axes else label for k, label in enumerate(labels) if c.get("keepdim") or k not in axes]
    return [list(kept) for _ in c.out] if isinstance(c.out, (tuple, list)) else kept


@rule("aten.softmax.int", "aten._softmax.default", "aten.log_softmax.int", "aten.cumsum.default")
def along_axis(w: Walk, c: Call) -> Labels:
    """One axis stays; the others pass."""
    labels = w.labels(c["self"])
    return w.keep(labels, [c["dim"] % len(labels)], f"{w.where()} runs over it")


@rule("aten.glu.default")
def glu(w: Walk, c: Call) -> Labels:
    """The halves go together."""
    labels = w.labels(c["self"])
    k = c["dim"] % len(labels)
    label = labels[k]
    if not isinstance(label, str):
        first, second = label.reshape(2, -1)
        labels[k] = w.atoms.join(first, second)
    return labels


def spatial_rule(dims: int) -> None:
    """Register pooling and interpolation over the last `dims` dimensions."""
    names = [f"{kind}_pool{dims}d.default" for kind in ("max", "avg", "adaptive_avg", "adaptive_max", "lp")]
    names += [f"max_pool{dims}d_with_indices.default", f"_adaptive_avg_pool{dims}d.default"]
    kinds = ("nearest", "linear", "bilinear", "bicubic", "trilinear")
    names += [f"upsample_{kind}{dims}d.{form}" for kind in kinds for form in ("vec", "default")]

    def spatial(w: Walk, c: Call) -> Result:
        source = c.node.args[0]
        labels = w.labels(source)
        labels = w.keep(labels, range(len(labels) - dims, len(labels)), f"{w.where()} takes it for a spatial dimension")
        return [list(labels) for _ in c.out] if isinstance(c.out, (tuple, list)) else labels

    RULES.update({f"aten.{name}": spatial for name in names})


for _dims in (1, 2, 3):
    spatial_rule(_dims)
