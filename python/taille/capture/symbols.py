"""Symbolic sizes of torch (sympy expressions) as the text the native graph reads.

The grammar is that of cpp/graph/dim.h: "8", "batch", "12*sequence", "batch*sequence + 1", "floor((height + 1)/2)".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy
import torch

__all__ = ["Unsupported", "dim", "expression"]

Names = Mapping[sympy.Symbol, str]


class Unsupported(Exception):  # noqa: N818 - control flow inside capture; users see a CaptureError
    """A node cannot be captured; the text says why."""


def expression(size: Any) -> sympy.Expr:
    """The sympy expression of a size: an int, a torch.SymInt, an expression, or a traced node that computes one."""
    if isinstance(size, sympy.Basic):
        return size
    if isinstance(size, torch.fx.Node):
        size = size.meta["val"]
    return size.node.expr if isinstance(size, torch.SymInt) else sympy.Integer(size)


def dim(size: Any, names: Names) -> int | str:
    """A size as the native graph takes it: an int, or text over the user's dimension names.

    Raises:
        Unsupported: the size depends on data, or on operations that the text has no form for.
    """
    expr = sympy.expand(expression(size))
    return int(expr) if expr.is_Integer else text(expr, names)


def text(expr: sympy.Expr, names: Names) -> str:
    """The text of an expression; see `dim`."""
    if expr.is_Integer:
        return str(int(expr))
    if expr.is_Symbol:
        if expr not in names:
            raise Unsupported(f"a size that depends on data ({expr})")
        return names[expr]
    if expr.is_Add:
        return " + ".join(text(a, names) for a in expr.args)
    if expr.is_Pow and expr.exp.is_Integer and 0 < expr.exp <= 8:
        return "*".join([factor(expr.base, names)] * int(expr.exp))
    if expr.is_Mul:
        number, rest = expr.as_coeff_mul()
        product = "*".join(factor(a, names) for a in rest)
        scaled = product if number.p == 1 else f"{number.p}*{product}"
        return scaled if number.q == 1 else f"floor(({scaled})/{number.q})"
    kind = type(expr).__name__
    if kind in ("FloorDiv", "CleanDiv", "IntTrueDiv") and expr.args[1].is_Integer and expr.args[1] > 0:
        return f"floor(({text(sympy.expand(expr.args[0]), names)})/{int(expr.args[1])})"
    if kind in ("Mod", "PythonMod") and expr.args[1].is_Integer and expr.args[1] > 0:
        whole, divisor = text(sympy.expand(expr.args[0]), names), int(expr.args[1])
        return f"({whole} + -{divisor}*floor(({whole})/{divisor}))"
    raise Unsupported(f"the size {expr}")


def factor(expr: sympy.Expr, names: Names) -> str:
    """The text of one factor of a product."""
    inner = text(expr, names)
    return f"({inner})" if expr.is_Add else inner
