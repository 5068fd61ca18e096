"""Whether a model is as wanted: comparisons of what was measured with what may be, each with its reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from taille.batches import Arrays
from taille.compiled import CompiledModel
from taille.config import format_size
from taille.measurement.memory import peak_memory
from taille.measurement.turns import Latency

__all__ = [
    "MEMORY_NOISE",
    "RECIPE_BYTES",
    "Findings",
    "Verdict",
    "check_accuracy",
    "check_memory",
    "check_size",
    "check_times",
    "compare_times",
]

log = logging.getLogger(__name__)

RECIPE_BYTES = 4096  # the recipe of an optimised model is written into its file, and is no loss
MEMORY_NOISE = 512 * 1024  # bytes; of the allocator and of threads' stacks, from run to run


@dataclass(frozen=True)
class Verdict:
    """What was found, with reasons; true where all of it is as wanted.

    Attributes:
        passed: the answer.   reasons: a line per comparison, "ok: ..." or "failed: ...".
        metrics: what was measured, by name.
    """

    passed: bool
    reasons: tuple[str, ...]
    metrics: dict[str, float] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join(self.reasons)


class Findings:
    """Collects a verdict."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.metrics: dict[str, float] = {}
        self.passed = True

    def add(self, holds: bool, text: str) -> None:
        """One comparison."""
        self.passed &= holds
        self.reasons.append(f"{'ok' if holds else 'failed'}: {text}")
        log.log(logging.INFO if holds else logging.WARNING, "%s", self.reasons[-1])

    def verdict(self, explain: bool) -> bool | Verdict:
        """The answer, with reasons where asked."""
        return Verdict(self.passed, tuple(self.reasons), self.metrics) if explain else self.passed


def check_accuracy(found: Findings, now: float, before: float, drop: float) -> None:
    """Compare the quality, of which higher is better."""
    found.metrics["accuracy"] = now
    text = f"accuracy {now:.6g}, was {before:.6g}, may fall by {drop:g}"
    found.add(now >= before - drop - 1e-12, text)  # 0.4 - 0.3 is above 0.1 in floating point


def check_size(found: Findings, native: CompiledModel, most: float, beyond: int, word: str) -> None:
    """Compare the bytes of the artefact."""
    size = native.size_bytes
    found.metrics["size_bytes"] = float(size)
    found.add(size <= most + beyond, f"size {format_size(size)}, {word} {format_size(int(most))}")


def check_memory(found: Findings, native: CompiledModel, arrays: Arrays, most: float, beyond: int, word: str) -> None:
    """Compare the peak memory: of one run, or of the best of three where the first is above."""
    peaks: list[int] = []
    while len(peaks) < 3 and (not peaks or min(peaks) > most + beyond):
        peak = peak_memory(native, arrays)
        if peak is None:
            raise ValueError("peak memory cannot be measured on this system; leave it out")
        peaks.append(peak)
    found.metrics["peak_memory_bytes"] = float(min(peaks))
    text = f"peak memory {format_size(min(peaks))} (of {len(peaks)} runs), {word} {format_size(int(most))}"
    found.add(min(peaks) <= most + beyond, text)


def check_times(found: Findings, what: str, latency: Latency, percent: float, limit: float) -> None:
    """Compare a percentile of the latency with a limit in milliseconds; noise is how far turns' medians lie below."""
    now, low = latency.percentile(percent) * 1e3, latency.spread[0]
    found.metrics[f"latency_ms_p{percent:g}"] = now
    text = f"{what}: p{percent:g} {now:.4g} ms (noise -{100 * (1 - low):.0f} %), limit {limit:g} ms"
    found.add(now * low <= limit, text)


def compare_times(
    found: Findings,
    what: str,
    latencies: Sequence[Latency],
    batch_size: int,
    before: Mapping[str, float],
    max_slowdown: float,
) -> None:
    """Compare the latency with the baseline's.

    Args:
        found: takes the comparison.
        what: was measured, in words.
        latencies: the model's, alone; or the baseline's and the model's from the same turns.
        batch_size: samples per call.
        before: has `latency_ms_p50` or `throughput` of the baseline; not used where its latency was measured too.
        max_slowdown: share by which the latency may rise.
    """
    latency, most = latencies[-1], 1 + max_slowdown
    now = latency.percentile(50) * 1e3
    throughput = batch_size * len(latency.samples) / sum(latency.samples)
    found.metrics |= {"latency_ms_p50": now, "throughput": throughput}
    text = f"{what}: p50 {now:.4g} ms"
    if len(latencies) > 1:
        ratios = np.asarray(latency.medians) / np.asarray(latencies[0].medians)
        low, middle, high = (float(r) for r in np.percentile(ratios, [10, 50, 90]))
        found.metrics["latency_ratio"] = middle
        wanted = f"{middle:.3g} ({low:.3g} to {high:.3g}) of the baseline's in the same turns, limit {most:g}"
        found.add(low <= most, f"{text}, {wanted}")
        return
    low, high = latency.spread
    noise = f"noise -{100 * (1 - low):.0f} +{100 * (high - 1):.0f} %"
    if "latency_ms_p50" in before:
        limit = before["latency_ms_p50"] * most
        found.add(now * low <= limit, f"{text} ({noise}), was {before['latency_ms_p50']:.4g} ms, limit {limit:.4g} ms")
    else:
        least = before["throughput"] / most
        wanted = f"{throughput:.4g} samples/s ({noise}), was {before['throughput']:.4g}, limit {least:.4g}"
        found.add(throughput / low >= least, f"{text}, {wanted}")
