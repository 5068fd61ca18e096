"""What 64 requests in flight bring through the asynchronous C API, beside synchronous single calls: the MLP at batch 1.

    pip install '.[test]' && python benchmarks/in_flight.py

compiles `embed/in_flight.c` against the installed library. Sides take turns; a ratio is that of neighbours, and what is
printed is its median with the 10th and 90th percentile. Above 1: requests in flight are the faster. Then what a runner
adds to a request that comes alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import taille
from taille.bench.models import build

SOURCE = Path(__file__).parent / "embed" / "in_flight.c"


def compiled(folder: Path) -> Path:
    """The program."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise SystemExit("no C compiler (cc, gcc, clang) is installed")
    library = Path(taille.get_cmake_dir()).parents[1]
    program = folder / "in_flight"
    subprocess.run(
        [compiler, "-std=c99", "-O2", "-Wall", "-Wextra", str(SOURCE), "-o", str(program), f"-I{taille.get_include()}",
         f"-L{library}", f"-Wl,-rpath,{library}", "-ltaille", "-pthread"],
        check=True,
    )  # fmt: skip
    return program


def measured(program: Path, precision: str, options: argparse.Namespace) -> str:
    """A line of the result."""
    mlp = build("mlp", 1, None)
    chosen = taille.quantize_model(mlp, "int8") if precision == "int8" else mlp
    path = program.with_name(f"{precision}.safetensors")
    taille.compile_model(chosen, threads=1).save(path)
    counts = [str(n) for n in (options.pairs, options.requests, options.streams)]
    done = subprocess.run([program, path, *counts], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{program} failed with {done.returncode}: {done.stderr}")
    told: dict[str, list[list[float]]] = {"together": [], "batch": [], "alone": []}
    for line in done.stdout.splitlines():
        kind, *numbers = line.split()
        told[kind].append([float(x) for x in numbers])
    alone, together = np.array(told["together"]).T
    low, middle, high = np.quantile(alone / together, [0.1, 0.5, 0.9])
    direct, through = 1e6 * np.array(told["alone"]).T
    added = np.quantile(through - direct, [0.1, 0.5, 0.9])
    each = [np.median(seconds) / options.requests * 1e6 for seconds in (alone, together)]
    return (
        f"{precision}: 64 in flight {each[1]:.1f} us a request, single calls {each[0]:.1f} us; "
        f"{middle:.2f} ({low:.2f}-{high:.2f}) times as fast; {told['batch'][0][0]:g} samples in a batch; "
        f"alone, {added[1]:.1f} ({added[0]:.1f}-{added[2]:.1f}) us are added to {np.median(direct):.1f} us"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--requests", type=int, default=1920, help="of each side of a pair")
    parser.add_argument("--streams", type=int, default=1, help="batches that run at once, one thread each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder))
        for precision in ("int8", "float32"):
            print(measured(program, precision, options), flush=True)


if __name__ == "__main__":
    main()
