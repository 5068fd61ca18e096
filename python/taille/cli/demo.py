"""`taille demo`: train a small network, state a contract, find what keeps it, and compare, measured here and now."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from taille.cli.output import clear_errors, out, print_json, print_table, progress_bars, require
from taille.config import short_size

if TYPE_CHECKING:
    import torch
    from rich.progress import Progress

    from taille.cli.digits import Digits
    from taille.torch_model import TorchModel

__all__ = ["demo"]

EPOCHS, QUICK_EPOCHS = 12, 4
FASTER, SMALLER, DROP = 4.0, 0.25, 0.01  # the contract: than torch at batch 1, of torch's bytes, of accuracy
BUDGET, QUICK_BUDGET = 150.0, 60.0  # seconds of the search
SECONDS, QUICK_SECONDS = 6.0, 1.5  # of measuring, per batch size
BATCHES = (1, 64)
Run = Callable[[np.ndarray[Any, Any]], Any]


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Train and measure for a shorter time.")] = False,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; by default all that are granted.")] = None,
    output: Annotated[Path | None, typer.Option(help="Keep the artefacts in this folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a small network on handwritten digits, and find what keeps a contract stated in torch's figures."""
    require("demo", "torch", "sklearn", "safetensors")
    with clear_errors(), progress_bars(transient=as_json) as progress, folder(output) as place:
        rows, facts = compare(quick, threads, place, progress)
    result = {"rows": rows, **facts}
    if as_json:
        print_json(result)
        return
    show(result)
    if output is not None:
        path = output / "digits-optimized.safetensors"
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
        model = labelled(net, data)
        contract = contract_for(net, data, count, QUICK_BUDGET if quick else BUDGET)
        paths, search = find(model, contract, place, progress)
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
        "torch": str(torch.__version__), "load_before": busy, "cpus": os.cpu_count() or 1,
        "contract": contract, "chosen": search["chosen"],
        "candidates": [{k: c[k] for k in ("key", "metrics", "meets", "seconds")} for c in search["candidates"]],
    }  # fmt: skip
    return rows, facts


class Shuffled:
    """Batches of images with their labels, in another order at every pass."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, size: int = 64):
        self._images, self._labels, self._size = images, labels, size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        for picked in torch.randperm(len(self._images)).split(self._size):
            yield self._images[picked], self._labels[picked]


def labelled(net: torch.nn.Module, data: Digits) -> TorchModel:
    """The network with its data, and its accuracy on the held-out images as its quality."""
    import torch

    import taille

    return taille.TorchModel(
        net, (data.train_x[:2],), calibration_data=data.batches(), train_data=Shuffled(data.train_x, data.train_y),
        loss_fn=torch.nn.functional.cross_entropy, eval_fn=lambda model: accuracy(model.predict, data), name="digits",
    )  # fmt: skip


def contract_for(net: torch.nn.Module, data: Digits, threads: int, budget: float) -> dict[str, Any]:
    """Four times as fast as torch on one image, a quarter of its bytes, at most a point of accuracy lost."""
    image = np.ascontiguousarray(data.test_x[:1].numpy())
    run = torch_run(net)
    times = []
    for _ in range(220):
        begin = time.perf_counter()
        run(image)
        times.append(1e3 * (time.perf_counter() - begin))
    return {
        "max_latency_ms": float(np.median(times[20:])) / FASTER, "max_size": int(state_bytes(net) * SMALLER),
        "max_accuracy_drop": DROP, "threads": threads, "batch_size": 1, "time_budget_s": budget,
    }  # fmt: skip


def find(
    model: TorchModel, contract: dict[str, Any], place: Path, progress: Progress
) -> tuple[dict[str, Path], dict[str, Any]]:
    """Search; the artefacts to compare, by what they are called, and the evidence."""
    from taille.cli.optimize import watcher
    from taille.optimization import ModelOptimizer

    journal = place / "search"
    native, _ = ModelOptimizer().optimize_model(model, contract, journal=journal, watch=watcher(progress))
    native.save(place / "digits-optimized.safetensors")
    search: dict[str, Any] = native.metadata["search"]
    paths = {
        "fp32": journal / "dense-float32.safetensors",
        "int8": journal / "dense-int8.safetensors",
        "optimized": place / "digits-optimized.safetensors",
    }
    return paths, search


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
            short_size(row["size_bytes"]),
        )
        for row in result["rows"]
    ]  # fmt: skip
    print_table(title, ("model", "accuracy", "ms, batch 1 (p50 / p99)", "ms, batch 64 (p50 / p99)", "size"), rows)
    reference, plain, _, best = result["rows"]
    contract = result["contract"]
    out.print(
        f"contract: {contract['max_latency_ms']:.3f} ms at batch 1 (a quarter of torch's), "
        f"{short_size(contract['max_size'])} (a quarter of torch's), {100 * DROP:.0f} point of accuracy lost; "
        f"kept by: {result['chosen']}, the fastest of {len(result['candidates'])} candidates",
        markup=False,
    )
    out.print(
        f"optimized against torch fp32: {reference['latency_ms_b1'] / best['latency_ms_b1']:.1f}x faster at batch 1, "
        f"{reference['latency_ms_b64'] / best['latency_ms_b64']:.1f}x at batch 64 "
        f"({plain['latency_ms_b64'] / best['latency_ms_b64']:.1f}x against taille fp32); "
        f"{best['size_bytes'] / reference['size_bytes']:.2f} of the bytes; "
        f"accuracy {100 * (best['accuracy'] - reference['accuracy']):+.2f} points",
        markup=False,
    )
