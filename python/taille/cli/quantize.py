"""`taille quantize`: a model of the user's to a quantised artefact, with a report of every layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taille.cli.output import (
    clear_errors,
    err,
    out,
    print_json,
    print_table,
    progress_bars,
    progress_hook,
    require,
)
from taille.cli.sources import load_source
from taille.config import short_size

if TYPE_CHECKING:
    from taille.layer_report import LayerReport

__all__ = ["left_float32", "quantize", "show_left"]


def quantize(
    source: Annotated[
        str, typer.Argument(help="FILE.py:function; it gives a TorchModel, for int8 with calibration_data.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the artefact goes.")],
    precision: Annotated[
        str,
        typer.Option(
            help="int8; mixed: int8 but for sensitive layers, whose weights stay float16 or float32, as few as the "
            "accuracy allows; float16 or bfloat16: weights alone, which needs no calibration data."
        ),
    ] = "int8",
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="With mixed: how far the model's eval_fn may fall (default 0.01).")
    ] = None,
    samples: Annotated[int, typer.Option(help="How many calibration samples to use at most.")] = 1000,
    calibrator: Annotated[str, typer.Option(help="minmax, percentile, entropy or mse.")] = "mse",
    weight_clipping: Annotated[str, typer.Option(help="auto, mse, pairs (quick without VNNI) or none.")] = "auto",
    bias_correction: Annotated[bool, typer.Option(help="Take measured mean errors off the biases.")] = True,
    smooth: Annotated[str, typer.Option(help="SmoothQuant's alpha, from 0 to 1, or off.")] = "0.5",
    ignore: Annotated[
        list[str] | None,
        typer.Option(help='Node, op, shell pattern or "re:..." that stays float32; may be given several times.'),
    ] = None,
    never_slower: Annotated[
        bool, typer.Option(help="Time every layer here and leave those in float32 that are faster so.")
    ] = True,
    report: Annotated[
        bool, typer.Option("--report", help="Measure and show the error and time of every node.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Quantise a PyTorch model and write it as an artefact; int8 is calibrated on the data that the model brings."""
    require("torch", "torch")
    with clear_errors():
        import taille

        err.print(f"importing {source}", markup=False)
        model = load_source(source)
        with progress_bars(transient=True) as bars:
            small = taille.quantize_model(
                model, precision, calibration_samples=samples, calibrator=calibrator, weight_clipping=weight_clipping,
                bias_correction=bias_correction, smooth=alpha(smooth), ignore=tuple(ignore or ()),
                max_accuracy_drop=max_accuracy_drop, never_slower=never_slower, measure_layers=report,
                progress=progress_hook(bars),
            )  # fmt: skip
        before, size = model.size_bytes, small.save(output)
    if as_json:
        print_json({
            "path": str(output), "precision": precision, "size_bytes": size, "size_bytes_before": before,
            "recipe": small.metadata["recipe"], "left_float32": left_float32(small.report),
            "report": json.loads(small.report.to_json()),
        })  # fmt: skip
        return
    out.print(
        f"{output}: {short_size(size)} of {short_size(before)}, {precision}: {small.report.counts()}", markup=False
    )
    show_left(small.report)
    for site in small.report.smoothing:
        where = f"smoothed into {site.into}" if site.into else f"not smoothed: {site.why}"
        out.print(f"{', '.join(site.layers)}: {where}", markup=False)
    if report:
        titles, rows = small.report.cells()
        print_table("nodes, in the order of execution", titles, rows)
        out.print("worst alone: " + ", ".join(r.name for r in small.report.worst[:5]), markup=False)


def alpha(text: str) -> float | None:
    """What --smooth says: a number, or "off"."""
    try:
        return None if text == "off" else float(text)
    except ValueError:
        raise ValueError(f"--smooth is '{text}'; wanted a number from 0 to 1, or off") from None


def left_float32(report: LayerReport) -> list[dict[str, Any]]:
    """The layers that could not, or should not, be smaller, with the reason."""
    return [{"name": r.name, "op": r.op, "why": r.why} for r in report if r.why and r.precision == "float32"]


def show_left(report: LayerReport) -> None:
    """Print the layers that are not int8 for a reason, a line each."""
    for row in report:
        if row.why and row.precision != "int8":
            left = "left in " if row.precision == "float32" else ""
            out.print(f"{left}{row.precision}: {row.name} ({row.op}): {row.why}", markup=False)
