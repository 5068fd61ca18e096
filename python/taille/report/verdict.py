"""Each bound of the contract beside what was reached."""

from __future__ import annotations

from dataclasses import dataclass

from taille.config import short_size
from taille.report.findings import Findings
from taille.report.quantities import digits, ms_text, percent, tick_text

__all__ = ["Bound", "judge"]


@dataclass(frozen=True)
class Bound:
    """A bound, judged.

    Attributes:
        key: the constraint's.   what: it in words.   wanted, reached: as numbers; the texts are the same for people.
        margin: how far inside the bound; below 0 it is missed.   kept: whether it is met.
    """

    key: str
    what: str
    wanted: float
    wanted_text: str
    reached: float
    reached_text: str
    margin: float
    margin_text: str
    kept: bool


def judge(findings: Findings) -> list[Bound]:
    """The contract's bounds, by the rule that the search itself goes by.

    Raises:
        ValueError: a metric is missing that a bound is judged by.
    """
    contract = findings.contract
    asked = [key for key in METRICS if getattr(contract, key) is not None]
    for key in asked:
        for metric in METRICS[key]:
            if metric not in findings.metrics:
                raise ValueError(f"metadata['search']['metrics'] has no '{metric}', which {key} is judged by")
    baseline = {"accuracy": findings.metrics["baseline_accuracy"]} if "baseline_accuracy" in findings.metrics else {}
    missed = {shortfall.bound for shortfall in contract.shortfalls(findings.metrics, baseline)}
    return [bound(findings, key, key not in missed) for key in asked]


METRICS = {
    "max_latency_ms": ("latency_ms",),
    "max_size": ("size_bytes",),
    "max_memory": ("peak_memory_bytes",),
    "max_accuracy_drop": ("accuracy", "baseline_accuracy"),
    "min_accuracy": ("accuracy",),
}


def bound(findings: Findings, key: str, kept: bool) -> Bound:
    """One bound; a quality's margin is a difference, the others' a share of the limit."""
    contract, metrics = findings.contract, findings.metrics
    wanted, reached = float(getattr(contract, key)), metrics[METRICS[key][0]]
    if key == "max_accuracy_drop":
        reached = metrics["baseline_accuracy"] - reached
    if key in ("max_accuracy_drop", "min_accuracy"):
        least = key == "min_accuracy"
        margin = reached - wanted if least else wanted - reached
        what, way = ("quality", "≥") if least else ("loss of quality", "≤")
        return Bound(key, what, wanted, f"{way} {tick_text(wanted)}", reached, digits(reached, 4 if least else 3),
                     margin, digits(margin), kept)  # fmt: skip
    words = {
        "max_latency_ms": (f"latency of a call, p{contract.latency_percentile:g}", f"{tick_text(wanted)} ms", ms_text),
        "max_size": ("size of the artefact", short_size(wanted), short_size),
        "max_memory": ("peak memory", short_size(wanted), short_size),
    }
    what, limit, text = words[key]
    margin = 1 - reached / wanted
    return Bound(key, what, wanted, f"≤ {limit}", reached, text(reached), margin, percent(margin), kept)
