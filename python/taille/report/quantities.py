"""Numbers for people; the exact value stays in the page, in `<data value="...">`."""

from __future__ import annotations

import math

from taille.report.markup import Markup, element

__all__ = ["data", "digits", "ms_text", "percent", "tick_text", "times_text", "us_text"]


MINUS = "\N{MINUS SIGN}"  # as wide as a digit, and never broken from its number


def digits(value: float, significant: int = 3) -> str:
    """A number with so many significant digits, never as a power of ten where it can be read without."""
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    before = math.floor(math.log10(abs(value))) + 1  # digits before the point
    if before < -8:
        return f"{value:.{significant - 1}e}"
    return f"{value:,.{max(0, significant - before)}f}".replace("-", MINUS)


def tick_text(value: float) -> str:
    """A round number, without zeros at its end."""
    return f"{value:,.10g}".replace("-", MINUS)


def ms_text(ms: float) -> str:
    """Milliseconds."""
    return f"{digits(ms)} ms"


def us_text(us: float) -> str:
    """Microseconds; from a thousand on, milliseconds."""
    return ms_text(us / 1000) if us >= 1000 else f"{digits(us)} µs"


def percent(share: float) -> str:
    """A share as "18 %"; below a tenth with more digits."""
    return f"{digits(100 * share, 2 if abs(share) < 0.1 else 3)} %" if abs(share) < 1 else f"{100 * share:,.0f} %"


def times_text(ratio: float) -> str:
    """A ratio as "6.83×"."""
    return f"{digits(ratio)}\N{MULTIPLICATION SIGN}"


def data(value: float | None, text: str = "") -> Markup | None:
    """A number as text, with its exact value beside; None stays None."""
    return None if value is None else element("data", text or digits(value), value=repr(value))
