"""`taille compile`: a model of the user's to an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taille.cli.output import clear_errors, err, fail, human_bytes, out, print_json, require
from taille.cli.sources import load_source

__all__ = ["compile_command"]

PRECISIONS = ("float32", "float16", "bfloat16", "int8")


def compile_command(
    source: Annotated[str, typer.Argument(help="FILE.py:function; the function gives a taille.TorchModel.")],
    output: Annotated[Path, typer.Argument(help="Where the artefact goes.")],
    precision: Annotated[
        str, typer.Option(help="float32, float16, bfloat16, or int8 (then the model needs calibration_data).")
    ] = "float32",
    calibrator: Annotated[str, typer.Option(help="minmax or percentile.")] = "minmax",
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
        report = []
        if precision != "float32":
            model = taille.quantize_model(model, precision, calibrator=calibrator)
            report = [{"name": r.name, "op": r.op, "why": r.why} for r in model.report if r.precision == "float32"]
        size = model.save(output)
    inputs, outputs = [[str(s) for s in spec] for spec in (model.input_spec, model.output_spec)]
    result = {
        "path": str(output), "precision": precision, "size_bytes": size, "inputs": inputs, "outputs": outputs,
        "left_float32": report,
    }  # fmt: skip
    if as_json:
        print_json(result)
        return
    out.print(f"{output}: {human_bytes(size)}, {precision}", markup=False)
    out.print(f"inputs  {'; '.join(inputs)}\noutputs {'; '.join(outputs)}", markup=False)
    for row in report:
        out.print(f"left in float32: {row['name']} ({row['op']}): {row['why']}", markup=False)
