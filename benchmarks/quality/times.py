"""How long the int8 models of the rows take, each in turns with the dense int8 model, 1 thread, one sample."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grid import DENSE, Cell
from results import Results
from subjects import Subject

import taille

PAIRS = 30
TURN = 0.02  # seconds


def measure_times(subject: Subject, cells: Sequence[Cell], results: Results, work: Path) -> None:
    """Add the median time of each row, and how many times as fast as dense it is, with 10th and 90th percentile."""
    dense = taille.load(work / Cell(subject.name, DENSE, 0.0).file, threads=1)
    for cell in cells:
        if cell.key not in results.rows:
            continue
        if not (work / cell.file).exists():
            logging.info("%s: its model is not in %s; its time stays what it was", cell.key, work)
            continue
        model, own, ratios = taille.load(work / cell.file, threads=1), [], []
        turn(model, subject.sample), turn(dense, subject.sample)
        for _ in range(PAIRS):
            beside = turn(dense, subject.sample)
            own.append(turn(model, subject.sample))
            ratios.append(beside / own[-1])
        ratios.sort()
        row = {
            "ms": 1000 * statistics.median(own),
            "times_dense": [statistics.median(ratios), ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]],
        }
        logging.info("%s: %s", cell.key, row)
        results.add(cell, row)


def turn(model: taille.BaseMLModel, sample: Any) -> float:
    """The median of the calls that fill a turn."""
    model.predict(sample)
    calls, end = [], time.perf_counter() + TURN
    while not calls or time.perf_counter() < end:
        start = time.perf_counter()
        model.predict(sample)
        calls.append(time.perf_counter() - start)
    return statistics.median(calls)
