"""Trials: whether the smaller module computes what the dense one does with zeros, and which attributes hold sizes.

Tracing sees `view(b, t, 4, 8)`, not which attribute the 4 came from. So attributes of that value are tried, those that
are called heads first, until the smaller module agrees with the masked dense one on the example inputs. What agrees
with none of them is refused.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from taille.pruning.channel_groups import ChannelGroup
from taille.pruning.channel_labels import Indices
from taille.pruning.channel_surgery import Attributes, Cuts, can_mask, cut, masked
from taille.torch_model import arrange, eval_mode

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["Trials", "difference"]

log = logging.getLogger(__name__)

TOLERANCE = 1e-3  # of the largest output; other orders of summation differ by far less, a wrong cut by far more
HEADS = re.compile(r"(^|_)(n|num|nr|n_?)?_?(attention_|attn_|self_attention_)?heads?$|^h$|^nheads?$", re.IGNORECASE)
WIDTHS = re.compile(r"all_head_size|inner_dim|attention_dim|qkv_dim|attn_dim", re.IGNORECASE)
MOST_SINGLE = 12  # attributes tried one by one

Names = tuple[tuple[str, str], ...]  # (module path, attribute)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """The tensors in a module's arranged outputs, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [tensor for v in values for tensor in tensors_in(v)]


class Trials:
    """Runs modules on the example inputs of a model."""

    def __init__(self, model: TorchModel):
        self.model = model
        self.failure = ""  # of the last trial

    def run(self, module: nn.Module) -> list[torch.Tensor]:
        """The outputs of `module`, in eval mode."""
        examples = self.model.examples
        with eval_mode(module), torch.no_grad():
            outputs = module(**examples) if self.model.by_keyword else module(*examples.values())
        return tensors_in(arrange(outputs, as_numpy=False))

    def agree(self, cuts: Cuts, attributes: Attributes) -> bool:
        """Whether the smaller module runs and agrees with the dense one with zeros; `failure` says what was wrong.

        Where norms over channels cannot be masked, whether its outputs have the right shapes and are finite.
        """
        try:
            found = self.run(cut(self.model.module, cuts, attributes))
        except Exception as error:  # the user's forward may raise anything once its sizes are wrong
            self.failure = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            return False
        exact = all(can_mask(self.model.module, group) for group, _ in cuts)
        wanted = self.run(masked(self.model.module, cuts) if exact else self.model.module)
        self.failure = difference(found, wanted, exact=exact)
        return not self.failure

    def attributes(self, groups: Sequence[ChannelGroup]) -> tuple[list[ChannelGroup], dict[int, Names]]:
        """Find the attributes that hold sizes which change with groups.

        Returns:
            The groups, those refused whose sizes no attribute holds; and by index of the group its attributes.
        """
        found: dict[int, Names] = {}
        open_groups = [i for i, g in enumerate(groups) if not g.why and g.literals and g.units > 1]
        first = {i: next(self.candidates(groups[i])) for i in open_groups}
        cuts = [(groups[i], np.array([0])) for i in open_groups]
        if open_groups and self.agree(cuts, self.values([(g, u, first[i]) for i, (g, u) in
                                                         zip(open_groups, cuts, strict=True)])):  # fmt: skip
            return list(groups), first
        result = list(groups)
        for i in open_groups:
            units = np.array([0])
            for names in self.candidates(groups[i]):
                if self.agree([(groups[i], units)], self.values([(groups[i], units, names)])):
                    found[i] = names
                    break
            else:
                result[i] = groups[i].refused(self.explain(groups[i]))
                log.info("%s: %s", result[i].name, result[i].why)
        return result, found

    def explain(self, group: ChannelGroup) -> str:
        """Why a group with sizes in the module's code is refused."""
        places = ", ".join(dict.fromkeys(f"{lit.size} in {lit.where}" for lit in group.literals))
        return f"no attribute found that holds a size in the module's code ({places}); last trial: {self.failure}"

    def values(self, chosen: Sequence[tuple[ChannelGroup, Indices, Names]]) -> Attributes:
        """What the attributes become when these units of the groups go."""
        result: Attributes = {}
        for group, gone, names in chosen:
            for path, name in names:
                now = int(getattr(self.model.module.get_submodule(path), name))
                result.setdefault(path, {})[name] = now // group.units * (group.units - len(gone))
        return result

    def candidates(self, group: ChannelGroup) -> Iterator[Names]:
        """Sets of attributes that may hold the sizes of a group, the likeliest first."""
        near: list[tuple[str, str]] = []
        far: list[tuple[str, str]] = []
        for literal in group.literals:
            own = [list(self.holders(path, group)) for path in literal.modules]
            filled = [names for names in own if names]
            near += filled[0] if filled else []
            far += [pair for names in filled[1:] for pair in names]
        near, far = list(dict.fromkeys(near)), [p for p in dict.fromkeys(far) if p not in near]
        heads = [p for p in near if self.is_heads(p, group)]
        every = [*near, *far]
        singles = every[:MOST_SINGLE]
        widths = [p for p in every if self.value(p) != group.units]
        sets = [heads, [], [p for p in every if self.is_heads(p, group)], [*heads, *(p for p in widths if p in near)],
                [*heads, *widths], near, every, *([p] for p in singles),
                *(list(pair) for pair in itertools.combinations(singles, 2))]  # fmt: skip
        yield from dict.fromkeys(tuple(dict.fromkeys(s)) for s in sets)

    def value(self, pair: tuple[str, str]) -> int:
        """What an attribute holds now."""
        return int(getattr(self.model.module.get_submodule(pair[0]), pair[1]))

    def is_heads(self, pair: tuple[str, str], group: ChannelGroup) -> bool:
        """Whether an attribute's name says that it holds the number of units, or the width of all."""
        pattern = HEADS if self.value(pair) == group.units else WIDTHS
        return bool(pattern.search(pair[1]))

    def holders(self, path: str, group: ChannelGroup) -> Iterator[tuple[str, str]]:
        """Attributes of a module that hold the number of a group's units, or the width of all."""
        try:
            module = self.model.module.get_submodule(path)
        except AttributeError:
            return
        if type(module).__module__.startswith("torch.nn.modules.") and not isinstance(module, nn.Unflatten):
            return  # their sizes follow their tensors
        sizes = {group.units, group.units * group.width, *(lit.size for lit in group.literals)}
        for name, value in vars(module).items():
            if type(value) is int and value in sizes and value % group.units == 0 and not name.startswith("_"):
                yield path, name


def difference(found: list[torch.Tensor], wanted: list[torch.Tensor], *, exact: bool) -> str:
    """How the outputs of two modules differ, or ""."""
    if [f.shape for f in found] != [w.shape for w in wanted]:
        shapes = ("; ".join(str(tuple(t.shape)) for t in tensors) for tensors in (found, wanted))
        return "the outputs have shapes {}, not {}".format(*shapes)
    for f, w in zip(found, wanted, strict=True):
        if not f.is_floating_point():
            if exact and not torch.equal(f, w):
                return "outputs of whole numbers differ"
            continue
        if bool((torch.isfinite(f) != torch.isfinite(w)).any()):
            return "outputs are not finite"
        scale = float(torch.nan_to_num(w).abs().max()) if w.numel() else 0.0
        error = float(torch.nan_to_num(f - w).abs().max()) if f.numel() else 0.0
        if exact and error > TOLERANCE * scale + 1e-7:
            return f"outputs differ by {error:.3g} of {scale:.3g} from those that are wanted"
    return ""
