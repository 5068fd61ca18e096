"""The page's parts, from the contract to how to do it again, each from `Findings` to HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taille.config import short_size
from taille.report.findings import Candidate, Findings, Layer
from taille.report.markup import Child, Markup, element
from taille.report.plots import MOST_BARS, NARROW, WIDE, histogram, layer_bars, pareto, slowest
from taille.report.quantities import data, digits, ms_text, percent, times_text, us_text
from taille.report.svg import shortened
from taille.report.verdict import Bound

__all__ = ["beside", "candidates", "contract", "header", "latencies", "layers", "provenance"]

METRICS = {
    "latency_ms_p50": ("latency, p50", ms_text),
    "latency_ms_p99": ("latency, p99", ms_text),
    "throughput": ("throughput, samples/s", lambda v: digits(v, 4)),
    "size_bytes": ("size of the artefact", short_size),
    "peak_memory_bytes": ("peak memory", short_size),
    "accuracy": ("quality", lambda v: digits(v, 4)),
    "sparsity": ("weights that are zero", percent),
}


def section(title: str, *children: Child) -> Markup:
    """A part of the page."""
    return element("section", element("h2", title), children)


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Child]], numeric: Sequence[int]) -> Markup:
    """A table that scrolls in a frame of its own.

    Args:
        caption: what it holds, for those who do not see it.
        columns: headings; a column without any content is left out.
        rows: cells; the first of each names the row.
        numeric: the columns aligned right.
    """
    kept = [i for i in range(len(columns)) if not rows or any(row[i] for row in rows)]
    columns, rows = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
    kinds = ["number" if i in numeric else None for i in kept]
    head = [element("th", name, scope="col", class_=kind) for name, kind in zip(columns, kinds, strict=True)]
    body = [
        element("tr", element("th", first, scope="row"),
                [element("td", cell, class_=kind) for cell, kind in zip(rest, kinds[1:], strict=True)])
        for first, *rest in rows
    ]  # fmt: skip
    whole = element("table", element("caption", caption), element("thead", element("tr", head)), element("tbody", body))
    return element("div", whole, class_="scroll", tabindex="0", role="region", aria_label=caption)


def figure(plots: Child, hint: str, legend: Child = None) -> Markup:
    """A plot with a line below it that says what is pointed at."""
    return element("figure", legend, plots, element("figcaption", hint, class_="tip"))


def key(class_: str, text: str) -> Markup:
    """An entry of a legend."""
    return element("li", element("span", class_=f"key {class_}"), text)


def header(findings: Findings, bounds: Sequence[Bound], inputs: str) -> Markup:
    """The model, the verdict, and the numbers that matter most."""
    missed = sum(not bound.kept for bound in bounds)
    verdict = "keeps its contract" if not missed else f"misses {missed} of its {len(bounds)} bounds"
    metrics = findings.metrics
    cards = []
    if "speedup" in metrics:
        cards.append(card(data(metrics["speedup"], times_text(metrics["speedup"])), "as fast as float32",
                          "same engine, measured in turns"))  # fmt: skip
    if "size_bytes_ratio" in metrics:
        share, size = metrics["size_bytes_ratio"], metrics["size_bytes"]
        cards.append(card(data(share, percent(share)), "of the bytes", short_size(size)))
    if "accuracy" in metrics and "baseline_accuracy" in metrics:
        change = metrics["accuracy"] - metrics["baseline_accuracy"]
        cards.append(card(data(metrics["accuracy"], digits(metrics["accuracy"], 4)), "quality",
                          f"{'+' if change >= 0 else ''}{digits(change, 2)} against float32"))  # fmt: skip
    if "latency_ms" in metrics:
        latency = metrics["latency_ms"]
        cards.append(card(data(latency, ms_text(latency)), "a call",
                          f"p{findings.contract.latency_percentile:g}, {calls(findings)}"))  # fmt: skip
    return element(
        "header",
        element("p", "taille report", class_="brand"),
        element("h1", element("bdi", shortened(findings.name, 100))),
        element("p", element("strong", "✗ " if missed else "✓ ", verdict, class_="bad" if missed else "good"),
                " with ", element("code", shortened(findings.chosen, 200)), class_="verdict"),
        element("p", inputs, class_="note"),
        element("ul", cards, class_="cards"),
    )  # fmt: skip


def card(value: Child, what: str, note: str) -> Markup:
    """A number in large type."""
    return element("li", element("b", value), element("span", what), element("small", note))


def calls(findings: Findings) -> str:
    """How the calls were made that were timed."""
    contract = findings.contract
    threads = "all threads" if contract.threads is None else f"{contract.threads} thread{'s'[: contract.threads > 1]}"
    return f"batch of {contract.batch_size}, {threads}"


def contract(findings: Findings, bounds: Sequence[Bound]) -> Markup:
    """Every bound: wanted, reached, margin, kept or not."""
    rows = [
        (bound.what, data(bound.wanted, bound.wanted_text), data(bound.reached, bound.reached_text),
         data(bound.margin, bound.margin_text),
         element("strong", "✓ kept" if bound.kept else "✗ missed", class_="good" if bound.kept else "bad"))
        for bound in bounds
    ]  # fmt: skip
    asked = findings.contract
    return section(
        "Contract",
        table("Bounds of the contract", ("bound", "wanted", "reached", "margin", "verdict"), rows, (1, 2, 3)),
        element("p", f"Judged with {calls(findings)}. The search could take {asked.time_budget_s:g} s and use "
                     f"{', '.join(asked.techniques)}.", class_="note"),
    )  # fmt: skip


def beside(findings: Findings) -> Markup:
    """The float32 model and the chosen one."""
    metrics = findings.metrics
    rows = [
        (what, data(metrics[f"baseline_{name}"], text(metrics[f"baseline_{name}"])),
         data(metrics[name], text(metrics[name])), ratio(metrics.get(f"{name}_ratio")))
        for name, (what, text) in METRICS.items() if name in metrics and f"baseline_{name}" in metrics
    ]  # fmt: skip
    return section(
        "Before and after",
        table("Measurements of both models", ("metric", "float32", "chosen", "ratio"), rows, (1, 2, 3)),
        element("p", "Both run in the same engine on the same machine, one after the other; the speed-up above is "
                     "measured in turns, so that it does not depend on what else the machine did.", class_="note"),
    )  # fmt: skip


def ratio(value: float | None) -> Markup | None:
    """The chosen over the baseline."""
    return data(value, times_text(value)) if value is not None else None


def candidates(findings: Findings) -> Markup:
    """What is possible: the plot and the table of everything that was tried."""
    rows = [candidate_row(c, c.key == findings.chosen) for c in findings.candidates]
    legend = element(
        "ul", key("meets", "keeps the contract"), key("misses", "misses it"), key("chosen", "chosen"),
        key("front", "front: nothing is better in latency, bytes and quality at once"), class_="legend",
    )  # fmt: skip
    columns = ("recipe", "latency, ms", "predicted, ms", "quality", "size", "took, s", "verdict")
    return section(
        "What is possible",
        figure([pareto(findings, WIDE), pareto(findings, NARROW)],
               "The area of a dot is the size of the artefact; ▾: its quality is below the axis. Point at it, or tap.",
               legend),
        table("Candidates", columns, rows, (1, 2, 3, 4, 5)),
        element("p", "Latencies here are those of the search; the chosen model was timed again, for longer.",
                f" The search ended: {findings.ended}." if findings.ended else None, class_="note"),
    )  # fmt: skip


def candidate_row(candidate: Candidate, chosen: bool) -> list[Child]:
    """A row of the table."""
    notes = [
        element("span", text, class_=f"tag {class_}")
        for text, class_, holds in (
            ("chosen", "chosen", chosen), ("kept", "good", candidate.meets), ("front", "", candidate.front),
        ) if holds
    ]  # fmt: skip
    size = candidate.size_bytes
    return [
        element("code", candidate.key),
        data(candidate.latency_ms),
        data(candidate.predicted_ms),
        data(candidate.quality, digits(candidate.quality, 4)) if candidate.quality is not None else None,
        data(size, short_size(size)) if size is not None else None,
        data(candidate.seconds, f"{candidate.seconds:,.1f}"),
        [notes, element("span", candidate.error, class_="error") if candidate.error else None],
    ]


def layers(findings: Findings) -> Markup:
    """Where the time and the bytes go."""
    drawn = slowest(findings.layers)
    hint = "Medians. Point at a bar, or tap it." if len(drawn) < MOST_BARS else (
        f"Medians; the {MOST_BARS} layers that take most time. Point at a bar, or tap it.")  # fmt: skip
    columns = ("layer", "op", "precision", "float32", "chosen", "stored", "left", "SQNR, dB", "kernel", "why")
    legend = element("ul", key("base", "float32"), key("own", "chosen"), class_="legend")
    noise = any(layer.sqnr_db is not None for layer in findings.layers)
    measured = " SQNR: signal to noise of the quantised weights." if noise else ""
    plots = [layer_bars(findings, WIDE), layer_bars(findings, NARROW)]
    return section(
        "Layers",
        figure(plots, hint, legend) if drawn else None,
        table("Layers of the chosen model", columns, [layer_row(one) for one in findings.layers], (3, 4, 5, 6, 7)),
        element("p", "Stored: bytes of the weights in the file, which leaves out whole blocks of zeros. Left: the "
                     "share that is not zero.", measured, class_="note"),
    )  # fmt: skip


def layer_row(layer: Layer) -> list[Child]:
    """A row of the table."""
    before, share = layer.us_float32, layer.share
    stored = layer.weight_bytes if layer.stored_bytes is None else layer.stored_bytes
    bar = element("progress", value=f"{share:.4f}", max="1", aria_hidden="true") if share is not None else None
    return [
        element("code", layer.name),
        layer.op,
        layer.precision,
        data(before, us_text(before)) if before is not None else None,
        data(layer.us, us_text(layer.us)),
        data(stored, short_size(stored)) if stored is not None else None,
        [bar, data(share, percent(share))] if share is not None else None,
        data(layer.sqnr_db),
        element("span", layer.kernel, class_="long"),
        element("span", layer.why, class_="long"),
    ]


def latencies(findings: Findings) -> Markup:
    """How the single calls scatter."""
    legend = element("ul", key("base", "float32"), key("own", "chosen"), class_="legend")
    return section(
        "Latency of single calls",
        figure([histogram(findings, WIDE), histogram(findings, NARROW)],
               "Calls of both in turns; the dashed lines are the medians. Point at a shape, or tap it.", legend),
    )  # fmt: skip


def provenance(findings: Findings) -> Markup:
    """How the chosen model was made, and where it was measured."""
    steps = [
        element("li", element("h3", step.get("step", "step")), pairs({k: v for k, v in step.items() if k != "step"}))
        for step in findings.recipe
    ]
    return section(
        "Recipe and provenance",
        element("ol", steps, class_="steps") if steps else element("p", "No steps: float32, as it was captured."),
        element("p", "Seed of training: ", data(findings.seed, str(findings.seed)))
        if findings.seed is not None
        else None,
        element("h3", "Versions it was made with"),
        pairs(findings.versions),
        element("h3", "Machine it was measured on"),
        pairs(findings.machine),
    )


def pairs(names: Mapping[str, str]) -> Markup:
    """Names with their values."""
    return element("dl", [element("div", element("dt", k), element("dd", v)) for k, v in names.items()])
