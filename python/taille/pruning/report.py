"""What became of each layer of a pruned model, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

__all__ = ["LayerShare", "PruneReport"]


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
class PruneReport:
    """A row for every layer with weights, in the order of execution.

    Attributes:
        rows: the layers.
    """

    rows: tuple[LayerShare, ...]

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
        """One JSON object: "layers", a list with an object per row."""
        return json.dumps({"layers": [asdict(row) for row in self.rows]})

    def __str__(self) -> str:
        titles, rows = self.cells()
        table = [titles, *rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table)
