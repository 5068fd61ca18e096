"""`taille report`: what a search found, as a page that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from taille.cli.output import clear_errors, out, print_json
from taille.config import short_size

__all__ = ["report"]


def report(
    artefact: Annotated[Path, typer.Argument(help="An artefact that `taille optimize` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the HTML page goes.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write one HTML page: the contract, what was tried, every layer, and how to do it again. Needs no torch."""
    with clear_errors():
        from taille.report import write_report

        written = write_report(artefact, output)
    if as_json:
        print_json({"path": str(output), "bytes": written})
    else:
        out.print(f"{output}: {short_size(written)}", markup=False, soft_wrap=True)
