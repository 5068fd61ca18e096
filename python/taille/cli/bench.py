"""`taille bench`: taille beside other engines, on the same inputs, in the same run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taille.cli.bench_output import markdown, show, show_kernels, summary
from taille.cli.output import clear_errors, err, fail, print_json, require
from taille.cli.sources import is_source, load_source

if TYPE_CHECKING:
    from taille.bench.compare import Step
    from taille.torch_model import TorchModel

__all__ = ["bench"]


def bench(
    model: Annotated[
        str,
        typer.Argument(
            help="mlp, resnet50, mobilenetv2, minilm or bert-base; all: these at their usual batches; "
            "FILE.py:function, which gives a taille.TorchModel; or kernels: single kernels, by themselves."
        ),
    ],
    batch: Annotated[int | None, typer.Option(min=1, help="Samples per call; 1 by default.")] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads of every engine; more than once for several runs.")
    ] = None,
    sequence: Annotated[int | None, typer.Option(min=1, help="Tokens per sample; 128 by default.")] = None,
    pairs: Annotated[int, typer.Option(min=1, help="Turns of each peer beside taille.")] = 30,
    peers: Annotated[
        str, typer.Option(help="Out of onnxruntime, openvino, torch, torch-compile; '' for none.")
    ] = "onnxruntime,openvino,torch",
    sparsity: Annotated[
        float, typer.Option(min=0, max=0.99, help="Prune the model first: the share of weights that goes.")
    ] = 0.0,
    pattern: Annotated[
        str | None,
        typer.Option(help="With --sparsity: block4x4 (the default), block2x4, block1x4, block4x16."),
    ] = None,
    op: Annotated[list[str] | None, typer.Option(help="With kernels: gemm_s8, gemm_f32, depthwise_s8.")] = None,
    no_amx: Annotated[bool, typer.Option("--no-amx", help="Refuse AMX to all engines, taille included.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print one Markdown table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure a model in taille and in the engines that are installed, and check that their outputs agree."""
    if model == "kernels":
        if sparsity:
            raise fail("--sparsity goes with a model; pytest benchmarks/test_gemm_sparse.py times the sparse kernel")
        bench_kernels(op or [], as_json)
        return
    if pattern is not None and not sparsity:
        raise fail(f"--pattern {pattern} goes with --sparsity, the share of weights that goes: --sparsity 0.75")
    if op:
        raise fail("--op goes with kernels: taille bench kernels --op gemm_s8")
    require("torch", "torch")
    with clear_errors():
        from taille import _native
        from taille.bench.compare import machine
        from taille.bench.cpu import deny_amx

        if no_amx:
            deny_amx()
        counts = threads or [_native.granted_threads()[0]]
        names = [p.strip() for p in peers.split(",") if p.strip()]
        runs = [(*case, count) for case in cases(model, batch) for count in counts]
        if model == "all" and sequence is not None:
            raise fail("--sequence goes with one model")
        pruning = (sparsity, pattern or "block4x4") if sparsity else None
        results = measure_all([(*run, pairs, names, pruning) for run in runs], sequence)
        result = {**machine(), "results": results}
    if as_json:
        print_json(result)
    elif as_markdown:
        typer.echo(markdown(result))
    else:
        show(result)
    if any(row["wrong"] for r in results for row in r["rows"]):
        raise fail("outputs are wrong; see above")


def bench_kernels(ops: Sequence[str], as_json: bool) -> None:
    """Time single kernels on one thread."""
    with clear_errors():
        from taille.bench.compare import machine
        from taille.bench.kernels import measure_kernels

        with steps("kernels", None) as step:
            result = {**machine(), "rows": measure_kernels(ops, step)}
    if as_json:
        print_json(result)
    else:
        show_kernels(result)


def cases(model: str, batch: int | None) -> list[tuple[str, int]]:
    """The models and batches to run."""
    from taille.bench.models import MODELS, STANDARD

    if model == "all":
        return [(name, batch or usual) for name, usual in STANDARD if batch is None or usual == 1]
    if model not in MODELS and not is_source(model):
        raise ValueError(f"no model is called '{model}'; there are {', '.join(MODELS)}, all, and FILE.py:function")
    return [(model, batch or 1)]


def find_model(name: str, batch: int, sequence: int | None) -> TorchModel:
    """The built-in model of that name, or what the user's function gives."""
    from taille.bench.models import MODELS, build
    from taille.torch_model import TorchModel

    if name in MODELS:
        return build(name, batch, sequence)
    model = load_source(name)
    if not isinstance(model, TorchModel):
        raise TypeError(f"bench takes a function that gives a TorchModel, not {type(model).__name__}")
    return model


def pruned(model: TorchModel, sparsity: float, pattern: str) -> TorchModel:
    """The model without the weights of least magnitude, for every engine; its quality is not what is measured."""
    from taille.pruning import prune_model

    small = prune_model(model, 1 - sparsity, "structured", pattern=pattern, score="magnitude", recovery="none")
    small.name = f"{model.name}, {100 * sparsity:g} % {pattern}"
    return small


Run = tuple[str, int, int, int, Sequence[str], tuple[float, str] | None]


def measure_all(runs: Sequence[Run], sequence: int | None) -> list[dict[str, Any]]:
    """The comparisons; of several, each is told on stderr as it ends, and an interrupt leaves those before it."""
    results: list[dict[str, Any]] = []
    for run in runs:
        try:
            results.append(measure(sequence, *run))
        except KeyboardInterrupt:
            if not results:
                raise
            err.print(f"interrupted: {len(results)} of {len(runs)} comparisons are there", markup=False)
            break
        if len(runs) > 1:
            err.print(summary(results[-1]), markup=False)
    return results


def measure(
    sequence: int | None,
    name: str,
    batch: int,
    threads: int,
    pairs: int,
    peers: Sequence[str],
    pruning: tuple[float, str] | None,
) -> dict[str, Any]:
    """One comparison, with its progress on stderr."""
    from taille.bench.compare import compare
    from taille.bench.contestants import find_peers
    from taille.bench.subject import Subject

    found, missing = find_peers(peers)
    with tempfile.TemporaryDirectory() as folder, steps(f"{name}, batch {batch}", len(found) + 3 + pairs) as step:
        step("making the model")
        model = find_model(name, batch, sequence)
        if pruning:
            step("pruning")
            model = pruned(model, *pruning)
        subject = Subject(model, batch, sequence, Path(folder))
        result = compare(subject, found, threads, pairs, step)
    result["skipped"] = [*missing, *result["skipped"]]
    return result


@contextmanager
def steps(title: str, total: int | None) -> Iterator[Step]:
    """A progress bar on stderr, moved by what this gives."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<48}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        task = progress.add_task(title, total=None if total is None else total + 1)

        def step(what: str) -> None:
            progress.update(task, advance=1, description=f"{title}: {what}")

        yield step
