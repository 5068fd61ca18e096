"""`taille pack`, `unpack`, `delta` and `patch`: artefacts in fewer bytes, and what an update sends. Needs no torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from taille.cli.output import clear_errors, out, print_json
from taille.config import short_size

__all__ = ["delta", "pack", "patch", "unpack"]

Artefact = Annotated[Path, typer.Argument(help="An artefact.")]
New = Annotated[Path, typer.Argument(help="The new artefact.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where the file goes.")]
MaxSize = Annotated[str, typer.Option(help="Most bytes that the artefact may have, as 5MB.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def pack(artefact: Artefact, output: Output, as_json: Json = False) -> None:
    """Write an artefact in fewer bytes, and say how long it takes to load."""
    from taille import transport

    with clear_errors():
        found = transport.pack(artefact, output)
    if as_json:
        print_json({"path": str(output), **asdict(found)})
        return
    out.print(f"{output}: {short_size(found.packed_bytes)} of {short_size(found.size_bytes)}", markup=False)
    out.print(f"to a model that is ready to run: {1e3 * found.packed_load_seconds:.1f} ms, from the artefact itself "
              f"{1e3 * found.load_seconds:.1f} ms", markup=False)  # fmt: skip


def unpack(
    packed: Annotated[Path, typer.Argument(help="A file that `taille pack` wrote.")],
    output: Output,
    max_size: MaxSize = "2GB",
    as_json: Json = False,
) -> None:
    """Write the artefact that a packed one holds, bit for bit."""
    from taille import transport

    with clear_errors():
        written = transport.unpack(packed, output, max_size=max_size)
    say_written(output, written, as_json)


def delta(
    base: Annotated[Path, typer.Argument(help="The artefact that is there already.")],
    artefact: New,
    output: Output,
    as_json: Json = False,
) -> None:
    """Write what turns one artefact into another, to be sent in its place."""
    from taille import transport

    with clear_errors():
        found = transport.make_delta(base, artefact, output)
    if as_json:
        print_json({"path": str(output), **asdict(found)})
        return
    out.print(
        f"{output}: {short_size(found.delta_bytes)} for an artefact of {short_size(found.size_bytes)}; "
        f"{short_size(found.unchanged_bytes)} are in the base, {len(found.changed)} tensors changed", markup=False,
    )  # fmt: skip


def patch(
    base: Annotated[Path, typer.Argument(help="The artefact that the delta was made from.")],
    difference: Annotated[Path, typer.Argument(help="A file that `taille delta` wrote.", metavar="DELTA")],
    output: Output,
    max_size: MaxSize = "2GB",
    as_json: Json = False,
) -> None:
    """Write the new artefact from the base and a delta, bit for bit."""
    from taille import transport

    with clear_errors():
        written = transport.apply_delta(base, difference, output, max_size=max_size)
    say_written(output, written, as_json)


def say_written(output: Path, written: int, as_json: bool) -> None:
    """Say what was written."""
    if as_json:
        print_json({"path": str(output), "size_bytes": written})
    else:
        out.print(f"{output}: {short_size(written)}", markup=False, soft_wrap=True)
