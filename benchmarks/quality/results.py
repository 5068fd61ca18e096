"""The results: one JSON file that is written after every row, and the Markdown table made from it."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from grid import Cell, cells

TITLES = ("pattern", "pruned", "quality", "int8", "elsewhere", "int8, elsewhere", "int8, ms", "times dense", "KB",
          "recovery, s")  # fmt: skip
HEADS = {
    "digits": "Digits network (scikit-learn's digits): accuracy on 449 held-out images, in %; elsewhere: with noise",
    "minilm": "MiniLM-L6: Spearman on 500 pairs of sick_trial, times 100; elsewhere: mean cosine to the dense model "
    "on sentences of Python's documentation, times 100",
    "resnet20": "ResNet-20 (CIFAR-10 as JPEG): accuracy on 10,000 test images, in %; elsewhere: with noise",
}


class Results:
    """Rows by the key of their cell; several processes may add theirs to one file."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = self.read()

    def read(self) -> dict[str, dict[str, Any]]:
        """What the file holds."""
        found: dict[str, dict[str, Any]] = json.loads(self.path.read_text()) if self.path.exists() else {}
        return found

    def add(self, cell: Cell, row: dict[str, Any]) -> None:
        """Keep a row, or more of it, and write both files."""
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.rows = self.read()
            self.rows[cell.key] = self.rows.get(cell.key, {}) | row
            ordered = {c.key: self.rows[c.key] for c in cells() if c.key in self.rows}
            rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in ordered.items())
            replace(self.path, f"{{\n{rows}\n}}\n")
            replace(self.path.with_suffix(".md"), self.markdown())

    def markdown(self) -> str:
        """A table for each network."""
        parts = [
            "Made by `python benchmarks/quality`; do not edit. Recovery took that long on a machine that did other "
            "things too; a row that was interrupted counts from where it went on.\n"
        ]
        for subject, head in HEADS.items():
            mine = [c for c in cells() if c.subject == subject and c.key in self.rows]
            if not mine:
                continue
            rows = [TITLES, ("---",) * len(TITLES), *(self.line(c) for c in mine)]
            parts.append(f"## {head}\n")
            parts.append("\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n")
        return "\n".join(parts)

    def line(self, cell: Cell) -> tuple[str, ...]:
        """One row of the table."""
        row = self.rows[cell.key]
        times = row.get("times_dense")
        return (
            cell.pattern + (", longer" if cell.longer else ""),
            f"{100 * cell.sparsity:g} %",
            *(f"{100 * row[k]:.2f}" for k in ("quality", "quality_int8", "elsewhere", "elsewhere_int8")),
            f"{row['ms']:.3g}" if "ms" in row else "",
            f"{times[0]:.2f} ({times[1]:.2f}-{times[2]:.2f})" if times else "",
            f"{row['bytes'] / 1000:.0f}",
            f"{row['seconds']:.0f}",
        )


def replace(path: Path, text: str) -> None:
    """Write a file that is never seen half."""
    beside = path.with_name(path.name + ".new")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
