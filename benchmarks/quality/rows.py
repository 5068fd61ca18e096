"""One row: prune, recover within the same budget as all others, quantise, and ask how good it still is."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch
from grid import DENSE, Cell
from subjects import Subject

import taille

PERMUTED = " permuted"


def run_row(subject: Subject, cell: Cell, work: Path) -> dict[str, Any]:
    """Quality in float32 and int8, at home and elsewhere, bytes of the int8 file, and what recovery took."""
    began = time.perf_counter()
    model = subject.dense if cell.pattern == DENSE else pruned(subject, cell, work)
    seconds = time.perf_counter() - began
    small = taille.quantize_model(model, "int8", calibration_samples=256, never_slower=False)
    small.save(work / cell.file)
    full = taille.compile_model(model)
    row = {
        "quality": subject.quality(full), "quality_int8": subject.quality(small),
        "elsewhere": subject.elsewhere(full), "elsewhere_int8": subject.elsewhere(small),
        "bytes": small.size_bytes, "seconds": seconds, "steps": subject.steps(cell.longer) if cell.sparsity else 0,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    logging.info("%s", {k: round(v, 4) for k, v in row.items()})
    return row


def pruned(subject: Subject, cell: Cell, work: Path) -> taille.BaseMLModel:
    """The pruned and recovered network; an interrupted recovery goes on."""
    pattern = cell.pattern.removesuffix(PERMUTED)
    share = 1 - cell.sparsity
    if pattern == "channel":
        return subject.channels(share)
    method = "magnitude" if pattern == "unstructured" else "structured"
    options: dict[str, Any] = {} if method == "magnitude" else {"pattern": pattern}
    if method == "structured":
        options["permute"] = cell.pattern.endswith(PERMUTED)
    return taille.prune_model(
        subject.dense, share, method, score="wanda", checkpoint=work / (cell.file + ".part"),
        progress=Progress(), **options, **subject.recovery(cell.longer),
    )  # fmt: skip


class Progress:
    """Says every half minute where a stage stands."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self.last > 30:
            self.last = time.monotonic()
            logging.info("%s: %d of %d", stage, done, total)
