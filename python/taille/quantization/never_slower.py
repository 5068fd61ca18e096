"""Never slower: a layer stays float32 where that is measured to be faster, the conversions that int8 needs included.

Both networks run in turns on one sample, node by node. Where a layer's int8 form with its conversions is not clearly
the faster, the network with that layer in float32 is built and measured too, since a boundary that moves may cost more
or less than one that comes or goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from taille.batches import Arrays
from taille.quantization.options import Progress

if TYPE_CHECKING:
    from taille import _native

__all__ = ["Timing", "time_layers"]

SURE = 0.8  # below this share of the float32 form's time the int8 form is taken to be faster without a trial
GAIN = 0.05  # of the time of what a trial changes: what it must gain to be kept
LEAST = 1e-6  # seconds that it must gain
ROUNDS = (5, 25)  # at least and at most, that times are medians of
PATIENCE = 1.0  # seconds after which there are no more rounds than the least

Quantize = Callable[[Collection[str]], "_native.Graph"]  # the graph in which these layers are not int8
Key = tuple[str, str, tuple[str, ...]]  # a node's name, dtype and the dtypes of its inputs


@dataclass
class Timing:
    """What was measured.

    Attributes:
        kept: the layers that are faster in float32.
        why: of each layer: how the two forms compare.
    """

    kept: list[str] = field(default_factory=list)
    why: dict[str, str] = field(default_factory=dict)


def time_layers(
    layers: Sequence[str], exact: _native.Graph, quantize: Quantize, sample: Arrays, progress: Progress | None = None
) -> Timing:
    """Find the layers that are faster in float32.

    Args:
        layers: those in question: int8 where nothing is kept.
        exact: the float32 graph.
        quantize: gives the graph in which the layers named are not int8.
        sample: what to run on.
        progress: told how many networks have been timed.
    """
    base = quantize(())
    before, after = measure([exact, base], sample)
    float_seconds = {key[0]: seconds for key, seconds in before.items()}
    int8_seconds = with_conversions(base, after)
    timing = Timing()
    unsure = []
    for name in layers:
        ratio = float_seconds[name] / max(int8_seconds[name], 1e-9)  # a clock may not tick
        timing.why[name] = f"{ratio:.1f} times as fast as float32, conversions included"
        if int8_seconds[name] > SURE * float_seconds[name]:
            unsure.append(name)
    # Conversions that a trial brings cost more than nothing, so it cannot save more than this; most are not worth it.
    groups = [g for g in trials(base, unsure) if sum(int8_seconds[n] - float_seconds[n] for n in g) > LEAST]
    for number, group in enumerate(groups):
        if progress is not None:
            progress("timing layers", number + 1, len(groups) + 1)
        if not set(group).isdisjoint(timing.kept):
            continue
        now, other = measure([base, quantize([*timing.kept, *group])], sample)
        saved, changed = gain(now, other)
        if saved > max(LEAST, GAIN * changed):
            timing.kept += group
            base = quantize(timing.kept)
            of = "" if len(group) == 1 else f" by it and {len(group) - 1} beside it"
            for name in group:
                timing.why[name] = f"float32 is faster: {saved * 1e6:.1f} of {changed * 1e6:.1f} us saved{of}"
        elif len(group) == 1 and float_seconds[group[0]] < int8_seconds[group[0]]:
            timing.why[group[0]] = f"as fast as float32: that would save {max(saved, 0) * 1e6:.1f} us"
    if progress is not None:
        progress("timing layers", len(groups) + 1, len(groups) + 1)
    return timing


def measure(graphs: Sequence[_native.Graph], sample: Arrays) -> list[dict[Key, float]]:
    """The median seconds of each node of each graph; the graphs run in turns."""
    from taille import _native

    models = [_native.Model(graph) for graph in graphs]
    rounds: list[list[list[float]]] = [[] for _ in graphs]
    start = perf_counter()
    while len(rounds[0]) < ROUNDS[0] or (len(rounds[0]) < ROUNDS[1] and perf_counter() - start < PATIENCE):
        for model, times in zip(models, rounds, strict=True):  # profile() warms up, so caches are each one's own
            times.append([float(row["seconds"]) for row in model.profile(sample)])
    found = []
    for graph, model, times in zip(graphs, models, rounds, strict=True):
        keys = node_keys(graph)
        names = [row["name"] for row in model.profile(sample)]
        found.append({keys[n]: float(t) for n, t in zip(names, np.median(times, axis=0), strict=True)})
    return found


def node_keys(graph: _native.Graph) -> dict[str, Key]:
    """What tells whether a node of another graph does the same work, by name."""
    return {
        node["name"]: (node["name"], node["dtype"], tuple(graph.value(v)[1] if v >= 0 else "" for v in node["inputs"]))
        for node in graph.nodes
    }


def with_conversions(graph: _native.Graph, seconds: dict[Key, float]) -> dict[str, float]:
    """The seconds of each node and its share of the conversions right before and after it."""
    nodes = graph.nodes
    keys = node_keys(graph)
    readers = Counter(v for node in nodes for v in set(node["inputs"]))
    producer = {node["output"]: node for node in nodes}
    total = {node["name"]: seconds.get(keys[node["name"]], 0.0) for node in nodes}
    own = dict(total)
    for node in nodes:
        for value in set(node["inputs"]):
            source = producer.get(value)
            if source is not None and source["op"] == "quantize":
                total[node["name"]] += own[source["name"]] / readers[value]
            if source is not None and node["op"] == "dequantize":
                total[source["name"]] += own[node["name"]]
    return total


def gain(now: dict[Key, float], other: dict[Key, float]) -> tuple[float, float]:
    """How many seconds the other graph saves, and of how many; of the nodes that are not in both."""
    changed = sum(seconds for key, seconds in now.items() if key not in other)
    return changed - sum(seconds for key, seconds in other.items() if key not in now), changed


def trials(graph: _native.Graph, unsure: Sequence[str]) -> list[list[str]]:
    """Groups of layers between which no other layer lies, where these are several; then each layer alone."""
    nodes = graph.nodes
    producer = {node["output"]: node for node in nodes}
    layer_of: dict[int, set[str]] = {}  # by value: the unsure layers it comes from, through nodes that are no layers
    group: dict[str, set[str]] = {name: {name} for name in unsure}
    for node in nodes:
        sources: set[str] = set()
        for value in node["inputs"]:
            sources |= layer_of.get(value, set()) if value in producer else set()
        name = node["name"]
        if name in group:
            joined = group[name].union(*(group[s] for s in sources))
            for member in joined:
                group[member] = joined
            sources = {name}
        elif node["op"] in ("linear", "conv2d", "sdpa"):
            sources = set()
        layer_of[node["output"]] = sources
    groups: list[list[str]] = []
    for name in unsure:
        members = sorted(group[name], key=list(unsure).index)
        if len(members) > 1 and members not in groups:
            groups.append(members)
    return groups + [[name] for name in unsure]
