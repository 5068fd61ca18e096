"""`taille profile`: the time of each node of an artefact, on random inputs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
import typer

from taille.cli.output import clear_errors, out, print_json, print_table

__all__ = ["profile", "random_inputs"]


def profile(
    artefact: Annotated[str, typer.Argument(help="The artefact.")],
    batch: Annotated[int, typer.Option(min=1, help="Size of the first dynamic dimension.")] = 1,
    length: Annotated[int, typer.Option(min=1, help="Size of every other dynamic dimension.")] = 64,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default all that are granted.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run an artefact on random inputs and show the time of each node (the median of several runs)."""
    with clear_errors():
        import taille

        model = taille.load(artefact, threads=threads)
        inputs = random_inputs(model, batch, length)
        runs = sorted((model.profile(inputs) for _ in range(9)), key=lambda p: p.seconds)
        median = runs[len(runs) // 2]
    if as_json:
        print_json({"threads": model.threads, "batch": batch, **json.loads(median.to_json())})
        return
    total = median.seconds or 1.0
    rows = [
        (r.name, r.op, r.kernel, r.precision, "x".join(map(str, r.shape)), f"{r.seconds * 1e6:.1f}",
         f"{r.seconds / total:.1%}", r.why)
        for r in median.rows
    ]  # fmt: skip
    title = f"{artefact}: batch {batch}, threads {model.threads}, {median.seconds * 1e3:.3f} ms"
    print_table(title, ("node", "op", "kernel", "precision", "shape", "us", "share", "why"), rows)
    out.print()


def random_inputs(model: Any, batch: int, length: int) -> dict[str, np.ndarray[Any, Any]]:
    """Seeded inputs that fit the model's spec: normal floats, ids of zero and one, true masks."""
    rng = np.random.default_rng(0)
    sizes: dict[str, int] = {}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for spec in model.input_spec:
        shape = []
        for dim in spec.shape:
            if isinstance(dim, str):
                dim = sizes.setdefault(dim, length if sizes else batch)
            shape.append(dim)
        if spec.dtype == "float32":
            arrays[spec.name] = rng.standard_normal(shape, dtype=np.float32)
        elif spec.dtype == "int64":
            arrays[spec.name] = np.ones(shape, dtype=np.int64)
        else:
            arrays[spec.name] = np.ones(shape, dtype=np.bool_)
    return arrays
