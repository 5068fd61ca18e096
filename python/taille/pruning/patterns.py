"""The forms a mask can have: single weights, blocks that share their fate, N of M.

A layer's weight is seen as rows, [outputs, k]: one row per output channel, its k inputs in the order in which the
native engine reads them, so that the inputs of one block lie side by side there; `taille.pruning.layers.weight_rows`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

__all__ = ["CHANNEL", "PATTERNS", "UNSTRUCTURED", "Pattern", "parse_pattern"]

UNSTRUCTURED = "unstructured"
CHANNEL = "channel"
# name -> output channels x input channels that share their fate. 16 and 32 outputs fill the vectors of the skip lists.
BLOCKS = {
    UNSTRUCTURED: (1, 1),
    "block1x4": (1, 4),
    "block2x4": (2, 4),
    "block4x4": (4, 4),
    "block4x16": (16, 4),
    "block4x32": (32, 4),
}
PATTERNS = (*BLOCKS, "n:m such as 2:4", CHANNEL)
MOST_OF = 64  # the largest M


@dataclass(frozen=True)
class Pattern:
    """Which weights stay or go together.

    Attributes:
        name: what the user calls it.
        rows: output channels in a block.   columns: input channels of one tap in a block.
        keep: of each `of` neighbouring inputs of an output this many stay; 0: not such a pattern.
    """

    name: str
    rows: int = 1
    columns: int = 1
    keep: int = 0
    of: int = 0

    @property
    def least_share(self) -> float:
        """The share that remains at least: N / M, or nothing."""
        return self.keep / self.of if self.of else 0.0

    def remaining(self, share: float) -> int:
        """How many of each M stay with N:M: the smallest number that is at least N and at least this share."""
        return min(self.of, max(self.keep, math.ceil(share * self.of - 1e-9)))

    def misfit(self, outputs: int, inputs: int) -> str:
        """Why a layer with this many output and input channels cannot have the pattern; "" where it can."""
        wanted = self.of or self.columns
        if inputs % wanted:
            return f"{self.name} does not divide its {inputs} input channels"
        if outputs % self.rows:
            return f"{self.name} does not divide its {outputs} output channels"
        return ""


def parse_pattern(name: str) -> Pattern:
    """The pattern of that name.

    Raises:
        TypeError: not a text.   ValueError: no such pattern, or N:M with N above M; the message says what there is.
    """
    if not isinstance(name, str):
        raise TypeError(f"pattern is {type(name).__name__}; wanted a text: {', '.join(PATTERNS)}")
    if name in BLOCKS:
        return Pattern(name, *BLOCKS[name])
    if name == CHANNEL:
        return Pattern(name)
    found = re.fullmatch(r"(\d+):(\d+)", name)
    if not found:
        raise ValueError(f"unknown pattern {name!r}; there are {', '.join(PATTERNS)}")
    keep, of = int(found[1]), int(found[2])
    if not 1 <= keep <= of <= MOST_OF:
        raise ValueError(f"pattern is '{name}'; wanted N:M with 1 <= N <= M <= {MOST_OF}")
    return Pattern(name, keep=keep, of=of)
