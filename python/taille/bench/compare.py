"""The whole comparison of one model: prepare, check the outputs, measure, and put the ratios together."""

from __future__ import annotations

import gc
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import taille
from taille import _native
from taille.arrays import Array
from taille.bench.contestants import Contestant, Ours
from taille.bench.cpu import features
from taille.bench.subject import Subject
from taille.bench.timing import Times, measure

__all__ = ["LEAST_SQNR_DB", "MOST_ERROR", "compare", "machine"]

MOST_ERROR = 1e-3  # of float32 outputs against torch, relative to the largest magnitude
LEAST_SQNR_DB = 5.0  # of int8 outputs against torch in float32
Step = Callable[[str], None]


def compare(
    subject: Subject, peers: Sequence[Contestant], threads: int, pairs: int, step: Step = lambda _: None
) -> dict[str, Any]:
    """Measure taille and the peers on one model, as JSON-compatible values.

    Args:
        subject: the model with its inputs.
        peers: who else takes part; one that fails to prepare is listed as skipped, with its error.
        threads: for each of them.
        pairs: how often each peer has its turn beside taille's.
        step: told what comes next: the name of each contestant as it is prepared, then "measuring" for each round.
    """
    with torch_threads(threads):
        mine: list[Contestant] = [Ours("float32"), Ours("int8")]
        ours, skipped = prepare(mine, subject, threads, step, strict=True)
        ready, failed = prepare(peers, subject, threads, step, strict=False)
        checks = {c.name: check(c, subject) for c in (*ours, *ready)}
        times = measure(ours, ready, subject.inputs, pairs, lambda: step("measuring"))
    gc.collect()
    rows = [row(c, times[c.name], subject.batch, checks[c.name]) for c in (*ours, *ready)]
    return {
        "model": subject.model.name, "batch": subject.batch, "sequence": subject.sequence, "threads": threads,
        "pairs": pairs, "calibration_samples": len(subject.calibration) * subject.batch, "rows": rows,
        "headline": {p: headline(rows, p) for p in ("int8", "float32")}, "skipped": [*skipped, *failed],
    }  # fmt: skip


def prepare(
    contestants: Sequence[Contestant], subject: Subject, threads: int, step: Step, *, strict: bool
) -> tuple[list[Contestant], list[dict[str, str]]]:
    """Those that are ready, and why the others are not; with `strict` an error is raised on."""
    ready, skipped = [], []
    for contestant in contestants:
        step(contestant.name)
        why = contestant.unsuited(subject)
        if not why:
            try:
                contestant.prepare(subject, threads)
                contestant.run(subject.inputs)
            except Exception as error:
                if strict:
                    raise
                why = f"failed: {type(error).__name__}: {str(error).strip()[:500]}"
        if why:
            skipped.append({"name": contestant.name, "why": why, "install": ""})
        else:
            ready.append(contestant)
    return ready, skipped


def check(contestant: Contestant, subject: Subject) -> dict[str, Any]:
    """The largest error and the SQNR of the outputs against torch, and what is wrong with them ("" if nothing is)."""
    given = [np.array(a, dtype=np.float64) for a in contestant.run(subject.inputs)]
    wanted = [np.asarray(a, dtype=np.float64) for a in subject.reference]
    shapes = [list(a.shape) for a in given], [list(a.shape) for a in wanted]
    if shapes[0] != shapes[1]:
        return {"max_error": None, "sqnr_db": None, "wrong": f"outputs of shape {shapes[0]}; torch's are {shapes[1]}"}
    if not all(np.isfinite(a).all() for a in given):
        return {"max_error": None, "sqnr_db": None, "wrong": "outputs are not finite"}
    error = max(relative_error(a, b) for a, b in zip(given, wanted, strict=True))
    ratio = min(sqnr_db(a, b) for a, b in zip(given, wanted, strict=True))
    wrong = ""
    if contestant.precision == "float32" and error > MOST_ERROR:
        wrong = f"error {error:.2g} of scale, more than {MOST_ERROR:g}"
    if contestant.precision == "int8" and ratio < LEAST_SQNR_DB:
        wrong = f"SQNR {ratio:.1f} dB, less than {LEAST_SQNR_DB:g}"
    return {"max_error": error, "sqnr_db": ratio, "wrong": wrong}


def relative_error(given: Array, wanted: Array) -> float:
    """The largest difference over the largest magnitude that is wanted."""
    return float(np.abs(given - wanted).max(initial=0) / max(np.abs(wanted).max(initial=0), 1e-30))


def sqnr_db(given: Array, wanted: Array) -> float:
    """Signal to noise in decibels, at most 200."""
    noise, signal = float(((given - wanted) ** 2).sum()), float((wanted**2).sum())
    return min(200.0, 10 * float(np.log10(max(signal, 1e-300) / max(noise, 1e-300))))


def row(c: Contestant, times: Times, batch: int, checked: dict[str, Any]) -> dict[str, Any]:
    """One row of the table."""
    p50 = percentile(times.samples, 50)
    beside = percentile(times.beside, 50) if times.beside else None
    facts = {
        "name": c.name, "precision": c.precision, "latency_p50_ms": 1e3 * p50,
        "latency_p99_ms": 1e3 * percentile(times.samples, 99), "latency_min_ms": 1e3 * min(times.samples),
        "throughput_per_s": batch / p50, "calls": len(times.samples), "size_bytes": c.size_bytes, **checked,
        "note": c.note, "ours_p50_ms": None if beside is None else 1e3 * beside,
        "ratio": None if beside is None else p50 / beside,
    }  # fmt: skip
    for q in (10, 50, 90):
        facts[f"ratio_p{q}"] = percentile(times.ratios, q) if times.ratios else None
    return facts


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile."""
    return float(np.percentile(values, q))


def headline(rows: Sequence[dict[str, Any]], precision: str) -> dict[str, Any] | None:
    """The quickest peer of that precision whose outputs are right, and its ratio; None where there is none."""
    peers = [r for r in rows if r["precision"] == precision and r["ratio"] is not None]
    right = [r for r in peers if not r["wrong"]]
    if not right:
        return None
    best = min(right, key=lambda r: r["ratio"])
    left_out = [r["name"] for r in peers if r["wrong"]]
    return {"peer": best["name"], **{k: v for k, v in best.items() if k.startswith("ratio")}, "left_out": left_out}


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Set how many threads torch uses, for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """The CPU, taille's level on it, what else the CPU offers, and versions of all engines that are installed."""
    versions = {"taille": taille.__version__}
    for package in ("torch", "onnxruntime", "onnx", "onnxscript", "openvino", "nncf", "transformers", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cpu": _native.cpu_name(), "level": _native.active_isa(), **features(), "versions": versions}
