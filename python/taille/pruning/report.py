"""What became of each layer of a pruned model, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from taille.pruning.channel_groups import shortened

__all__ = ["ChannelOrder", "LayerShare", "PruneReport"]


@dataclass(frozen=True)
class LayerShare:
    """How one layer was pruned.

    Attributes:
        name: the module's path.   op: "linear", "conv2d", "embedding", ...
        shape: of its weight, as torch has it.
        pattern: of its mask; "dense" where it has none.
        kept: the share of its weights that remains.
        why: why it stays dense; "" where it is pruned.
        output_error: what is left of the energy of its outputs as error after reconstruction, on the calibration data:
            the sum of squared errors over the sum of squares; None where it was not reconstructed.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    pattern: str
    kept: float
    why: str = ""
    output_error: float | None = None


@dataclass(frozen=True)
class ChannelOrder:
    """What became of the order of a group of channels; see `permute` of `prune_model`.

    Attributes:
        name: of the layer that makes the channels.   layers: every layer that changes with them.
        channels: how many there are.
        kept_before: the share of the scores that the masks would keep in the order as it was, the mean over the group's
            layers that are pruned; None where none was looked for.   kept_after: what they keep in the order now.
        why: why the order stayed; "" where it changed.
    """

    name: str
    layers: tuple[str, ...]
    channels: int
    kept_before: float | None
    kept_after: float | None
    why: str = ""

    def staying(self, why: str, kept: float | None = None) -> ChannelOrder:
        """The group in the order that it had."""
        return replace(self, kept_before=kept, kept_after=kept, why=why)


@dataclass(frozen=True)
class PruneReport:
    """A row for every layer with weights, in the order of execution.

    Attributes:
        rows: the layers.
        orders: with `permute=True` a row for every group of channels.
    """

    rows: tuple[LayerShare, ...]
    orders: tuple[ChannelOrder, ...] = ()

    def __iter__(self) -> Iterator[LayerShare]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def counts(self) -> str:
        """How many layers were pruned and how many stay dense, as text."""
        dense = sum(bool(r.why) for r in self.rows)
        return f"{len(self.rows) - dense} layers pruned, {dense} dense"

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The report as text for a table: the titles, and a row of cells per layer."""
        titles = ("layer", "op", "shape", "pattern", "kept", "output error", "why dense")
        return titles, [
            (
                r.name, r.op, "x".join(map(str, r.shape)), r.pattern, f"{100 * r.kept:.2f} %",
                "" if r.output_error is None else f"{r.output_error:.4f}", r.why,
            )
            for r in self.rows
        ]  # fmt: skip

    def to_json(self) -> str:
        """One JSON object: "layers" and "orders", lists with an object per row."""
        return json.dumps({"layers": list(map(asdict, self.rows)), "orders": list(map(asdict, self.orders))})

    def __str__(self) -> str:
        tables = [self.cells(), self.order_cells()] if self.orders else [self.cells()]
        return "\n\n".join(as_text([titles, *rows]) for titles, rows in tables)

    def order_cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """What became of the order of channels as text for a table: the titles, and a row of cells per group."""
        titles = ("group", "channels", "layers", "score kept", "why in order")
        return titles, [(o.name, str(o.channels), shortened(o.layers), rise(o), o.why) for o in self.orders]


def rise(order: ChannelOrder) -> str:
    """The share of the scores that is kept, before and after where it changed."""
    if order.kept_before is None or order.kept_after is None:
        return ""
    before, after = (f"{100 * kept:.2f} %" for kept in (order.kept_before, order.kept_after))
    return before if order.why else f"{before} > {after}"


def as_text(table: Sequence[tuple[str, ...]]) -> str:
    """Rows of cells as lines, columns aligned."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table)
