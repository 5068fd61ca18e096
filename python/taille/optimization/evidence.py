"""What the chosen model carries with it: the contract, the candidates, the measurements, and its layers one by one.

Reports are made from this alone, wherever the artefact goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import taille
from taille.compiled import CompiledModel
from taille.optimization.journal import Entry
from taille.samples import Feed
from taille.transport.layout import stored_bytes

__all__ = ["compared", "evidence", "layer_rows"]

COMPARED = ("latency_ms_p50", "latency_ms_p99", "throughput", "size_bytes", "peak_memory_bytes", "accuracy", "sparsity")
PROFILES = 5  # that layers' times are medians of
MOST_SAMPLES = 200  # latencies kept for a histogram


def compared(found: Mapping[str, float], baseline: Mapping[str, float]) -> dict[str, float]:
    """Each metric that was measured, the baseline's (`baseline_*`), and their ratio (`*_ratio`)."""
    metrics = {}
    for name in COMPARED:
        if name in found and name in baseline:
            metrics[name], metrics[f"baseline_{name}"] = found[name], baseline[name]
            if baseline[name]:
                metrics[f"{name}_ratio"] = found[name] / baseline[name]
    return metrics | {name: found[name] for name in ("latency_ms", "speedup") if name in found}


def evidence(
    search: Mapping[str, Any], chosen: Entry, entries: Sequence[tuple[Entry, bool, bool]], metrics: Mapping[str, float],
    latencies: Mapping[str, Sequence[float]], layers: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """A JSON-compatible object.

    Args:
        search: "contract", what was asked for; "seed"; "ended", why the search ended.
        chosen: the candidate that is given back.
        entries: all of them; whether each is on the front, and whether it meets the contract.
        metrics: `compared`'s.
        latencies: milliseconds of single calls, of "chosen" and "float32".
        layers: `layer_rows`'.
    """
    from taille import _native

    return {
        **search, "chosen": chosen.key, "metrics": dict(metrics),
        "candidates": [
            {k: v for k, v in vars(e).items() if k != "file"} | {"front": on_front, "meets": meets}
            for e, on_front, meets in entries
        ],
        "latencies_ms": {name: thinned(values) for name, values in latencies.items()},
        "layers": layers,
        "machine": {"cpu": _native.cpu_name(), "level": _native.active_isa(), "taille": taille.__version__},
    }  # fmt: skip


def thinned(values: Sequence[float]) -> list[float]:
    """At most MOST_SAMPLES of them, from the lowest to the highest."""
    ordered = np.sort(np.asarray(values))
    picked = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), MOST_SAMPLES)).round().astype(int)]
    return [round(float(v), 6) for v in picked]


def layer_rows(chosen: CompiledModel, baseline: CompiledModel, sample: Feed) -> list[dict[str, Any]]:
    """A row for every node of the chosen model: name, op, precision, kernel, microseconds, weight bytes, pattern, why.

    `us_float32` is the time of the float32 model's node of the same name, where there is one; `sqnr_db` the ratio of
    signal to noise of its quantised weight, where that was measured; `share` how many of its weights are not zero;
    `stored_bytes` what its weight takes in the file, where whole blocks of zeros are left out.
    """
    from taille import _native

    times, before = median_times(chosen, sample), median_times(baseline, sample)
    sqnr = chosen.metadata.get("weight_sqnr_db") or {}
    graph = chosen.graph
    constants = graph.constants()
    stored = stored_bytes(_native.serialize(graph))
    weights, names = {}, {}
    for node in graph.nodes:
        if node["op"] in ("linear", "conv2d", "embedding"):
            found = [graph.value(v)[0] for v in node["inputs"] if v >= 0 and graph.value(v)[0] in constants]
            if found:
                largest = max(found, key=lambda name: constants[name].nbytes)
                weights[node["name"]], names[node["name"]] = constants[largest], largest
    rows = []
    for node in chosen.nodes():
        name, weight = node["name"], weights.get(node["name"])
        row: dict[str, Any] = {k: node[k] for k in ("name", "op", "precision", "kernel", "why")}
        row |= {"us": times[name], "us_float32": before.get(name), "sqnr_db": sqnr.get(name)}
        if weight is not None:
            row |= {"weight_bytes": int(weight.nbytes), "stored_bytes": stored.get(names[name], int(weight.nbytes))}
            row["share"] = float(np.count_nonzero(weight) / max(1, weight.size))
        rows.append(row)
    return rows


def median_times(model: CompiledModel, sample: Feed) -> dict[str, float]:
    """Microseconds of every node."""
    runs = [model.profile(sample).rows for _ in range(PROFILES)]
    return {rows[0].name: 1e6 * float(np.median([r.seconds for r in rows])) for rows in zip(*runs, strict=True)}
