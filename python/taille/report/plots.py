"""The three plots: what is possible (Pareto), where the time goes (layers), how it scatters (latencies).

Each is drawn for a width of its own, WIDE and NARROW, of which page.css shows one: text keeps its size on a phone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from taille.config import short_size
from taille.report.findings import Candidate, Findings, Layer
from taille.report.markup import Child, Markup, element
from taille.report.quantities import digits, ms_text, tick_text, us_text
from taille.report.scales import Scale, fit
from taille.report.svg import Frame, drawing, label, mark, path, shortened

__all__ = ["NARROW", "WIDE", "histogram", "layer_bars", "pareto", "slowest"]

WIDE, NARROW = 940, 350
LARGEST_DOT = 20.0, 12.0  # pixels, on a wide plot and on a narrow one
SMALLEST_DOT = 3.5  # pixels; below it dots could not be seen
MOST_BARS = 24
RULED_OUT = "ruled out by the contract"
BASELINE = "dense float32"  # the key that a search gives the float32 model
ROOM_BELOW = 3.0  # what is ruled out takes at most so many times the height of what is allowed
LOG_FROM = 4.0  # a range of values is drawn on a logarithmic axis if its ends differ by this factor


def pareto(findings: Findings, width: int) -> Markup:
    """Latency and quality of the candidates; latency and bytes where quality was not judged."""
    judged = [c for c in findings.candidates if not c.error]
    by_quality = any(c.quality is not None for c in judged)
    points = [(c, c.latency_ms, c.quality if by_quality else c.size_bytes) for c in judged]
    drawn = [(c, x, y) for c, x, y in points if x is not None and y is not None]
    wide = width > NARROW
    height = 430 if wide else 350
    frame = Frame(64 if by_quality else 74, width - 14, 34, height - 46)
    xs, ys = [x for _, x, _ in drawn], [y for _, _, y in drawn]
    contract = findings.contract
    level = contract.least_accuracy(findings.metrics.get("baseline_accuracy")) if by_quality else contract.max_size
    floor = lowest_drawn(ys, level) if by_quality else min(ys)
    ys = [max(y, floor) for y in ys]
    limits = [near(contract.max_latency_ms, xs), near(level, ys)]
    x_scale = fit([*xs, *limits[0]], frame.left, frame.right, log=max(xs) > LOG_FROM * min(xs))
    y_log = not by_quality and max(ys) > LOG_FROM * min(ys)
    y_scale = fit([*ys, *limits[1]], frame.bottom, frame.top, log=y_log, margin=0.12)
    text = tick_text if by_quality else short_size
    most = 9 if wide else 5
    return drawing(
        width, height, f"{len(drawn)} candidates by latency and {'quality' if by_quality else 'bytes'}",
        outside(frame, x_scale, y_scale, limits, quality=by_quality),
        frame.x_axis(x_scale, tick_text, "latency, ms", most),
        frame.y_axis(y_scale, text, "quality" if by_quality else "bytes of the artefact", 7),
        front_line([p for p in drawn if p[2] >= floor], x_scale, y_scale, sign=-1 if by_quality else 1),
        dots(findings, drawn, x_scale, y_scale, frame, floor),
    )  # fmt: skip


def lowest_drawn(qualities: Sequence[float], level: float | None) -> float:
    """Where the axis ends: one candidate that is of no use at all would press the good ones into a line."""
    if level is None or level >= max(qualities):
        return min(qualities)
    return max(min(qualities), level - ROOM_BELOW * (max(qualities) - level))


def near(limit: float | None, values: Sequence[float]) -> list[float]:
    """The limit, if it can be drawn without pressing the values together."""
    if limit is None:
        return []
    span = max(values) - min(values)
    return [limit] if min(values) - span / 2 <= limit <= max(values) + span / 2 else []


def outside(frame: Frame, x: Scale, y: Scale, limits: Sequence[Sequence[float]], *, quality: bool) -> list[Child]:
    """Shades what the contract rules out."""
    found: list[Child] = []
    for limit in limits[0]:
        at = x(limit)
        found += [
            element("rect", class_="out", x=at, y=frame.top, width=frame.right - at, height=frame.bottom - frame.top),
            path([(at, frame.top), (at, frame.bottom)], "limit"),
            label(frame.right - 6, frame.bottom - 8, RULED_OUT, anchor="end", class_="limit")
            if not limits[1]
            else None,
        ]
    for limit in limits[1]:
        at = y(limit)
        top, bottom = (at, frame.bottom) if quality else (frame.top, at)
        found += [
            element("rect", class_="out", x=frame.left, y=top, width=frame.right - frame.left, height=bottom - top),
            path([(frame.left, at), (frame.right, at)], "limit"),
            label(frame.left + 6, at + 15 if quality else at - 6, RULED_OUT, class_="limit"),
        ]
    return found


def front_line(drawn: Sequence[tuple[Candidate, float, float]], x: Scale, y: Scale, *, sign: int) -> Markup | None:
    """The line through the front; what is on it for its bytes alone is left out, as the plot has no third axis."""
    line: list[tuple[float, float]] = []
    for candidate, across, up in sorted(drawn, key=lambda p: (p[1], sign * p[2])):
        if candidate.front and (not line or sign * up < sign * line[-1][1]):
            line.append((across, up))
    return path([(x(a), y(b)) for a, b in line], "front") if len(line) > 1 else None


def dots(
    findings: Findings, drawn: Sequence[tuple[Candidate, float, float]], x: Scale, y: Scale, frame: Frame, floor: float
) -> list[Markup]:
    """The candidates, large ones below; an arrow is at those that lie deeper than the plot goes."""
    largest = max(c.size_bytes or 0.0 for c, _, _ in drawn)
    widest = LARGEST_DOT[frame.right < NARROW]
    found, names = [], []
    for candidate, across, up in sorted(drawn, key=lambda p: -(p[0].size_bytes or 0.0)):
        at = {"cx": x(across), "cy": y(max(up, floor))}
        radius = max(SMALLEST_DOT, widest * math.sqrt((candidate.size_bytes or 0.0) / largest))
        chosen = candidate.key == findings.chosen
        flags = {"meets": candidate.meets, "onfront": candidate.front, "chosen": chosen}
        shapes = [
            element("circle", class_="reach", r=max(radius, 13.0), **at),  # what a finger can hit
            element("circle", class_="dot", r=radius, **at),
            element("circle", class_="ring", r=radius + 5, **at) if chosen else None,
            label(at["cx"], at["cy"] + radius + 14, "▾", anchor="middle", class_="name") if up < floor else None,
        ]
        found.append(mark(told(candidate, chosen), *shapes, class_=" ".join(k for k, v in flags.items() if v)))
        if chosen or candidate.key == BASELINE:
            middle = min(frame.right - 22, max(frame.left + 22, at["cx"]))
            text = "chosen" if chosen else "float32"
            names.append(label(middle, at["cy"] - radius - 10, text, anchor="middle", class_="name"))
    return found + names


def told(candidate: Candidate, chosen: bool) -> str:
    """A candidate in a line."""
    return ", ".join(
        filter(None, [
            candidate.key + (" (chosen)" if chosen else ""),
            ms_text(candidate.latency_ms) if candidate.latency_ms is not None else "",
            f"quality {digits(candidate.quality, 4)}" if candidate.quality is not None else "",
            short_size(candidate.size_bytes) if candidate.size_bytes is not None else "",
            "keeps the contract" if candidate.meets else "misses the contract",
        ])
    )  # fmt: skip


def slowest(layers: Sequence[Layer]) -> list[Layer]:
    """The layers that are drawn: those that take most time, before or after, in their order."""
    ranked = sorted(range(len(layers)), key=lambda i: -max(layers[i].us, layers[i].us_float32 or 0.0))
    return [layers[i] for i in sorted(ranked[:MOST_BARS]) if max(layers[i].us, layers[i].us_float32 or 0.0) > 0]


def layer_bars(findings: Findings, width: int) -> Markup | None:
    """Two bars for each layer: its time in the float32 model and in the chosen one."""
    layers = slowest(findings.layers)
    if not layers:
        return None
    wide = width > NARROW
    step, left = (36, 230) if wide else (54, 2)
    height = step * len(layers) + 44
    frame = Frame(left, width - 92, 2, height - 44)
    longest = max(max(layer.us, layer.us_float32 or 0.0) for layer in layers)
    scale = Scale(0.0, longest, frame.left, frame.right)
    found: list[Markup] = []
    for i, layer in enumerate(layers):
        top = frame.top + step * i
        name = shortened(layer.name, 30 if wide else 40)
        found.append(label(left - 10, top + 22, name, anchor="end") if wide else label(left, top + 16, name))
        found.append(pair(layer, scale, top + (5 if wide else 22)))
    return drawing(
        width, height, f"Time of {len(layers)} layers, in float32 and in the chosen model",
        frame.x_axis(scale, tick_text, "µs per call", 6 if wide else 4), found,
    )  # fmt: skip


def pair(layer: Layer, scale: Scale, top: float) -> Markup:
    """The two bars of a layer."""
    shapes = []
    for us, class_, y in ((layer.us_float32, "base", top), (layer.us, "own", top + 13)):
        if us is not None:
            length = max(1.5, scale(us) - scale.start)  # a bar that is too short to see looks as if it were missing
            shapes += [
                element("rect", class_=f"bar {class_}", x=scale.start, y=y, width=length, height=11.0, rx=2.0),
                label(scale.start + length + 6, y + 9.5, us_text(us), class_="value"),
            ]
    before = "no such layer in float32" if layer.us_float32 is None else f"float32 {us_text(layer.us_float32)}"
    return mark(f"{layer.name} ({layer.op}, {layer.precision}): {before}, chosen {us_text(layer.us)}", *shapes)


def histogram(findings: Findings, width: int) -> Markup:
    """How often a call took how long, for both models."""
    wide = width > NARROW
    height = 300 if wide else 270
    frame = Frame(48, width - 14, 34, height - 46)
    every = [v for values in findings.latencies_ms.values() for v in values]
    x = fit(every, frame.left, frame.right, log=True, margin=0.03)
    bins = 60 if wide else 30
    series = {name: shares(values, x, bins) for name, values in findings.latencies_ms.items()}
    highest = max(max(found) for found in series.values())
    y = Scale(0.0, highest * 1.12, frame.bottom, frame.top)
    drawn = []
    for name, class_ in (("float32", "base"), ("chosen", "own")):
        values = findings.latencies_ms[name]
        steps = outline(series[name])
        points = [(x.start + (x.end - x.start) * at / bins, y(share)) for at, share in steps]
        middle = x(statistics.median(values))
        drawn.append(mark(
            f"{name}: {len(values)} calls, median {ms_text(statistics.median(values))}, "
            f"fastest {ms_text(min(values))}, slowest {ms_text(max(values))}",
            path(points, "area", closed=True),
            path([(middle, frame.top), (middle, frame.bottom)], "median"),
            class_=class_,
        ))  # fmt: skip
    return drawing(
        width, height, "Latency of single calls, float32 and chosen",
        frame.x_axis(x, tick_text, "latency, ms (logarithmic)", 10 if wide else 5),
        frame.y_axis(y, lambda share: f"{tick_text(100 * share)} %", "share of the calls", 5), drawn,
    )  # fmt: skip


def outline(heights: Sequence[float]) -> list[tuple[int, float]]:
    """The corners of a histogram's shape, from its first bin that is not empty to its last."""
    filled = [i for i, height in enumerate(heights) if height]
    first, last = filled[0], filled[-1]
    steps = [(at, heights[i]) for i in range(first, last + 1) for at in (i, i + 1)]
    return [(first, 0.0), *steps, (last + 1, 0.0)]


def shares(values: Sequence[float], scale: Scale, bins: int) -> list[float]:
    """The share of the values in each of so many bins, equally wide on the scale."""
    counts = [0] * bins
    for value in values:
        at = (scale(value) - scale.start) / (scale.end - scale.start)
        counts[min(bins - 1, max(0, int(at * bins)))] += 1
    return [count / len(values) for count in counts]
