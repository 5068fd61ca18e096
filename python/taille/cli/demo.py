"""`taille demo`: train a small network, quantise, compile, and show what it gained, measured here and now."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taille.cli.output import clear_errors, human_bytes, out, print_json, print_table, progress_bars, require

if TYPE_CHECKING:
    import numpy as np
    import torch
    from rich.progress import Progress

    from taille.cli.digits import Digits
    from taille.torch_model import TorchModel

__all__ = ["demo"]

EPOCHS, QUICK_EPOCHS = 12, 4
KEPT = 0.25  # of the weights of the pruned network
STEPS, QUICK_STEPS = 200, 40  # of its recovery, by distillation
SECONDS, QUICK_SECONDS = 6.0, 1.5  # of measuring, per batch size
BATCHES = (1, 64)
Run = Callable[["np.ndarray[Any, Any]"], Any]


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Train and measure for a shorter time.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default all that are granted.")] = None,
    output: Annotated[Path | None, typer.Option(help="Keep the artefacts in this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a small network on handwritten digits, quantise it to int8, prune it too, and compare it with torch."""
    require("demo", "torch", "sklearn", "safetensors")
    with clear_errors(), progress_bars(transient=as_json) as progress, folder(output) as place:
        rows, facts = compare(quick, threads, place, progress)
    result = {"rows": rows, **facts}
    if as_json:
        print_json(result)
        return
    show(result)
    if output is not None:
        path = output / "digits-int8.safetensors"
        out.print("\nRun it without torch:", markup=False)
        out.print("    import numpy, taille", markup=False)
        out.print(f"    model = taille.load({str(path)!r})", markup=False, soft_wrap=True)
        out.print('    print(model.predict(numpy.zeros((1, 1, 8, 8), dtype="float32")))', markup=False, soft_wrap=True)


@contextmanager
def folder(output: Path | None) -> Iterator[Path]:
    """The user's folder, made where it is missing, or one that goes away."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        yield output
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def compare(
    quick: bool, threads: int | None, place: Path, progress: Progress
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train, quantise, compile and measure; the rows of the table and the facts around them."""
    import torch

    import taille
    from taille import _native
    from taille.cli.digits import load_digits, train

    busy = os.getloadavg()[0]
    data, epochs = load_digits(), QUICK_EPOCHS if quick else EPOCHS
    count = threads or _native.granted_threads()[0]
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the same network whatever the number of threads, also where others use the machine
    try:
        task = progress.add_task("training", total=epochs)
        net = train(data, epochs, lambda: progress.advance(task))
        torch.set_num_threads(count)
        model = taille.TorchModel(net, (data.train_x[:2],), calibration_data=data.batches(), name="digits")
        paths = make_artefacts(model, place, QUICK_STEPS if quick else STEPS, progress)
        runs: dict[str, Run] = {"torch fp32": torch_run(net)}
        runs |= {f"taille {kind}": taille.load(path, threads=count).predict for kind, path in paths.items()}
        sizes = [state_bytes(net), *(path.stat().st_size for path in paths.values())]
        rows = [
            {"name": name, "accuracy": accuracy(run, data), "size_bytes": size}
            for (name, run), size in zip(runs.items(), sizes, strict=True)
        ]
        times = latencies(runs, data, QUICK_SECONDS if quick else SECONDS, progress)
    finally:
        torch.set_num_threads(before)
    for row in rows:
        row |= times[str(row["name"])]
    facts = {
        "threads": count, "cpu": _native.cpu_name(), "level": _native.active_isa(), "test_images": len(data.test_y),
        "torch": str(torch.__version__), "load_before": busy, "cpus": len(os.sched_getaffinity(0)),
    }  # fmt: skip
    return rows, facts


def make_artefacts(model: TorchModel, place: Path, steps: int, progress: Progress) -> dict[str, Path]:
    """The artefacts to measure, by what they are called."""
    import taille

    paths = {
        "fp32": place / "digits-float32.safetensors",
        "int8": place / "digits-int8.safetensors",
        "pruned int8": place / "digits-pruned-int8.safetensors",
    }
    task = progress.add_task("quantising, pruning, compiling", total=4)
    model.save(paths["fp32"])
    progress.advance(task)
    taille.quantize_model(model, "int8").save(paths["int8"])
    progress.advance(task)
    pruned = taille.prune_model(model, KEPT, "structured", recovery="distillation", steps=steps)
    progress.advance(task)
    taille.quantize_model(pruned, "int8").save(paths["pruned int8"])
    progress.advance(task)
    return paths


def torch_run(net: torch.nn.Module) -> Run:
    """A function that runs the module in inference mode, as a careful user of torch would."""
    import torch

    def run(images: np.ndarray[Any, Any]) -> Any:
        with torch.inference_mode():
            return net(torch.from_numpy(images)).numpy()

    return run


def state_bytes(net: torch.nn.Module) -> int:
    """Bytes of the module's weights as a safetensors file."""
    from safetensors.torch import save

    return len(save(net.state_dict()))


def accuracy(run: Run, data: Digits) -> float:
    """The share of the held-out images that are classified rightly."""
    scores = run(data.test_x.numpy())
    return float((scores.argmax(1) == data.test_y.numpy()).mean())


def latencies(runs: dict[str, Run], data: Digits, seconds: float, progress: Progress) -> dict[str, dict[str, float]]:
    """Milliseconds per call of every model: p50 and p99 at each batch size, measured in turns."""
    import numpy as np

    found: dict[str, dict[str, float]] = {name: {} for name in runs}
    for batch in BATCHES:
        images = np.ascontiguousarray(data.test_x[:batch].numpy())
        for run in runs.values():
            for _ in range(10):
                run(images)
        task = progress.add_task(f"measuring, batch {batch}", total=seconds)
        times: dict[str, list[float]] = {name: [] for name in runs}
        start = time.perf_counter()
        while (passed := time.perf_counter() - start) < seconds or len(next(iter(times.values()))) < 20:
            for name, run in runs.items():
                for _ in range(5):  # a few in a row: warm caches, yet all see the same disturbances
                    begin = time.perf_counter()
                    run(images)
                    times[name].append(time.perf_counter() - begin)
            progress.update(task, completed=min(passed, seconds))
        progress.update(task, completed=seconds)
        for name, measured in times.items():
            found[name][f"latency_ms_b{batch}"] = float(np.percentile(measured, 50)) * 1e3
            found[name][f"latency_p99_ms_b{batch}"] = float(np.percentile(measured, 99)) * 1e3
    return found


def show(result: dict[str, Any]) -> None:
    """Print the table, with a warning where other programs were using the CPUs."""
    if result["load_before"] > 0.5 * result["cpus"]:
        out.print(
            f"Other programs were using this machine (load {result['load_before']:.1f} on {result['cpus']} CPUs), so "
            "these times are not typical. torch suffers most, as its threads wait for one another; try --threads 1.",
            markup=False,
        )
    title = (
        f"handwritten digits: {result['test_images']} held-out images, {result['threads']} threads, "
        f"{result['cpu']} ({result['level']})"
    )
    rows = [
        (
            row["name"], f"{row['accuracy']:.2%}",
            *(f"{row[f'latency_ms_b{b}']:.3f} / {row[f'latency_p99_ms_b{b}']:.3f}" for b in BATCHES),
            human_bytes(row["size_bytes"]),
        )
        for row in result["rows"]
    ]  # fmt: skip
    print_table(title, ("model", "accuracy", "ms, batch 1 (p50 / p99)", "ms, batch 64 (p50 / p99)", "size"), rows)
    reference, plain, small, pruned = result["rows"]
    out.print(
        f"int8 against torch fp32: {reference['latency_ms_b1'] / small['latency_ms_b1']:.1f}x faster at batch 1, "
        f"{reference['latency_ms_b64'] / small['latency_ms_b64']:.1f}x at batch 64 "
        f"({plain['latency_ms_b64'] / small['latency_ms_b64']:.1f}x against taille fp32); "
        f"{small['size_bytes'] / reference['size_bytes']:.2f} of the bytes; "
        f"accuracy {100 * (small['accuracy'] - reference['accuracy']):+.2f} points",
        markup=False,
    )
    out.print(
        f"with {KEPT:.0%} of the weights, in blocks of 4 x 4: "
        f"{small['latency_ms_b64'] / pruned['latency_ms_b64']:.1f}x against int8 at batch 64, "
        f"{pruned['size_bytes'] / reference['size_bytes']:.2f} of torch's bytes; "
        f"accuracy {100 * (pruned['accuracy'] - reference['accuracy']):+.2f} points",
        markup=False,
    )
