"""`taille prune`: a model of the user's, pruned and recovered, to an artefact, with a report of every layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
from taille.cli.sources import load_source
from taille.config import short_size

__all__ = ["prune"]

PRECISIONS = ("int8", "mixed", "float16", "bfloat16")


def prune(
    source: Annotated[str, typer.Argument(help="FILE.py:function; it gives a TorchModel with its data.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the artefact goes.")],
    target_size: Annotated[float, typer.Option(help="The share of the weights that remains, in (0, 1].")],
    method: Annotated[str, typer.Option(help="magnitude, structured or sensitivity.")] = "magnitude",
    pattern: Annotated[
        str | None,
        typer.Option(help="block4x4, block2x4, block1x4, block4x16, block4x32, N:M as 2:4, channel, unstructured."),
    ] = None,
    scope: Annotated[str, typer.Option(help="layer: the same share in each; global: all layers compete.")] = "layer",
    score: Annotated[str | None, typer.Option(help="magnitude, wanda or fisher.")] = None,
    recovery: Annotated[
        str,
        typer.Option(
            help="none; reconstruction, on calibration_data; distillation, on inputs without labels; schedule, on "
            "train_data with loss_fn; auto: the last of these that the model has the data for."
        ),
    ] = "auto",
    steps: Annotated[int | None, typer.Option(help="Training steps of one batch each.")] = None,
    lr: Annotated[float | None, typer.Option(help="The highest learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random numbers in training.")] = 0,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help='Layer, op, shell pattern or "re:..." that stays dense; may be given several times.'),
    ] = None,
    include_first_last: Annotated[
        bool, typer.Option("--include-first-last", help="Prune the first and the last layer too.")
    ] = False,
    min_weights: Annotated[int, typer.Option(help="Layers with fewer weights stay dense.")] = 1024,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file to go on from after an interrupt; removed at the end.")
    ] = None,
    permute: Annotated[
        bool | None,
        typer.Option(
            "--permute/--no-permute",
            help="First put channels of like importance side by side: blocks keep more. By default where "
            "something is recovered and tracing allows it.",
        ),
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="Then quantise to int8, mixed, float16 or bfloat16, as `taille quantize`.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="Show what became of every layer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Prune a PyTorch model, win back what that cost on the data that it brings, and write it as an artefact."""
    require("torch", "torch")
    if quantize is not None and quantize not in PRECISIONS:
        raise fail(f"--quantize is '{quantize}'; there are {', '.join(PRECISIONS)}")
    with clear_errors():
        import taille
        from taille.pruning.channels import ChannelPrunedModel
        from taille.pruning.options import LEARNING_RATE

        err.print(f"importing {source}", markup=False)
        model = load_source(source)
        with progress_bars(transient=True) as bars:
            hook = progress_hook(bars)
            pruned = taille.prune_model(
                model, target_size, method, pattern=pattern, scope=scope, score=score, recovery=recovery, steps=steps,
                lr=LEARNING_RATE if lr is None else lr, seed=seed, ignore=tuple(ignore or ()),
                include_first_last=include_first_last, min_weights=min_weights, checkpoint=checkpoint, progress=hook,
                permute=permute,
            )  # fmt: skip
            small = taille.quantize_model(pruned, quantize, progress=hook) if quantize else pruned
        before, size = model.size_bytes, small.save(output)
    step = pruned.metadata["recipe"][-1]
    if as_json:
        print_json({
            "path": str(output), "precision": quantize or "float32", "size_bytes": size, "size_bytes_before": before,
            "sparsity": small.sparsity, "recipe": small.metadata["recipe"],
            "report": json.loads(pruned.report.to_json()),
        })  # fmt: skip
        return
    out.print(f"{output}: {short_size(size)} of {short_size(before)}, {quantize or 'float32'}", markup=False)
    if isinstance(pruned, ChannelPrunedModel):
        out.print(f"{100 * step['achieved']:.2f} % of the weights of channels that can go remain", markup=False)
        if report:
            out.print(str(pruned.report), markup=False)
        return
    out.print(
        f"{pruned.report.counts()}; {100 * step['share']:.2f} % of their weights remain in {step['pattern']}; "
        f"recovery: {step['recovery']}, {step['reconstructed']} layers reconstructed, {step['steps']} training steps",
        markup=False,
    )
    if pruned.report.orders:
        out.print(f"channels of {len(step['permuted'])} of {len(pruned.report.orders)} groups in another order")
    if report:
        titles, rows = pruned.report.cells()
        print_table("layers, in the order of execution", titles, rows)
        if pruned.report.orders:
            titles, rows = pruned.report.order_cells()
            print_table("order of channels, by group", titles, rows)
