"""Which nodes a user's `ignore` names: by name, shell pattern, regular expression, op, or class of module."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from taille import _native

__all__ = ["Ignored", "ignored_names", "ignored_nodes", "text_of"]

Ignored = str | re.Pattern[str] | type[Any]  # a class is one of nn.Module
REGEX = "re:"  # begins a string that is a regular expression


def ignored_nodes(graph: _native.Graph, module: nn.Module, ignore: Sequence[Ignored]) -> list[str]:
    """The names of the graph's nodes that the entries of `ignore` match; see `ignored_names`."""
    return ignored_names({str(n["name"]): str(n["op"]) for n in graph.nodes}, module, ignore)


def ignored_names(nodes: dict[str, str], module: nn.Module, ignore: Sequence[Ignored], what: str = "node") -> list[str]:
    """The names in `nodes` (name -> op) that the entries of `ignore` match, in the order of the entries.

    A string is a name; else an op ("conv2d"); else, after "re:", a regular expression; else a shell pattern.
    Regular expressions match the whole name. A class of modules matches the nodes that came from modules of it. `what`
    is how messages call a node.

    Raises:
        TypeError: an entry is none of these.
        ValueError: an entry that matches no node, or a regular expression with a mistake.
    """
    found: dict[str, None] = {}
    for entry in ignore:
        matches = match(entry, nodes, module)
        if not matches:
            raise ValueError(f"ignore: {absent(entry, what)}; the {what}s are {', '.join(nodes)}")
        found |= dict.fromkeys(matches)
    return list(found)


def match(entry: Ignored, nodes: dict[str, str], module: nn.Module) -> list[str]:
    """The names in `nodes` (name -> op) that one entry matches."""
    from torch import nn

    if isinstance(entry, type) and issubclass(entry, nn.Module):
        return nodes_of_class(entry, nodes, module)
    if isinstance(entry, re.Pattern):
        return [n for n in nodes if entry.fullmatch(n)]
    if not isinstance(entry, str):
        raise TypeError(
            f"ignore holds {entry!r}; wanted a name, a pattern, a compiled regular expression or a class of nn.Module"
        )
    if entry in nodes:
        return [entry]
    if entry in nodes.values():
        return [n for n, op in nodes.items() if op == entry]
    if entry.startswith(REGEX):
        try:
            pattern = re.compile(entry.removeprefix(REGEX))
        except re.error as error:
            raise ValueError(f"ignore: {entry!r} is no regular expression: {error}") from None
        return [n for n in nodes if pattern.fullmatch(n)]
    return fnmatch.filter(nodes, entry)


def nodes_of_class(kind: type[Any], nodes: dict[str, str], module: nn.Module) -> list[str]:
    """The nodes whose names say that they came from a module of this class, or from inside of one."""
    paths = {path for path, _ in module.named_modules()}
    chosen = [path for path, part in module.named_modules() if isinstance(part, kind)]
    if "" in chosen:
        return list(nodes)

    def inside(name: str, path: str) -> bool:
        # A module that is called again gives nodes "path_1", "path_2"; a module may also be called so.
        again = re.fullmatch(re.escape(path) + r"_\d+", name) and name not in paths
        return name == path or name.startswith(f"{path}.") or bool(again)

    return [n for n in nodes if any(inside(n, path) for path in chosen)]


def absent(entry: Ignored, what: str) -> str:
    """What an error says of an entry that matches nothing."""
    if isinstance(entry, type):
        return f"no {what} comes from a {entry.__name__}"
    if isinstance(entry, re.Pattern) or entry.startswith(REGEX):
        return f"no {what} matches {text_of(entry)!r}"
    return f"no {what} is called {entry!r}"


def text_of(entry: Ignored) -> str:
    """An entry as the recipe records it."""
    if isinstance(entry, re.Pattern):
        return f"{REGEX}{entry.pattern}"
    return f"{entry.__module__}.{entry.__qualname__}" if isinstance(entry, type) else str(entry)
