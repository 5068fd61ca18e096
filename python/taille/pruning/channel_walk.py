"""Walking an exported program and following channels through its operations.

Each ATen op is a function in a table, registered with `@rule(names)`: it gets the walk and the call, ties together the
labels of its operands, and returns the labels of its result (a list of them for an op with several results). An op
without a function fixes all that it reads, so what is not understood is never cut.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import InputKind

from taille.capture.builder import Call, fake
from taille.capture.export import Exported
from taille.capture.naming import module_of
from taille.capture.symbols import expression
from taille.pruning.channel_labels import Atoms, Label, Labels, Literal

__all__ = ["ONE", "RULES", "Result", "Walk", "canonical_names", "is_one", "rule"]

Result = Labels | list[Labels]
RULES: dict[str, Callable[[Walk, Call], Result]] = {}
IN_PLACE = re.compile(r"^aten\.([a-z]\w*?)_\.(\w+)$")
ONE = "a dimension of size 1"


def rule(*names: str) -> Callable[[Callable[[Walk, Call], Result]], Callable[[Walk, Call], Result]]:
    """Register the rule of ATen ops, by full name: "aten.linear.default"."""

    def register(function: Callable[[Walk, Call], Result]) -> Callable[[Walk, Call], Result]:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def canonical_names(module: nn.Module) -> dict[str, str]:
    """Name of each parameter and buffer -> the first name of the same tensor (tied weights have several)."""
    first: dict[int, str] = {}
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


class Walk:
    """The labels of every value so far."""

    def __init__(self, exported: Exported, module: nn.Module):
        self.atoms = Atoms()
        self.unused: list[str] = []  # parameters that the traced graph does not read
        self._values: dict[fx.Node, Result] = {}
        self._dynamic: set[fx.Node] = set()
        self._node: fx.Node | None = None
        self._add_placeholders(exported, module)

    def _add_placeholders(self, exported: Exported, module: nn.Module) -> None:
        names, saved = canonical_names(module), set(module.state_dict(keep_vars=True))
        made: dict[str, Labels] = {}
        specs = {s.arg.name: s for s in exported.program.graph_signature.input_specs}
        for node in exported.program.graph.nodes:
            if node.op != "placeholder" or not isinstance(node.meta.get("val"), torch.Tensor):
                continue
            target = specs[node.name].target
            name = names.get(target or "", "")
            shape = fake(node).shape
            if specs[node.name].kind == InputKind.USER_INPUT:
                self._dynamic.add(node)
                self._values[node] = reasons(len(shape), f"the input '{exported.inputs[node.name]}' keeps its size")
            elif not name:
                self._values[node] = reasons(len(shape), f"the constant '{target}' is no parameter")
            elif name not in saved and target not in saved:
                self._values[node] = reasons(len(shape), f"the buffer '{name}' is not in the state_dict")
            else:
                if name not in made:
                    made[name] = [self.atoms.axis(name, d, int(s)) for d, s in enumerate(shape)]
                self._values[node] = list(made[name])
                if not node.users and specs[node.name].kind == InputKind.PARAMETER:
                    self.unused.append(name)

    def run(self, graph: fx.Graph) -> None:
        """Follow the channels through all nodes."""
        for node in graph.nodes:
            self._node = node
            if node.op == "output":
                for value in node.all_input_nodes:
                    for labels in self._all(value):
                        self.fix(labels, "the model's output keeps its size")
            elif node.op == "call_function" and holds_tensors(node.meta.get("val")):
                if any(n in self._dynamic for n in node.all_input_nodes):
                    self._dynamic.add(node)
                self._values[node] = self._follow(node)

    def _follow(self, node: fx.Node) -> Result:
        if node.target is operator.getitem:
            parts: Any = self._values[node.args[0]]
            return parts[node.args[1]]  # type: ignore[no-any-return]
        call = Call(node)
        function = find(node)
        return function(self, call) if function else self.refuse(f"{self.where()} is not followed")

    # What the rules use -----------------------------------------------------------------------------------------

    def labels(self, arg: Any) -> Labels:
        """The labels of a tensor argument."""
        found: Any = self._values[arg]
        return list(found)

    def parameters_alone(self, arg: Any) -> bool:
        """Whether a tensor does not depend on the model's inputs."""
        return isinstance(arg, fx.Node) and arg not in self._dynamic

    def where(self) -> str:
        """The current node, for messages: "layer1.0: group_norm"."""
        node = self._node
        if node is None:
            return ""
        path, short = module_of(node)[0], str(node.target).removeprefix("aten.").split(".")[0]
        return f"{path}: {short}" if path else short

    def fix(self, labels: Iterable[Label], why: str) -> None:
        """Keep these dimensions."""
        for label in labels:
            self.atoms.fix(label, why)

    def keep(self, labels: Labels, dims: Iterable[int], why: str) -> Labels:
        """The labels, with these dimensions kept for a reason."""
        kept = list(labels)
        for d in dims:
            if not isinstance(kept[d], str):
                self.atoms.fix(kept[d], why)
                kept[d] = why
        return kept

    def refuse(self, why: str) -> Result:
        """Keep every dimension that the current node reads; the labels of its results."""
        assert self._node is not None
        for value in self._node.all_input_nodes:
            for labels in self._all(value):
                self.fix(labels, why)
        return like(fake(self._node), why)

    def literal(self, label: Label, size: Any) -> None:
        """Note that the module's code gave the size of a dimension as a number."""
        if isinstance(label, str) or not isinstance(size, int) or size < 2 or self._node is None:
            return
        stack = [str(path) for path, _ in (self._node.meta.get("nn_module_stack") or {}).values()]
        modules = tuple(re.sub(r"@\d+", "", path) for path in reversed(stack))
        self.atoms.literals.append(Literal(int(label[0]), size, modules, self.where()))

    def _all(self, node: fx.Node) -> list[Labels]:
        found: Any = self._values.get(node, [])
        return found if found and isinstance(found[0], list) else [found]


def is_one(size: Any) -> bool:
    """Whether a size is 1 whatever the inputs; comparing a dynamic one as a number would ask torch to decide."""
    return bool(expression(size) == 1)


def holds_tensors(value: Any) -> bool:
    """Whether a traced value is a tensor or a list of tensors."""
    if isinstance(value, (list, tuple)):
        return any(isinstance(v, torch.Tensor) for v in value)
    return isinstance(value, torch.Tensor)


def like(value: Any, why: str) -> Result:
    """Labels of kept dimensions for a traced value."""
    if isinstance(value, (list, tuple)):
        return [reasons(v.dim() if isinstance(v, torch.Tensor) else 0, why) for v in value]
    return reasons(value.dim(), why)


def reasons(rank: int, why: str) -> Labels:
    """Labels of so many dimensions that are kept for one reason."""
    return [why for _ in range(rank)]


def find(node: fx.Node) -> Callable[[Walk, Call], Result] | None:
    """The rule of a node's op; that of element-wise ops for all that torch tags so."""
    name = str(node.target)
    in_place = IN_PLACE.match(name)
    plain = f"aten.{in_place[1]}.{in_place[2]}" if in_place else name
    if plain in RULES:
        return RULES[plain]
    return RULES["pointwise"] if torch.Tag.pointwise in getattr(node.target, "tags", ()) else None
