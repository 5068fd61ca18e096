"""What the plots are drawn with: a frame with axes, marks that tell what they are, and text.

Colours are classes of page.css, as the page has a dark and a light form and its policy forbids inline styles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taille.report.markup import Child, Markup, element
from taille.report.scales import Scale

__all__ = ["Frame", "drawing", "label", "mark", "path", "shortened"]


@dataclass(frozen=True)
class Frame:
    """The rectangle between the axes, in pixels."""

    left: float
    right: float
    top: float
    bottom: float

    def x_axis(self, scale: Scale, text: Callable[[float], str], title: str, most: int) -> list[Markup]:
        """Grid lines, numbers below, and what they are of."""
        found = []
        for value in scale.ticks(most):
            x = scale(value)
            found += [
                element("line", class_="grid", x1=x, x2=x, y1=self.top, y2=self.bottom),
                label(x, self.bottom + 17, text(value), anchor="middle"),
            ]
        return [*found, label((self.left + self.right) / 2, self.bottom + 37, title, anchor="middle", class_="title")]

    def y_axis(self, scale: Scale, text: Callable[[float], str], title: str, most: int) -> list[Markup]:
        """Grid lines, numbers on the left, and above what they are of."""
        found = []
        for value in scale.ticks(most):
            y = scale(value)
            found += [
                element("line", class_="grid", x1=self.left, x2=self.right, y1=y, y2=y),
                label(self.left - 8, y + 4, text(value), anchor="end"),
            ]
        return [*found, label(2.0, self.top - 12, title, class_="title")]


def drawing(width: int, height: float, title: str, *children: Child) -> Markup:
    """A plot of so many pixels; marks in it can be reached by the keyboard, hence a group and no image."""
    return element(
        "svg", element("title", title), children,
        viewBox=f"0 0 {width} {height:g}", width=str(width), height=f"{height:g}", role="group", aria_label=title,
        class_="wide" if width > 500 else "narrow",
    )  # fmt: skip


def mark(title: str, *shapes: Child, class_: str = "") -> Markup:
    """Shapes that say what they are: under the mouse, at a tap, and to a screen reader."""
    return element("g", element("title", title), shapes, class_=f"mark {class_}".strip(), tabindex="0", role="img")


def label(x: float, y: float, text: str, *, anchor: str | None = None, class_: str | None = None) -> Markup:
    """A line of text."""
    return element("text", text, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, *, closed: bool = False) -> Markup:
    """A line through points."""
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return element("path", d=f"M{steps}{'Z' if closed else ''}", class_=class_)


def shortened(text: str, most: int) -> str:
    """The text, or its ends with an ellipsis between: layers' names differ at both."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
