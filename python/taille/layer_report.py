"""The report of a quantised model, node by node: what became of it, why, and what that cost."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

__all__ = ["LayerReport", "NodeReport", "SmoothReport"]


@dataclass(frozen=True)
class NodeReport:
    """How one node was quantised.

    SQNR is the signal to quantisation noise ratio in decibels: 10 log10(sum exact^2 / sum error^2); infinite where
    nothing was lost. Below about 20 dB (a tenth of the amplitude) a node is worth a look.

    Attributes:
        name: the module path it came from.   op: the graph's op.
        precision: "int8" (a layer or attention on int8 products, an embedding on an int8 table), "float16" or
            "bfloat16" (on such weights, computed in float32), "uint8" (on the bytes between int8 layers, or made for
            them), else the dtype of its output.
        why: why it has this precision, where there is something to say: how much faster it is so, that it was left
            alone, kept by mixed precision, or that its table has a scale per row; else "".
        weight_sqnr_db: of the weights; None for a node without int8 or 16-bit weights.
        layer_sqnr_db: of the output if this layer alone is int8, on exact inputs, before residual and clamp; None
            where it was not measured.
        output_sqnr_db: of the output in the quantised network, errors of earlier nodes included; None where it was not
            measured.
        weight_bytes_before: of its constants in float32.   weight_bytes_after: of its constants now.
        seconds_before: one run of the node in the float32 network; None where it was not measured or is no more.
        seconds_after: one run of it now; None where it was not measured.
    """

    name: str
    op: str
    precision: str
    why: str
    weight_sqnr_db: float | None
    layer_sqnr_db: float | None = None
    output_sqnr_db: float | None = None
    weight_bytes_before: int = 0
    weight_bytes_after: int = 0
    seconds_before: float | None = None
    seconds_after: float | None = None


@dataclass(frozen=True)
class SmoothReport:
    """What SmoothQuant did to the linear layers that share one input.

    Attributes:
        layers: their names.   into: the node whose weights took the factors, or "".
        why: why the layers were left as they were, or "".
    """

    layers: tuple[str, ...]
    into: str
    why: str


@dataclass(frozen=True)
class LayerReport:
    """A row for every node of the quantised graph, in the order of execution.

    Attributes:
        rows: the nodes.   smoothing: a row per input of linear layers, where SmoothQuant was asked for.
    """

    rows: tuple[NodeReport, ...]
    smoothing: tuple[SmoothReport, ...] = ()

    def __iter__(self) -> Iterator[NodeReport]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def worst(self) -> tuple[NodeReport, ...]:
        """The int8 layers, the one that loses most alone first; empty where that was not measured."""
        measured = [r for r in self.rows if r.layer_sqnr_db is not None]
        return tuple(sorted(measured, key=lambda r: r.layer_sqnr_db or 0.0))

    def counts(self) -> str:
        """How many nodes there are of each precision, as text."""
        counts = Counter(r.precision for r in self.rows)
        return ", ".join(f"{n} nodes {precision}" for precision, n in counts.items())

    def cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """The report as text for a table: the titles, and a row of cells per node."""
        titles = ("node", "op", "precision", "weights dB", "alone dB", "network dB", "bytes", "us", "why")
        return titles, [
            (
                r.name, r.op, r.precision, decibels(r.weight_sqnr_db), decibels(r.layer_sqnr_db),
                decibels(r.output_sqnr_db), change(f"{r.weight_bytes_before}", f"{r.weight_bytes_after}"),
                change(microseconds(r.seconds_before), microseconds(r.seconds_after)), r.why,
            )
            for r in self.rows
        ]  # fmt: skip

    def to_json(self) -> str:
        """One JSON object: "nodes" and "smoothing", lists with an object per row; an infinite SQNR is null."""
        finite = [
            {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in asdict(row).items()}
            for row in self.rows
        ]
        return json.dumps({"nodes": finite, "smoothing": [asdict(s) for s in self.smoothing]})

    def __str__(self) -> str:
        titles, rows = self.cells()
        table = [titles, *rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
        return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table)


def decibels(value: float | None) -> str:
    """An SQNR as text."""
    return "" if value is None else f"{value:.1f}"


def change(before: str, after: str) -> str:
    """Two values as text; one where they are equal."""
    return before if before == after else f"{before} > {after}"


def microseconds(value: float | None) -> str:
    """Seconds as text in microseconds."""
    return "" if value is None else f"{value * 1e6:.1f}"
