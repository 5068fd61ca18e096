"""HTML and SVG from plain Python: whatever is not `Markup` already is escaped, so that no text can become a tag."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["Child", "Markup", "element", "joined"]

VOID = {"br", "hr", "meta"}  # elements that have no end tag


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "str | Iterable[Child] | None"


def joined(children: Child) -> Markup:
    """The children one after the other; strings are escaped, None is left out."""
    if children is None:
        return Markup()
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(html.escape(children, quote=False))
    return Markup("".join(map(joined, children)))


def element(tag: str, *children: Child, **attributes: str | float | None) -> Markup:
    """An element.

    Args:
        tag: its name.
        children: its content.
        attributes: `class_` gives class, `stroke_width` stroke-width; None leaves one out. Floats are for coordinates:
            they keep two decimals.
    """
    parts = [tag]
    for name, value in attributes.items():
        if value is not None:
            text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
            parts.append(f'{name.rstrip("_").replace("_", "-")}="{html.escape(text)}"')
    start = f"<{' '.join(parts)}>"
    return Markup(start if tag in VOID else f"{start}{joined(children)}</{tag}>")
