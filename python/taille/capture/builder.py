"""Walking the nodes of an exported program and building the native graph.

Each ATen op is a function in a table, registered with `@op(names)`. It gets the builder and the call (arguments bound
to the schema's names) and returns the native value it made, or a list of them for an op with several outputs. It
raises `Unsupported` for a form it cannot express; all such nodes are reported in one CaptureError.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from taille.capture.constants import Constants
from taille.capture.naming import Namer, describe_call, source_of
from taille.capture.outputs import add_outputs
from taille.capture.symbols import Unsupported, dim
from taille.errors import CaptureError

if TYPE_CHECKING:
    from taille import _native
    from taille.capture.export import Exported

__all__ = ["Builder", "Call", "build", "op"]

Result = int | list[int]
TABLE: dict[str, Callable[[Builder, Call], Result]] = {}
# int32 is computed in int64: the values are the same short of overflow.
DTYPES = {torch.float32: "float32", torch.int64: "int64", torch.int32: "int64", torch.bool: "bool"}
IN_PLACE = re.compile(r"^aten\.([a-z]\w*?)_\.(\w+)$")
IGNORED = ("aten._assert", "aten.sym_", "aten._guards", "aten.assert")


def op(*names: str) -> Callable[[Callable[[Builder, Call], Result]], Callable[[Builder, Call], Result]]:
    """Register the builder of ATen ops, by full name: "aten.linear.default"."""

    def register(function: Callable[[Builder, Call], Result]) -> Callable[[Builder, Call], Result]:
        for name in names:
            if name in TABLE:
                raise ValueError(f"{name} is registered twice")
            TABLE[name] = function
        return function

    return register


class Call:
    """One call of an ATen op: `call["weight"]` is the argument of that name, defaults included."""

    def __init__(self, node: fx.Node):
        self.node = node
        self.out: Any = node.meta.get("val")
        self._args: dict[str, Any] = {}
        schema = getattr(node.target, "_schema", None)
        for i, arg in enumerate(schema.arguments if schema else ()):
            given = node.args[i] if i < len(node.args) and not arg.kwarg_only else arg.default_value
            self._args[arg.name] = node.kwargs.get(arg.name, given)

    def __getitem__(self, name: str) -> Any:
        return self._args[name]

    def __contains__(self, name: str) -> bool:
        return name in self._args

    def get(self, name: str, default: Any = None) -> Any:
        """The argument of that name, or `default` where the op has none."""
        return self._args.get(name, default)


def find(node: fx.Node) -> Callable[[Builder, Call], Result] | None:
    """The function of the table for a node's op; an in-place op is built as the op it is named after."""
    name = str(node.target)
    in_place = IN_PLACE.match(name)
    return TABLE.get(name) or (TABLE.get(f"aten.{in_place[1]}.{in_place[2]}") if in_place else None)


def fake(arg: Any) -> Any:
    """What an argument was while tracing: a fake tensor, a size, or the number itself."""
    return arg.meta["val"] if isinstance(arg, fx.Node) else arg


class Builder:
    """The native graph under construction, and the native value of every node so far."""

    def __init__(self, exported: Exported, graph: _native.Graph):
        self.graph = graph
        self.exported = exported
        self.constants = Constants(exported.program, graph)
        self.names = Namer(set(exported.inputs.values()))
        self.values: dict[fx.Node, Result] = {}
        self._constants: dict[tuple[fx.Node, str | None], int] = {}
        self._base = self._source = ""

    def build_inputs(self) -> None:
        """Add the model's inputs, under the user's names."""
        for node in self.exported.program.graph.nodes:
            if node.op == "placeholder" and node.name in self.exported.inputs:
                value = node.meta["val"]
                name = self.exported.inputs[node.name]
                self.values[node] = self.graph.add_input(name, DTYPES[value.dtype], self.dims(value.shape))

    def build_node(self, node: fx.Node) -> None:
        """Build one node with the function that the table holds for its op."""
        if node.target is operator.getitem:
            parts = self.values[node.args[0]]
            self.values[node] = parts[node.args[1]] if isinstance(parts, list) else parts
            return
        self._base, self._source = self.names.base(node), source_of(node)
        function = find(node)
        if function is None:
            raise Unsupported("")
        call = Call(node)
        self.check_dtypes(call)
        result = function(self, call)
        if isinstance(result, int) and isinstance(call.out, torch.Tensor):
            result = self.cast(result, DTYPES[call.out.dtype])
        self.values[node] = result

    def knows(self, node: fx.Node) -> bool:
        """Whether the table has the node's op."""
        return node.target is operator.getitem or find(node) is not None

    def lacks(self, node: fx.Node) -> bool:
        """Whether a node should have a native value and has none."""
        return node not in self.values and needs_value(node) and self.constants.is_dynamic(node)

    def check_dtypes(self, call: Call) -> None:
        """Refuse tensors of dtypes that the native engine has no form for."""
        for value in (*(fake(n) for n in call.node.all_input_nodes), call.out):
            if isinstance(value, torch.Tensor) and value.dtype not in DTYPES:
                if isinstance(value, torch.Tensor) and value.dim() == 0 and value.dtype == torch.float64:
                    continue  # a number; it does not widen float32 tensors
                raise Unsupported(f"{str(value.dtype).removeprefix('torch.')} tensors")

    # What the functions of the table use ------------------------------------------------------------------------

    def value(self, arg: Any, dtype: str | None = None) -> int:
        """The native value of a tensor argument or a Python number, cast to `dtype` where given."""
        if isinstance(arg, fx.Node) and isinstance(arg.meta.get("val"), (torch.SymInt, torch.SymFloat, int, float)):
            raise Unsupported("a size used as a number in arithmetic")
        if isinstance(arg, fx.Node):
            if arg not in self.values and not self.constants.is_dynamic(arg):
                return self._constant_of(arg, dtype)
            result = self.values[arg]
            if not isinstance(result, int):
                raise Unsupported(f"the list '{arg.name}' where a tensor is wanted")
            return self.cast(result, dtype) if dtype else result
        if isinstance(arg, (bool, int, float)):
            kind = dtype or ("bool" if isinstance(arg, bool) else "int64" if isinstance(arg, int) else "float32")
            return self.constants.number(arg, kind)
        raise Unsupported(f"the argument {arg!r}")

    def _constant_of(self, node: fx.Node, dtype: str | None) -> int:
        if (node, dtype) not in self._constants:
            name = self.constants.targets.get(node) or f"{self.names.base(node)}.constant"
            tensor = self.constants.evaluate(node)
            self._constants[node, dtype] = self.constants.tensor(tensor, self.names.unique(name), dtype)
        return self._constants[node, dtype]

    def optional(self, arg: Any) -> int:
        """The native value of an optional tensor argument, -1 where it is None."""
        return -1 if arg is None else self.value(arg)

    def static(self, arg: Any) -> torch.Tensor | None:
        """The tensor itself where the argument does not depend on the model's inputs, else None."""
        if isinstance(arg, fx.Node) and not self.constants.is_dynamic(arg):
            result = self.constants.evaluate(arg)
            return result if isinstance(result, torch.Tensor) else None
        return None

    def constant(self, tensor: torch.Tensor, suffix: str = "constant") -> int:
        """A new constant."""
        return self.constants.tensor(tensor, self.names.unique(f"{self._base}.{suffix}"), None)

    def emit(self, op_name: str, inputs: Sequence[int], attrs: dict[str, Any] | None = None, suffix: str = "") -> int:
        """Append a node. The main node of a call has no suffix and takes the call's own name."""
        name = self.names.unique(f"{self._base}.{suffix}" if suffix else self._base)
        try:
            return self.graph.add_node(op_name, list(inputs), attrs or {}, name=name, source=self._source)
        except ValueError as error:
            raise Unsupported(str(error)) from None

    def dtype(self, value: int) -> str:
        """The dtype of a native value."""
        return self.graph.value(value)[1]

    def cast(self, value: int, dtype: str) -> int:
        """`value` in another dtype; itself where it has that dtype already."""
        return value if self.dtype(value) == dtype else self.emit("cast", [value], {"dtype": dtype}, "cast")

    def reshape(self, value: int, shape: Sequence[Any], suffix: str = "") -> int:
        """`value` in another shape; itself where it has that shape already."""
        dims = self.dims(shape)
        if list(self.graph.value(value)[2]) == dims:
            return value
        return self.emit("reshape", [value], {"shape": dims}, suffix)

    def dims(self, shape: Sequence[Any]) -> list[int | str]:
        """A traced shape as the native graph takes it."""
        return [dim(s, self.exported.symbols) for s in shape]

    def integer(self, arg: Any, what: str) -> int:
        """An argument that must be a plain number."""
        size = fake(arg)
        if isinstance(size, torch.SymInt) and size.node.expr.is_Integer:
            size = int(size.node.expr)
        if not isinstance(size, int):
            raise Unsupported(f"{what} that depends on a dynamic size")
        return size

    def stand_in(self, node: fx.Node) -> None:
        """Give a node that cannot be built a value of the right dtype and shape, so that the walk goes on."""
        out = node.meta.get("val")
        try:
            made = []
            for tensor in out if isinstance(out, (list, tuple)) else [out]:
                attrs = {"shape": self.dims(tensor.shape), "value": 0.0, "dtype": DTYPES[tensor.dtype]}
                made.append(self.emit("full", [], attrs))
        except (Unsupported, KeyError, AttributeError):
            return
        self.values[node] = made if isinstance(out, (list, tuple)) else made[0]


def build(exported: Exported) -> _native.Graph:
    """Build the native graph of an exported program.

    Raises:
        taille.CaptureError: nodes are not supported; the message lists every one.
    """
    from taille import _native

    builder = Builder(exported, _native.Graph())
    builder.build_inputs()
    graph = exported.program.graph
    aliased = aliased_mutations(graph)
    live = live_nodes(graph)
    problems: list[str] = []

    def report(node: fx.Node, why: str) -> None:
        problems.append(describe_call(node, exported.symbols, why))

    for node in graph.nodes:
        if node in aliased:
            report(node, aliased[node])
        if node not in live or not needs_value(node) or not builder.constants.is_dynamic(node):
            continue
        if any(builder.lacks(n) for n in node.all_input_nodes):
            if not builder.knows(node):  # it follows a node that was reported and has no stand-in
                report(node, "")
            continue
        try:
            builder.build_node(node)
        except Unsupported as why:
            report(node, str(why))
            builder.stand_in(node)
    if problems:
        count = "1 node of the model is" if len(problems) == 1 else f"{len(problems)} nodes of the model are"
        raise CaptureError("\n".join([f"{count} not supported:", *problems]))
    add_outputs(builder)
    return builder.graph


def needs_value(node: fx.Node) -> bool:
    """Whether a node computes tensors (rather than sizes, checks, or nothing)."""
    if node.op != "call_function" or str(node.target).startswith(IGNORED):
        return False
    value = node.meta.get("val")
    return value is not None and (
        isinstance(value, (torch.Tensor, list, tuple)) or str(node.target).startswith("aten.")
    )


def live_nodes(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the outputs need."""
    live: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node.op == "output" or node in live:
            live.update(node.all_input_nodes)
    return live


def aliased_mutations(graph: fx.Graph) -> dict[fx.Node, str]:
    """In-place nodes whose effect is seen through another view of the same tensor: those cannot be captured.

    The trace is not functional: `y = x[0]; y.add_(1); return x` has no edge from add_ to the output. An in-place op
    whose result is used in place of the old tensor everywhere is fine (relu_ after a convolution).
    """
    order = {node: i for i, node in enumerate(graph.nodes)}
    root: dict[fx.Node, fx.Node] = {}
    members: dict[fx.Node, list[fx.Node]] = {}
    mutations: list[fx.Node] = []
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        alias = schema.arguments[0].alias_info if schema and schema.arguments else None
        shares = first is not None and (alias is not None or node.target is operator.getitem)
        root[node] = root[first] if shares and first is not None else node
        members.setdefault(root[node], []).append(node)
        if shares and alias is not None and alias.is_write:
            mutations.append(node)
    found = {}
    for node in mutations:
        own = {node}  # the result and its views
        for other in members[root[node]]:
            if other.args and other.args[0] in own and order[other] > order[node]:
                own.add(other)
        external = root[node].op == "placeholder"
        others = [m for m in members[root[node]] if m not in own]
        if external:
            found[node] = "it changes an input or a weight in place"
        elif any(order[user] > order[node] for m in others for user in m.users):
            found[node] = "an in-place change of a tensor that is also used through another view"
    return found
