"""Names of nodes (the module path they came from), source lines, and the text of a node that is not supported."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import Any

import torch
from torch import fx

from taille.capture.symbols import Names, Unsupported, dim

__all__ = ["Namer", "describe_call", "source_of"]

FRAME = re.compile(r'File "([^"]+)", line (\d+)')
TORCH = str(Path(torch.__file__).parent)


class Namer:
    """Gives every node of the native graph its own name."""

    def __init__(self, taken: set[str]):
        self._taken = taken

    def unique(self, name: str) -> str:
        """`name`, or `name_1`, `name_2`, ... where it is taken."""
        candidate, count = name, 0
        while candidate in self._taken:
            count += 1
            candidate = f"{name}_{count}"
        self._taken.add(candidate)
        return candidate

    def base(self, node: fx.Node) -> str:
        """The module path for a layer of torch.nn ("layer1.0.conv1"), else the path and the op ("layer1.0.add")."""
        path, kind = module_of(node)
        short = re.sub(r"_+$", "", re.sub(r"^aten\.|\.\w+$", "", str(node.target))) or node.name
        if path and kind.startswith("torch.nn.modules.") and not kind.startswith("torch.nn.modules.container"):
            layer = kind.rsplit(".", 1)[-1].lower()
            return path if layer.startswith(short.replace("_", "")) else f"{path}.{short}"
        return f"{path}.{short}" if path else short


def module_of(node: fx.Node) -> tuple[str, str]:
    """Path and class of the innermost module that the node came from."""
    for path, kind in reversed(list((node.meta.get("nn_module_stack") or {}).values())):
        if not str(path).startswith("_empty_nn_module_stack"):
            name = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
            return re.sub(r"@\d+", "", str(path)), name
    return "", ""


def frame_of(node: fx.Node) -> tuple[str, int] | None:
    """File and line of the innermost frame that is not torch's own."""
    for file, line in reversed(FRAME.findall(node.meta.get("stack_trace") or "")):
        if not file.startswith((TORCH, "torch/")):
            return file, int(line)
    return None


def source_of(node: fx.Node) -> str:
    """The line of the model's code, "file.py:line", or nothing."""
    frame = frame_of(node)
    return f"{Path(frame[0]).name}:{frame[1]}" if frame else ""


def describe_call(node: fx.Node, symbols: Names, why: str) -> str:
    """What a CaptureError says about one node: name, op, shapes, source line, and why."""
    inputs = ", ".join(shape_text(n.meta.get("val"), symbols) for n in node.all_input_nodes)
    path = module_of(node)[0]
    lines = [f"  {node.name}{f' ({path})' if path else ''}: {node.target}"
             f"({inputs}) -> {shape_text(node.meta.get('val'), symbols)}"]  # fmt: skip
    frame = frame_of(node)
    if frame:
        code = linecache.getline(*frame).strip()
        lines.append(f"      {source_of(node)}{': ' if code else ''}{code}")
    if why:
        lines.append(f"      {why}")
    return "\n".join(lines)


def shape_text(value: Any, symbols: Names) -> str:
    """The shape of a traced tensor as text, "[batch, 3, 8]"; a list of such for several."""
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(shape_text(v, symbols) for v in value) + ")"
    if not isinstance(value, torch.Tensor):
        return str(value)
    sizes = []
    for size in value.shape:
        try:
            sizes.append(str(dim(size, symbols)))
        except Unsupported:
            sizes.append(str(size))
    return f"[{', '.join(sizes)}]"
