"""From labels to groups of channels that can be removed, and the report of what became of each."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from taille.pruning.channel_labels import Atoms, Axis, Indices, Literal

__all__ = ["ChannelGroup", "ChannelReport", "GroupReport", "build_groups", "layer_of"]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that run through the same layers; each can go without the others.

    Attributes:
        name: of the layer that makes the channels.   layers: every layer that changes with them, in order.
        slices: axis -> [units, m]: the indices along it that each unit takes. A unit is one channel, or one head.
        produced: axes along which a layer makes the channels.   consumed: axes along which a layer sums over them.
        width: channels in a unit: 1, or the depth of a head.
        why: why none can be removed; "" where they can.
        norms: axes of the weights of LayerNorms over these channels: what they give for the other channels changes.
        literals: sizes in the module's code that change with them.
    """

    name: str
    layers: tuple[str, ...]
    slices: dict[Axis, Indices]
    produced: tuple[Axis, ...]
    consumed: tuple[Axis, ...]
    width: int
    why: str
    norms: tuple[Axis, ...]
    literals: tuple[Literal, ...]

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(next(iter(self.slices.values())))

    def refused(self, why: str) -> ChannelGroup:
        """The group, kept for a reason."""
        return replace(self, why=why)


@dataclass(frozen=True)
class GroupReport:
    """What became of a group of channels.

    Attributes:
        name: of the layer that makes the channels.   layers: every layer that changes with them.
        before: channels there were.   after: channels there are.   width: channels that go at a time (a head's depth).
        why: why none were removed, or what else to know; "" where there is nothing to say.
    """

    name: str
    layers: tuple[str, ...]
    before: int
    after: int
    width: int
    why: str


@dataclass(frozen=True)
class ChannelReport:
    """A row for every group of channels, those that had to stay included.

    Attributes:
        rows: in the order of the layers.   share: of the prunable weights, what remains.
        weights_before: how many numbers the prunable weights held.   weights_after: how many they hold.
        unused: parameters that the traced graph does not read; they kept their shapes.
    """

    rows: tuple[GroupReport, ...]
    share: float
    weights_before: int
    weights_after: int
    unused: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[GroupReport]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def refused(self) -> tuple[GroupReport, ...]:
        """The groups that kept all channels for a reason."""
        return tuple(r for r in self.rows if r.why and r.after == r.before)

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        titles = ("group", "channels", "layers", "why")
        table = [titles, *((r.name, f"{r.before} > {r.after}" if r.before != r.after else str(r.before),
                            shortened(r.layers), r.why) for r in self.rows)]  # fmt: skip
        widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table)


def shortened(layers: Sequence[str], most: int = 4) -> str:
    """Names as text, the first few of many."""
    more = f" and {len(layers) - most} more" if len(layers) > most else ""
    return ", ".join(layers[:most]) + more


@dataclass
class Unit:
    """A class of atoms: what must be removed as one."""

    places: list[tuple[Axis, int]]
    produced: set[Axis]
    consumed: set[Axis]
    normalised: set[Axis]


def build_groups(atoms: Atoms) -> list[ChannelGroup]:
    """Groups of units that take the same number of indices of the same axes, in the order of their first axis."""
    units, literals = classes(atoms)
    order = {axis: i for i, (axis, _, _) in enumerate(atoms.axes)}
    members: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for root, unit in units.items():
        counts: dict[Axis, int] = defaultdict(int)
        for axis, _ in unit.places:
            counts[axis] += 1
        signature = tuple(sorted(counts.items(), key=lambda pair: order[pair[0]]))
        # What is kept for different reasons gives different rows of the report.
        members[(signature, reason(atoms, root, unit))].append(root)
    groups = [make_group([units[r] for r in roots], [lit for r in roots for lit in literals.get(r, ())], str(key[1]))
              for key, roots in members.items()]  # fmt: skip
    return sorted(groups, key=lambda g: (order[first_axis(g)], int(g.slices[first_axis(g)].min())))


def first_axis(group: ChannelGroup) -> Axis:
    """Where the channels are made, or else summed over."""
    return (group.produced or group.consumed)[0]


def reason(atoms: Atoms, root: int, unit: Unit) -> str:
    """Why a unit must stay, or ""."""
    why = atoms.why(root)
    if not why and not unit.produced:
        why = "no layer makes these channels"
    if not why and not unit.consumed:
        why = "no layer reads these channels"
    return why


def classes(atoms: Atoms) -> tuple[dict[int, Unit], dict[int, list[Literal]]]:
    """The classes of atoms that some layer makes or sums over, by root, and the sizes in code that change with them."""
    roots = [atoms.find(a) for a in range(len(atoms))]
    owner: dict[int, tuple[Axis, int]] = {}
    for axis, start, size in atoms.axes:
        owner |= {start + i: (axis, i) for i in range(size)}
    units: dict[int, Unit] = {}
    for role in ("produced", "consumed", "normalised"):
        for label in getattr(atoms, role):
            for atom in label.tolist():
                if role == "normalised" and roots[atom] not in units:
                    continue
                unit = units.setdefault(roots[atom], Unit([], set(), set(), set()))
                if atom in owner:
                    getattr(unit, role).add(owner[atom][0])
    for atom, place in owner.items():
        if roots[atom] in units:
            units[roots[atom]].places.append(place)
    literals: dict[int, list[Literal]] = defaultdict(list)
    for literal in atoms.literals:
        literals[roots[literal.atom]].append(literal)
    return units, literals


def make_group(units: Sequence[Unit], literals: Sequence[Literal], why: str) -> ChannelGroup:
    """One group of units of the same signature."""
    axes = list(dict.fromkeys(axis for axis, _ in units[0].places))
    indices: dict[Axis, list[list[int]]] = {axis: [] for axis in axes}
    for unit in units:
        row: dict[Axis, list[int]] = {axis: [] for axis in axes}
        for axis, index in unit.places:
            row[axis].append(index)
        for axis in axes:
            indices[axis].append(row[axis])
    slices = {axis: np.asarray(rows, dtype=np.int64) for axis, rows in indices.items()}
    produced = tuple(a for a in axes if any(a in u.produced for u in units))
    consumed = tuple(a for a in axes if any(a in u.consumed for u in units))
    norms = tuple(a for a in axes if any(a in u.normalised for u in units))
    layers = tuple(dict.fromkeys(layer_of(axis.name) for axis in axes))
    name = layer_of(produced[0].name) if produced else f"input of {layer_of(consumed[0].name)}"
    width = min(s.shape[1] for s in slices.values())
    return ChannelGroup(name, layers, slices, produced, consumed, width, why, norms, tuple(literals))


def layer_of(name: str) -> str:
    """The module that holds a parameter; the parameter itself where that is the model."""
    return name.rpartition(".")[0] or name
