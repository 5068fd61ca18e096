"""What `CompiledModel.profile` gives: the time of each node, its kernel and its precision."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["NodeTime", "Profile"]


@dataclass(frozen=True)
class NodeTime:
    """One node of a profiled run.

    Attributes:
        name: the module path it came from.   op: the graph's op.   kernel: the kernel variant that ran.
        precision: "int8", "float16", "float32", ...   seconds: wall time.   shape: the output's sizes.
        why: why this precision and kernel, where there is something to say.
    """

    name: str
    op: str
    kernel: str
    precision: str
    seconds: float
    shape: tuple[int, ...]
    why: str


@dataclass(frozen=True)
class Profile:
    """Times of one run, node by node, in the order of execution."""

    rows: tuple[NodeTime, ...]

    @property
    def seconds(self) -> float:
        """The sum over the nodes."""
        return sum(row.seconds for row in self.rows)

    @property
    def table(self) -> str:
        """The rows as text, one line each, with the share of the time."""
        total = self.seconds or 1.0
        cells = [("node", "op", "kernel", "precision", "shape", "us", "share", "why")]
        cells += [
            (r.name, r.op, r.kernel, r.precision, "x".join(map(str, r.shape)), f"{r.seconds * 1e6:.1f}",
             f"{r.seconds / total:.1%}", r.why)
            for r in self.rows
        ]  # fmt: skip
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return "\n".join([*lines, f"total {self.seconds * 1e6:.1f} us"])

    def to_json(self) -> str:
        """One JSON object: "seconds" and "nodes", a list with an object per row."""
        return json.dumps({"seconds": self.seconds, "nodes": [asdict(row) for row in self.rows]})

    def __str__(self) -> str:
        return self.table
