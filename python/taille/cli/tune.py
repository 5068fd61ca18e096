"""`taille tune`: how a model is served best on this machine, kept in its artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taille.cli.output import clear_errors, err, out, print_json, print_table, progress_bars, progress_hook, require
from taille.cli.sources import is_source, load_source

__all__ = ["tune"]


def tune(
    source: Annotated[
        str, typer.Argument(help="An artefact; or FILE.py:function, whose taille.TorchModel may become int8.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the artefact goes; it may be the same.")],
    target_latency_ms: Annotated[float, typer.Option(help="Milliseconds in which half of the requests are answered.")],
    time_budget: Annotated[float, typer.Option(help="Seconds for the search.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure threads, streams, batches and waits here, and write an artefact that is served with the best of them."""
    if is_source(source):
        require("torch", "torch")
    with clear_errors():
        import taille
        from taille.runner_choice import KEY, stored_choice, this_cpu

        model = load_source(source) if is_source(source) else taille.load(source)
        optimizer = taille.InferenceOptimizer()
        try:
            with progress_bars(transient=True) as bars:
                found = optimizer.optimize_inference(
                    model, target_latency_ms / 1e3, time_budget_s=time_budget, progress=progress_hook(bars)
                )
        except KeyboardInterrupt:
            best = optimizer.best
            err.print(f"interrupted; the best so far: {stored_choice(best) if best else 'none'}", markup=False)
            raise typer.Exit(130) from None
        found.save(output)
    entry = found.metadata[KEY][this_cpu()]
    if as_json:
        print_json({"path": str(output), "cpu": this_cpu(), **entry})
        return
    print_table(
        "tried",
        ("streams x threads", "in flight", "median ms", "99 % ms", "requests/s"),
        [
            (f"{row['streams']} x {row['threads']}", str(row["in_flight"]), f"{1e3 * row['latency_p50']:.3g}",
             f"{1e3 * row['latency_p99']:.3g}", f"{row['throughput']:,.0f}")
            for row in entry["tried"]
        ],
    )  # fmt: skip
    out.print(f"{output}: {stored_choice(found)}: {entry['measured']['throughput']:,.0f} requests/s", markup=False)
