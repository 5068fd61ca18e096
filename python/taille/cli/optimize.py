"""`taille optimize`: the contract on the command line, the search, and what it found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taille.cli.output import (
    clear_errors,
    err,
    fail,
    out,
    print_json,
    print_table,
    progress_bars,
    progress_hook,
    require,
)
from taille.cli.sources import is_source, load_source
from taille.config import short_size

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.progress import Progress

    from taille.optimization.search import State
    from taille.torch_model import TorchModel

__all__ = ["optimize", "show_candidates", "watcher"]


def optimize(
    source: Annotated[
        str, typer.Argument(help="FILE.py:function, which gives a taille.TorchModel; or a model of `taille bench`.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the artefact goes.")],
    max_latency_ms: Annotated[float | None, typer.Option(help="Milliseconds of one call.")] = None,
    latency_percentile: Annotated[float, typer.Option(help="Of the calls, that --max-latency-ms bounds.")] = 50.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples per call.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default all that are granted.")] = None,
    max_size: Annotated[str | None, typer.Option(help="Bytes of the artefact, as 5MB.")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Resident bytes, as 200MB.")] = None,
    max_accuracy_drop: Annotated[float | None, typer.Option(help="That quality may fall by.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="That quality may fall to.")] = None,
    time_budget: Annotated[float, typer.Option(help="Seconds for the search.")] = 600.0,
    techniques: Annotated[
        str | None,
        typer.Option(help="Those that may be used, as quantization,pruning; of quantization, pruning, distillation."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="Where candidates are made: local, or ray, on the Ray cluster that RAY_ADDRESS names.")
    ] = "local",
    data: Annotated[
        str | None,
        typer.Option(help="Samples with labels: an .npz with inputs and targets, a folder of images by class, or "
                     "FILE.py:function."),
    ] = None,
    metric: Annotated[str, typer.Option(help="With --data: accuracy, f1, rmse, r2 or spearman.")] = "accuracy",
    report: Annotated[Path | None, typer.Option(help="Where an HTML page goes that shows what was found.")] = None,
    journal: Annotated[Path | None, typer.Option(help="A folder that an interrupted search goes on from.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random numbers in training.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:  # fmt: skip
    """Find the fastest form of a model that keeps a contract, measure it, and write it as an artefact."""
    require("torch", "torch")
    with clear_errors():
        from taille.errors import ConstraintError
        from taille.optimization import ModelOptimizer

        constraints = {
            "max_latency_ms": max_latency_ms, "latency_percentile": latency_percentile, "batch_size": batch_size,
            "threads": threads, "max_size": max_size, "max_memory": max_memory,
            "max_accuracy_drop": max_accuracy_drop, "min_accuracy": min_accuracy, "time_budget_s": time_budget,
            "techniques": None if techniques is None else [t.strip() for t in techniques.split(",")],
        }  # fmt: skip
        model = open_model(source, data, metric)
        optimizer = ModelOptimizer(executor=executor)
        try:
            with progress_bars(transient=True) as bars:
                native, metrics = optimizer.optimize_model(
                    model, constraints, journal=journal, seed=seed, watch=watcher(bars), progress=progress_hook(bars)
                )
        except ConstraintError as error:
            if not as_json:
                show_candidates(error.front)
            raise fail(str(error)) from None
        except KeyboardInterrupt:
            best = optimizer.state.best
            err.print(f"interrupted; the best so far: {best.key if best else 'none that keeps the contract'}. The same "
                      "command goes on from here.", markup=False)  # fmt: skip
            raise typer.Exit(130) from None
        native.save(output)
        if report is not None:
            from taille.report import write_report

            write_report(native, report)
    search = native.metadata["search"]
    if as_json:
        print_json({"path": str(output), **search})
        return
    show_candidates(search["candidates"], search["chosen"])
    show_metrics(search["chosen"], metrics)
    out.print(f"the search ended: {search['ended']}; seed {search['seed']}", markup=False)
    out.print(f"{output}: {short_size(output.stat().st_size)}", markup=False, soft_wrap=True)


def open_model(source: str, data: str | None, metric: str) -> TorchModel:
    """The model that the command names, with the data that it names.

    Raises:
        ValueError, TypeError: there is no such model, or it is no TorchModel.
    """
    from taille.bench.models import MODELS, build
    from taille.torch_model import TorchModel

    if not is_source(source) and source not in MODELS:
        raise ValueError(f"MODEL is '{source}'; wanted FILE.py:function or one of {', '.join(MODELS)}")
    err.print(f"importing {source}", markup=False)
    model = load_source(source) if is_source(source) else build(source, 1, None)
    if not isinstance(model, TorchModel):
        raise TypeError(f"{source} gives a {type(model).__name__}; wanted a TorchModel, which can still be changed")
    if data is not None:
        from taille.cli.data import attach, read_data

        attach(model, read_data(data), metric)
    return model


def watcher(bars: Progress) -> Callable[[State], None]:
    """A line that says what is in work, what is the best so far, and how much time is left."""
    task = bars.add_task("search", total=None)

    def watch(state: State) -> None:
        best = state.best
        text = "none yet" if best is None else f"{best.key}, {best.metrics['latency_ms']:.3g} ms"
        left = f"{state.seconds_left:.0f} s left"
        bars.update(task, description=f"{state.doing or 'search'} | best: {text} | {left}")

    return watch


def show_candidates(candidates: Sequence[Mapping[str, Any]], chosen: str = "") -> None:
    """The table of what was tried."""
    rows = []
    for one in candidates:
        found = one["metrics"]
        quality = f"{found['accuracy']:.4f}" if "accuracy" in found else ""
        predicted = f"{one['predicted_ms']:.3f}" if one["predicted_ms"] else ""
        rows.append(
            (one["key"] + (" <- chosen" if one["key"] == chosen else ""), f"{found['latency_ms']:.3f}", predicted,
             quality, short_size(int(found["size_bytes"])), f"{one['seconds']:.1f}")
            if found else (one["key"], "", "", "", one["error"][:80], "")
        )  # fmt: skip
    print_table("candidates", ("recipe", "ms", "predicted", "quality", "size", "took s"), rows)


def show_metrics(chosen: str, metrics: Mapping[str, float]) -> None:
    """The table of the model that is given back, beside the float32 model."""
    rows = [
        (name, f"{metrics['baseline_' + name]:.5g}", f"{metrics[name]:.5g}",
         f"{metrics[name + '_ratio']:.3f}" if name + "_ratio" in metrics else "")
        for name in metrics if f"baseline_{name}" in metrics
    ]  # fmt: skip
    print_table(f"{chosen}, beside float32 in the same engine", ("metric", "float32", "chosen", "ratio"), rows)
    if "speedup" in metrics:
        out.print(f"{metrics['speedup']:.2f}x as fast as float32, measured in turns", markup=False)
