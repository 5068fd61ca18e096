"""From which sparsity on do blocks pay? Speed of the sparse int8 kernel over that of the dense one, by sparsity, shape
and CPU level, as a plot and as JSON. One thread; each point is the median of turns with the dense kernel.

    pip install 'taille[test,plots]' && python benchmarks/crossover.py -o crossover.svg
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import pairwise
from pathlib import Path

from int8_case import variants
from test_gemm_sparse import PRODUCTS, SHAPES, case, in_turns

SPARSITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def times_as_fast(variant: str, shape: tuple[int, int, int], sparsity: float, block_rows: int) -> float:
    """The dense kernel's time over the sparse one's."""
    sparse, dense, macs = case(shape, 1 - sparsity, block_rows)
    return statistics.median(in_turns(sparse, dense, variant, max(1, int(PRODUCTS / macs))))


def crossing(curve: dict[float, float]) -> float | None:
    """The sparsity at which a curve passes 1, between the points by a straight line; None: it never does."""
    points = sorted(curve.items())
    if points[0][1] >= 1:
        return points[0][0]
    for (x0, y0), (x1, y1) in pairwise(points):
        if y0 < 1 <= y1:
            return x0 + (x1 - x0) * (1 - y0) / (y1 - y0)
    return None


def plot(curves: dict[str, dict[str, dict[float, float]]], block_rows: int, path: Path) -> None:
    """One panel for each level, one line for each shape."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(curves), figsize=(6.5 * len(curves), 5), sharey=True, squeeze=False)
    for panel, (variant, by_shape) in zip(panels[0], curves.items(), strict=True):
        for name, curve in by_shape.items():
            panel.plot([100 * x for x in curve], curve.values(), marker="o", markersize=3, label=name)
        panel.plot([100 * x for x in SPARSITIES], [1 / (1 - x) for x in SPARSITIES], "k:", label="in proportion")
        panel.axhline(1, color="gray", linewidth=0.8)
        panel.set(yscale="log", ylim=(0.3, 20), xlabel=f"zeros in blocks of {block_rows} x 4, %", title=variant)
        panel.legend(fontsize=8)
    panels[0][0].set_ylabel("times the dense kernel's speed")
    figure.savefig(path, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("crossover.svg"), help="the plot; its JSON lies beside"
    )
    parser.add_argument("--block-rows", type=int, default=4, help="outputs in a block")
    args = parser.parse_args()
    curves: dict[str, dict[str, dict[float, float]]] = {}
    for variant in variants("gemm_sparse_s8"):
        for name, shape in SHAPES.items():
            curve = {s: times_as_fast(variant, shape, s, args.block_rows) for s in SPARSITIES}
            curves.setdefault(variant, {})[name] = curve
            at = crossing(curve)
            print(f"{variant}, {name}: {f'pays from {100 * at:.0f} % on' if at is not None else 'never pays'}; "
                  + ", ".join(f"{100 * s:g} %: {curve[s]:.2f}" for s in (0.5, 0.75, 0.9)), flush=True)  # fmt: skip
    args.output.with_suffix(".json").write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    plot(curves, args.block_rows, args.output)


if __name__ == "__main__":
    main()
