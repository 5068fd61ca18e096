"""How channels pass through operations that change shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import sympy
import torch

from taille.capture.builder import Call, fake
from taille.capture.symbols import expression
from taille.pruning.channel_labels import Indices, Label, Labels
from taille.pruning.channel_walk import ONE, Result, Walk, is_one, reasons, rule

UNKNOWN = 1 << 40  # stands for a size that no example gives
Block = tuple[list[int], list[int]]  # dimensions before, dimensions after, of the same number of elements


def hint(size: Any) -> int:
    """A size as a number: that of the example where it is dynamic, a large one where it depends on data."""
    if isinstance(size, torch.SymInt):
        return int(size.node.hint) if size.node.has_hint() else UNKNOWN
    return int(size)


def blocks(before: torch.Size, after: torch.Size) -> list[Block]:
    """Split two shapes of as many elements into the smallest runs of dimensions that correspond; sizes 1 are left out.

    Sizes of the example say which side to take from next, expressions whether the two sides are the same.
    """
    left, right = ([k for k, s in enumerate(shape) if expression(s) != 1] for shape in (before, after))
    found: list[Block] = []
    i = j = 0
    while i < len(left) or j < len(right):
        ins, outs = left[i : i + 1], right[j : j + 1]
        i, j = i + 1, j + 1
        while True:
            sides = [math.prod(expression(shape[k]) for k in ks) for shape, ks in ((before, ins), (after, outs))]
            if sympy.expand(sides[0] - sides[1]) == 0:
                break
            shorter = math.prod(hint(before[k]) for k in ins) < math.prod(hint(after[k]) for k in outs)
            if i < len(left) and (shorter or j >= len(right)):
                ins, i = [*ins, left[i]], i + 1
            elif j < len(right):
                outs, j = [*outs, right[j]], j + 1
            else:
                break
        found.append((ins, outs))
    return found


@rule(
    "aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.flatten.using_ints",
    "aten.unflatten.int", "aten.view_as.default", "aten.reshape_as.default",
)  # fmt: skip
def reshape(w: Walk, c: Call) -> Labels:
    """Dimensions that merge or split; see `across`."""
    source, after = fake(c["self"]), c.out.shape
    labels: Labels = w.labels(c["self"])
    result = reasons(len(after), ONE)
    for ins, outs in blocks(source.shape, after):
        for k, label in zip(outs, across(w, source.shape, after, labels, (ins, outs)), strict=True):
            result[k] = label
    for k, size in enumerate(written(c, len(after))):
        w.literal(result[k], size)
    return result


def written(c: Call, rank: int) -> list[Any]:
    """The sizes of the result as the module's code gave them; None where it did not."""
    if "unflatten" in str(c.node.target):
        start = c["dim"] % fake(c["self"]).dim()
        return [None] * start + list(c["sizes"]) + [None] * (rank - start - len(c["sizes"]))
    sizes = c.get("shape", c.get("size"))
    return list(sizes) if isinstance(sizes, (list, tuple)) and len(sizes) == rank else [None] * rank


def across(w: Walk, before: torch.Size, after: torch.Size, labels: Labels, block: Block) -> Labels:
    """The labels of the dimensions that a run of dimensions becomes.

    Merged, each element belongs to the channel of the one dimension among them that has channels (a flattened image:
    height times width elements a channel). Split, the channels are what can go as a whole: heads.
    """
    ins, outs = block
    if len(ins) == 1 and len(outs) == 1:
        return [labels[ins[0]]]
    channels = [k for k in ins if not isinstance(labels[k], str)]
    if not channels or not outs:
        reason = next((str(labels[k]) for k in ins if isinstance(labels[k], str)), ONE)
        w.fix((labels[k] for k in ins), f"{w.where()} is not followed")
        return reasons(len(outs), reason)
    sizes = [expression(s) for s in (*(before[k] for k in ins), *(after[k] for k in outs))]
    if not all(s.is_Integer for s in sizes):
        why = f"{w.where()} merges it with a dynamic dimension"
        w.keep(labels, ins, why)
        return reasons(len(outs), why)
    w.keep(labels, channels[1:], f"{w.where()} merges it with other channels")
    shape = [int(before[k]) for k in ins]
    place = [1] * len(ins)
    place[ins.index(channels[0])] = -1
    chosen: Any = labels[channels[0]]
    flat: Indices = np.broadcast_to(chosen.reshape(place), shape).reshape(-1)
    return [flat] if len(outs) == 1 else split(w, flat.reshape([int(after[k]) for k in outs]))


def split(w: Walk, atoms: Indices) -> Labels:
    """The labels of several dimensions over these atoms: one of them takes the channels.

    That is the one that they vary along alone (a flattened image that gets its shape back), else the last but one:
    heads, of [heads, depth] and of [3, heads, depth].
    """
    rank = atoms.ndim
    rows = [np.moveaxis(atoms, k, 0).reshape(atoms.shape[k], -1) for k in range(rank)]
    alone = [k for k in range(rank) if bool((rows[k] == rows[k][:, :1]).all())]
    chosen = alone[0] if alone else rank - 2
    table = rows[chosen]
    w.atoms.unite(np.repeat(table[:, 0], table.shape[1]), table.reshape(-1))
    # Noted where the code leaves the size open as well (-1): the attribute that states it should follow.
    w.literal(table[:, 0], atoms.shape[chosen])
    why = f"{w.where()} splits it: whole blocks are removed"
    return [table[:, 0] if k == chosen else why for k in range(rank)]


@rule("aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.mT.default", "aten.numpy_T.default",
      "aten.swapaxes.default", "aten.movedim.int")  # fmt: skip
def permute(w: Walk, c: Call) -> Labels:
    """Dimensions in another order."""
    labels = w.labels(c["self"])
    rank = len(labels)
    order = list(range(rank))
    name = str(c.node.target)
    if "permute" in name:
        order = [d % rank for d in c["dims"]]
    elif "movedim" in name:
        order.remove(c["source"] % rank)
        order.insert(c["destination"] % rank, c["source"] % rank)
    elif "numpy_T" in name:
        order.reverse()
    elif rank > 1:
        first, second = c.get("dim0", c.get("axis0", -2)), c.get("dim1", c.get("axis1", -1))
        order[first % rank], order[second % rank] = order[second % rank], order[first % rank]
    return [labels[k] for k in order]


@rule("aten.unsqueeze.default")
def unsqueeze(w: Walk, c: Call) -> Labels:
    """A new dimension of size 1."""
    labels = w.labels(c["self"])
    labels.insert(c["dim"] % (len(labels) + 1), ONE)
    return labels


@rule("aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default")
def squeeze(w: Walk, c: Call) -> Labels:
    """Dimensions of size 1 go away."""
    labels, shape = w.labels(c["self"]), fake(c["self"]).shape
    given = c.get("dim")
    dims = [given] if isinstance(given, int) else list(given if given is not None else range(len(labels)))
    gone = {d % len(labels) for d in dims if is_one(shape[d])}
    return [label for k, label in enumerate(labels) if k not in gone]


@rule("aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default")
def expand(w: Walk, c: Call) -> Labels:
    """What is repeated to a size keeps that size."""
    labels, shape, out = w.labels(c["self"]), fake(c["self"]).shape, c.out.shape
    fresh = len(out) - len(labels)
    result: Labels = []
    for k, size in enumerate(out):
        grown = k < fresh or (is_one(shape[k - fresh]) and not is_one(size))
        result.append(f"{w.where()} repeats to {size}" if grown else labels[k - fresh])
    return result


@rule("aten.repeat.default")
def repeat(w: Walk, c: Call) -> Labels:
    """Dimensions that are repeated once pass."""
    labels = w.labels(c["self"])
    fresh = len(c["repeats"]) - len(labels)
    labels = [*reasons(fresh, ONE), *labels]
    many = [k for k, times in enumerate(c["repeats"]) if times != 1]
    kept = w.keep(labels, many, f"{w.where()} repeats it")
    return [f"{w.where()} repeats to its size" if k in many else label for k, label in enumerate(kept)]


@rule("aten.select.int")
def select(w: Walk, c: Call) -> Labels:
    """One index of a dimension, which stays."""
    labels = w.labels(c["self"])
    k = c["dim"] % len(labels)
    w.keep(labels, [k], f"{w.where()} takes index {c['index']} of it")
    return labels[:k] + labels[k + 1 :]


@rule("aten.slice.Tensor")
def slice_(w: Walk, c: Call) -> Labels:
    """A whole dimension passes; one that is cut stays."""
    labels = w.labels(c["self"])
    k = c["dim"] % len(labels)
    size, start, end = fake(c["self"]).shape[k], c["start"] or 0, c["end"]
    whole = isinstance(start, int) and start == 0 and c["step"] == 1 and (
        end is None or (isinstance(end, int) and isinstance(size, int) and end >= size)
    )  # fmt: skip
    if whole:
        if isinstance(end, int) and end == size:
            w.literal(labels[k], end)
        return labels
    return w.keep(labels, [k], f"{w.where()} cuts it")


@rule("aten.cat.default", "aten.concat.default", "aten.concatenate.default")
def cat(w: Walk, c: Call) -> Labels:
    """Channels side by side; the other dimensions are tied together."""
    tensors = [t for t in c["tensors"] if fake(t).dim() > 1 or fake(t).numel() != 0]
    rank = c.out.dim()
    axis = c["dim"] % rank
    result = broadcast_equal(w, tensors, rank, axis)
    parts = [w.labels(t)[axis] for t in tensors]
    if all(isinstance(p, str) for p in parts):
        return result
    sizes = [fake(t).shape[axis] for t in tensors]
    if not all(isinstance(s, int) for s in sizes):
        why = f"{w.where()} joins it with a dynamic size"
        w.fix(parts, why)
        result[axis] = why
        return result
    result[axis] = np.concatenate(
        [w.atoms.constant(s, p) if isinstance(p, str) else p for p, s in zip(parts, sizes, strict=True)]
    )
    return result


def broadcast_equal(w: Walk, tensors: list[Any], rank: int, axis: int) -> Labels:
    """The labels of operands of equal sizes but for one axis, where the first operand's label stands."""
    result = w.labels(tensors[0])
    for tensor in tensors[1:]:
        labels = w.labels(tensor)
        for k in range(rank):
            if k != axis:
                result[k] = w.atoms.join(result[k], labels[k])
    return result


@rule("aten.stack.default")
def stack(w: Walk, c: Call) -> Labels:
    """A new dimension over tensors whose dimensions are tied together."""
    rank = c.out.dim()
    result = broadcast_equal(w, list(c["tensors"]), rank - 1, -1)
    result.insert(c["dim"] % rank, f"{w.where()}: one tensor an index")
    return result


@rule("aten.chunk.default", "aten.split.Tensor", "aten.split_with_sizes.default", "aten.split.sizes")
def chunk(w: Walk, c: Call) -> list[Labels]:
    """Equal parts: the same place of each goes together, so that they stay equal. Unequal parts stay."""
    source = c.get("self", c.get("tensor"))
    labels = w.labels(source)
    k = c["dim"] % len(labels)
    label = labels[k]
    sizes = [part.shape[k] for part in c.out]
    if isinstance(label, str):
        return [list(labels) for _ in sizes]
    if len(set(sizes)) > 1:
        why = f"{w.where()} splits it into unequal parts"
        return [w.keep(labels, [k], why) for _ in sizes]
    parts = label.reshape(len(sizes), -1)
    for part in parts[1:]:
        w.atoms.unite(parts[0], part)
    if "chunk" not in str(c.node.target):
        w.literal(parts[0], int(sizes[0]))
    return [[*labels[:k], part, *labels[k + 1 :]] for part in parts]


@rule("aten.unbind.int")
def unbind(w: Walk, c: Call) -> list[Labels]:
    """A tensor for every index of a dimension, which stays."""
    labels = w.labels(c["self"])
    k = c["dim"] % len(labels)
    w.keep(labels, [k], f"{w.where()} takes each index of it apart")
    return [labels[:k] + labels[k + 1 :] for _ in c.out]


@rule("aten.pad.default", "aten.constant_pad_nd.default", "aten.reflection_pad2d.default",
      "aten.replication_pad2d.default")  # fmt: skip
def pad(w: Walk, c: Call) -> Result:
    """Zeros beside channels stay; what is padded otherwise keeps its size."""
    labels, given = w.labels(c["self"]), list(c.get("pad", c.get("padding")))
    zeros = c.get("mode", "constant") == "constant" and "reflection" not in str(c.node.target)
    for i in range(len(given) // 2):
        k, before, after = len(labels) - 1 - i, given[2 * i], given[2 * i + 1]
        label: Label = labels[k]
        if (isinstance(before, int) and isinstance(after, int) and not before and not after) or isinstance(label, str):
            continue
        why = f"{w.where()} pads to a fixed size"
        if zeros and isinstance(before, int) and isinstance(after, int) and min(before, after) >= 0:
            labels[k] = np.concatenate([w.atoms.constant(before, why), label, w.atoms.constant(after, why)])
        else:
            labels = w.keep(labels, [k], f"{w.where()} pads it")
    return labels
