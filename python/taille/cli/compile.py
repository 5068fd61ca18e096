"""`taille compile`: a model of the user's to an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taille.cli.output import clear_errors, err, fail, out, print_json, require
from taille.cli.quantize import left_float32, show_left
from taille.cli.sources import load_source
from taille.config import short_size
from taille.layer_report import LayerReport

__all__ = ["compile_command"]

PRECISIONS = ("float32", "float16", "bfloat16", "int8", "mixed")


def compile_command(
    source: Annotated[str, typer.Argument(help="FILE.py:function; the function gives a taille.TorchModel.")],
    output: Annotated[Path, typer.Argument(help="Where the artefact goes.")],
    precision: Annotated[
        str,
        typer.Option(
            help="float32, float16, bfloat16, int8 or mixed, as `taille quantize`, which has the options, makes it by "
            "default; int8 and mixed need the model's calibration_data."
        ),
    ] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compile a PyTorch model to an artefact that runs without torch."""
    require("torch", "torch")
    if precision not in PRECISIONS:
        raise fail(f"unknown precision '{precision}'; there are {', '.join(PRECISIONS)}")
    with clear_errors():
        import taille

        err.print(f"importing {source}", markup=False)
        model = load_source(source)
        report = LayerReport(())
        if precision != "float32":
            small = taille.quantize_model(model, precision)
            model, report = small, small.report
        size = model.save(output)
    inputs, outputs = [[str(s) for s in spec] for spec in (model.input_spec, model.output_spec)]
    result = {
        "path": str(output), "precision": precision, "size_bytes": size, "inputs": inputs, "outputs": outputs,
        "left_float32": left_float32(report),
    }  # fmt: skip
    if as_json:
        print_json(result)
        return
    out.print(f"{output}: {short_size(size)}, {precision}", markup=False)
    out.print(f"inputs  {'; '.join(inputs)}\noutputs {'; '.join(outputs)}", markup=False)
    show_left(report)
