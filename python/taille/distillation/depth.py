"""A shallower copy of a module: of each stack of equal layers some go, those that stay evenly spaced."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

__all__ = ["Stack", "find_stacks", "shallower"]


@dataclass(frozen=True)
class Stack:
    """Neighbours of one class, form and settings in an nn.ModuleList or nn.Sequential.

    Attributes:
        name: path of the container.   start: index of the first.   count: how many.
    """

    name: str
    start: int
    count: int

    def kept(self, share: float) -> list[int]:
        """Indices in the container of those that stay: the first and, where two or more do, the last among them."""
        left = max(1, round(share * self.count))
        return [self.start + int(i) for i in np.linspace(0, self.count - 1, left).round()]


def find_stacks(module: nn.Module) -> list[Stack]:
    """The outermost stacks of a module, in order."""
    found: list[Stack] = []
    inside: list[str] = []  # layers of stacks: what they are made of is not looked into
    for name, container in module.named_modules():
        if not isinstance(container, (nn.ModuleList, nn.Sequential)) or any(name.startswith(p) for p in inside):
            continue
        for stack in runs(name, container):
            found.append(stack)
            inside += [f"{name}.{i}.".lstrip(".") for i in range(stack.start, stack.start + stack.count)]
    return found


def runs(name: str, container: Any) -> Iterator[Stack]:
    """The stacks of one container."""
    start = 0
    for form, layers in itertools.groupby(container, form_of):
        count = len(list(layers))
        if count > 1 and form[2]:
            yield Stack(name, start, count)
        start += count


def form_of(layer: nn.Module) -> tuple[Any, ...]:
    """What equal layers have in common; the text of a module holds strides, paddings and rates of dropout."""
    return type(layer), repr(layer), tuple((n, tuple(p.shape), p.dtype) for n, p in layer.named_parameters())


def shallower(module: nn.Module, share: float, name: str) -> tuple[nn.Module, dict[str, Any]]:
    """Copy a module without some layers of its stacks.

    Layers that stay are copied with their weights, evenly spaced (as DistilBERT's: Sanh et al. 2019, arXiv:1910.01108).

    Args:
        module: stays as it is.
        share: of the layers of each stack that stays, in (0, 1]; one at least.
        name: of the model, for messages.

    Returns:
        The copy, and what the recipe records.

    Raises:
        ValueError: there is no stack.
    """
    stacks = find_stacks(module)
    if not stacks:
        containers = [n or type(m).__name__ for n, m in module.named_modules()
                      if isinstance(m, (nn.ModuleList, nn.Sequential))]  # fmt: skip
        held = f"its containers are {', '.join(containers)}" if containers else "it has neither"
        raise ValueError(
            f"depth is {share}, but {name} has no stack of equal layers to shorten: wanted an nn.ModuleList or "
            f"nn.Sequential with neighbours of one class and form ({held})"
        )
    small, record = copy.deepcopy(module), {}
    for stack in reversed(stacks):  # from the end: indices before it stay
        kept = stack.kept(share)
        container: Any = small.get_submodule(stack.name)
        for i in reversed(range(stack.start, stack.start + stack.count)):
            if i not in kept:
                del container[i]
        record[f"{stack.name}[{stack.start}:{stack.start + stack.count}]"] = kept
    return small, {"step": "depth", "depth": share, "kept": dict(reversed(record.items()))}
