"""What pruning costs in quality, and what it brings: patterns by sparsity, on three networks with real weights.

    python benchmarks/quality --times                        # all rows that are missing, then the times of all
    python benchmarks/quality --subject minilm --pattern block4x4 --sparsity 0.75

Every row is written to results.json as soon as it is there, so an interrupt costs one row, and the next call goes on.
results.md is made from it. Pruned models stay in the folder --work. Needs taille[test] and, for ResNet-20 and
MiniLM, the real data that `tests/zoo.py` names. Run it on a machine that does nothing else, at least for --times.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))

import torch
from grid import Cell, cells
from results import Results
from rows import run_row
from subjects import SUBJECTS, Subject
from times import measure_times


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=sorted(SUBJECTS), action="append", help="one of the networks; all")
    parser.add_argument("--pattern", action="append", help="one of the patterns; all")
    parser.add_argument("--sparsity", type=float, action="append", help="one of the sparsities; all")
    parser.add_argument("--longer", action="store_true", help="only the rows that have the recovery of the floors")
    parser.add_argument("--threads", type=int, default=0, help="of torch; as many as there are")
    parser.add_argument("--times", action="store_true", help="measure how long the models take")
    parser.add_argument("--work", type=Path, default=Path("build/quality"), help="for pruned models and baselines")
    parser.add_argument("--results", type=Path, default=HERE / "results.json")
    return parser.parse_args()


def wanted(cell: Cell, args: argparse.Namespace) -> bool:
    return (
        (not args.subject or cell.subject in args.subject)
        and (not args.pattern or cell.pattern in args.pattern)
        and (not args.sparsity or cell.sparsity in (0.0, *args.sparsity))
        and (cell.longer or not args.longer)
    )


def main() -> None:
    args = arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.threads:
        torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    results = Results(args.results)
    chosen = [cell for cell in cells() if wanted(cell, args)]
    left = [cell for cell in chosen if cell.key not in results.rows]
    subjects: dict[str, Subject] = {}
    for number, cell in enumerate(left, 1):
        if cell.subject not in subjects:
            subjects[cell.subject] = SUBJECTS[cell.subject](args.work)
        logging.info("row %d of %d: %s", number, len(left), cell.key)
        results.add(cell, run_row(subjects[cell.subject], cell, args.work))
    for name in sorted({cell.subject for cell in chosen}):
        mine = [cell for cell in chosen if cell.subject == name]
        if args.times:
            subject = subjects.setdefault(name, SUBJECTS[name](args.work))
            measure_times(subject, mine, results, args.work)


if __name__ == "__main__":
    main()
