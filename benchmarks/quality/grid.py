"""The rows of the study: every pattern at every sparsity, the dense network, and the recipes that had longer."""

from __future__ import annotations

from dataclasses import dataclass

SPARSITIES = (0.75, 0.5, 0.9)
PATTERNS = ("block4x4", "block4x4 permuted", "unstructured", "block1x4", "block2x4", "block4x16", "channel")
DENSE = "dense"
# Patterns whose recovery had all the time that the floors allow, and at which sparsities.
LONGER = {"resnet20": (0.5, 0.75), "minilm": (0.5, 0.75)}


@dataclass(frozen=True)
class Cell:
    """One row.

    Attributes:
        subject: the network.   pattern: of the weights that go; "dense": none do.
        sparsity: the share that goes.   longer: with the recovery of the floors, not that of all rows.
    """

    subject: str
    pattern: str
    sparsity: float
    longer: bool = False

    @property
    def key(self) -> str:
        """The row's name in the results."""
        return f"{self.subject}, {self.pattern}, {self.sparsity:g}" + (", longer" if self.longer else "")

    @property
    def file(self) -> str:
        """The row's model in the work folder."""
        return self.key.replace(", ", "-").replace(" ", "-").replace(":", "of") + ".safetensors"


def cells() -> list[Cell]:
    """All rows, those first that the others are held against."""
    found = []
    for subject in ("digits", "minilm", "resnet20"):
        found.append(Cell(subject, DENSE, 0.0))
        found += [Cell(subject, pattern, s) for s in SPARSITIES for pattern in PATTERNS]
        found.append(Cell(subject, "2:4", 0.5))
        blocks = "block4x4", "block4x4 permuted"
        found += [Cell(subject, pattern, s, longer=True) for pattern in blocks for s in LONGER.get(subject, ())]
    return found
