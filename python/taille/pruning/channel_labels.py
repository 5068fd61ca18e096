"""Which elements of which tensors stand for the same channel.

Every index of every dimension of a parameter is an *atom*. A dimension of a tensor of the traced graph carries a
*label*: an array of atoms, one per index, where its size may shrink with a parameter's; or the text of the reason why
it keeps its size. Operations that tie two dimensions together (an addition, a convolution and its input) unite their
atoms, so that in the end each class of atoms is what must be removed as one: a row here, a column there, a statistic of
a batch norm. Atoms are fixed, with the reason, where one of their dimensions has to keep its size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Atoms", "Axis", "Indices", "Label", "Labels", "Literal"]

Indices = npt.NDArray[np.int64]
Label = Indices | str
Labels = list[Label]


@dataclass(frozen=True)
class Axis:
    """A dimension of a parameter or buffer.

    Attributes:
        name: of the tensor, as in `state_dict`.   dim: the dimension.
    """

    name: str
    dim: int


@dataclass(frozen=True)
class Literal:
    """A place where the module's code wrote a size that shrinks: `view(b, t, self.heads, self.depth)`.

    Attributes:
        atom: one of the atoms of the dimension.   size: what was written.
        modules: paths of the modules whose code was running, innermost first.   where: the place, for messages.
    """

    atom: int
    size: int
    modules: tuple[str, ...]
    where: str


class Atoms:
    """A union-find over atoms, with the roles that tell channels from other dimensions."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._why: dict[int, str] = {}  # root -> why its class is fixed
        self.axes: list[tuple[Axis, int, int]] = []  # with the range of its atoms
        self.produced: list[Indices] = []  # outputs of a layer: rows of its weight
        self.consumed: list[Indices] = []  # what a layer sums over: columns of its weight
        self.normalised: list[Indices] = []  # weights of norms over channels: they change with each channel that goes
        self.literals: list[Literal] = []

    def __len__(self) -> int:
        return len(self._parent)

    def axis(self, name: str, dim: int, size: int) -> Indices:
        """New atoms for a dimension of a parameter."""
        atoms = self._new(size)
        self.axes.append((Axis(name, dim), int(atoms[0]) if size else 0, size))
        return atoms

    def constant(self, size: int, why: str) -> Indices:
        """New atoms of no parameter, fixed."""
        atoms = self._new(size)
        self.fix(atoms, why)
        return atoms

    def _new(self, size: int) -> Indices:
        start = len(self._parent)
        self._parent.extend(range(start, start + size))
        return np.arange(start, start + size)

    def find(self, atom: int) -> int:
        """The atom that stands for the class of `atom`."""
        parent = self._parent
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    def unite(self, left: Indices, right: Indices) -> None:
        """Put each pair of atoms into one class; the reason given first is kept."""
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            low, high = sorted((self.find(a), self.find(b)))
            if low != high:
                self._parent[high] = low  # the lower stands for the class: the result does not depend on the order
                if high in self._why:
                    self._why.setdefault(low, self._why.pop(high))

    def fix(self, label: Label, why: str) -> None:
        """Keep these atoms for a reason; a label that is a reason already stays."""
        if not isinstance(label, str):
            for atom in label.tolist():
                self._why.setdefault(self.find(atom), why)

    def join(self, left: Label, right: Label) -> Label:
        """The label of a dimension that is both: united, or kept for the reason of one of them."""
        if isinstance(left, str):
            self.fix(right, left)
            return left
        if isinstance(right, str):
            self.fix(left, right)
            return right
        self.unite(left, right)
        return left

    def why(self, atom: int) -> str:
        """Why the atom's class is fixed, or ""."""
        return self._why.get(self.find(atom), "")
