"""What a setting may be: each check turns what was given into the setting, or raises an error that names it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

from taille.config.sizes import WANTED, parse_size

__all__ = ["Check", "Choice", "Count", "Number", "Size"]


class Check(Protocol):
    """One kind of setting.

    Attributes:
        wanted: what it takes, in words, for messages.
    """

    @property
    def wanted(self) -> str:
        """What the setting takes, in words."""

    def check(self, name: str, value: Any) -> Any:
        """The value as the configuration holds it; a TypeError or ValueError begins with `name`."""

    def read(self, name: str, text: str) -> Any:
        """The value that the text of an environment variable stands for, checked; errors begin with `name`."""


def refuse(kind: type[Exception], name: str, value: Any, wanted: str) -> Exception:
    """The error for a value that a setting does not take."""
    of = f", of type {type(value).__name__}" if kind is TypeError else ""
    return kind(f"{name} is {value!r}{of}; wanted {wanted}")


@dataclass(frozen=True)
class Number:
    """A finite number between two ends.

    Attributes:
        wanted: in words, the unit included.   least, most: the ends.
        open_least, open_most: whether that end is itself refused.
    """

    wanted: str
    least: float = -math.inf
    most: float = math.inf
    open_least: bool = False
    open_most: bool = False

    def check(self, name: str, value: Any) -> float:
        """An int or float (numpy's too), as it is."""
        if isinstance(value, bool) or not isinstance(value, Real):
            raise refuse(TypeError, name, value, self.wanted)
        number = int(value) if isinstance(value, Integral) else float(value)
        low = number > self.least if self.open_least else number >= self.least
        high = number < self.most if self.open_most else number <= self.most
        if not (low and high and math.isfinite(number)):  # NaN fails all three
            raise refuse(ValueError, name, value, self.wanted)
        return number

    def read(self, name: str, text: str) -> float:
        """Text of a number."""
        try:
            number = float(text)
        except ValueError:
            raise refuse(ValueError, name, text, self.wanted) from None
        return self.check(name, number)


@dataclass(frozen=True)
class Count:
    """A whole number of at least 1."""

    wanted: str = "a whole number of at least 1"

    def check(self, name: str, value: Any) -> int:
        """An int (numpy's too)."""
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise refuse(TypeError, name, value, self.wanted)
        if value < 1:
            raise refuse(ValueError, name, value, self.wanted)
        return int(value)

    def read(self, name: str, text: str) -> int:
        """Text of a whole number."""
        try:
            number = int(text)
        except ValueError:
            raise refuse(ValueError, name, text, self.wanted) from None
        return self.check(name, number)


@dataclass(frozen=True)
class Choice:
    """One word of several."""

    words: tuple[str, ...]

    @property
    def wanted(self) -> str:
        """The words."""
        one_of = "one of " if len(self.words) > 1 else ""
        return one_of + ", ".join(f'"{word}"' for word in self.words)

    def check(self, name: str, value: Any) -> str:
        """One of the words."""
        if not isinstance(value, str):
            raise refuse(TypeError, name, value, self.wanted)
        if value not in self.words:
            raise refuse(ValueError, name, value, self.wanted)
        return value

    def read(self, name: str, text: str) -> str:
        """One of the words."""
        return self.check(name, text)


@dataclass(frozen=True)
class Size:
    """Bytes, kept as they were written; `taille.config.parse_size` gives the number."""

    wanted: str = WANTED

    def check(self, name: str, value: Any) -> str | int:
        """What `parse_size` reads, text as it is."""
        size = parse_size(value, name)
        return value if isinstance(value, str) else size

    def read(self, name: str, text: str) -> str | int:
        """What `parse_size` reads, as it is."""
        return self.check(name, text)
