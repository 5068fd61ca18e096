"""The contracts that the search is held to, on real networks: met or not, how long it took, how well it predicted.

    python benchmarks/contracts.py digits resnet20 minilm        # 45 minutes; needs taille[test,peers]

digits: 4 times as fast as torch at batch 1, a quarter of its bytes, at most a point lost. ResNet-20 (CIFAR-10): 3 times
as fast as the fastest float32 peer, at most half a point lost. MiniLM-L6 (128 tokens): 2.5 times, at most 0.01 of
Spearman's correlation on SICK's trial pairs lost; tuned and judged on training pairs only. What the search judges by is
never what is reported here: ResNet-20 is judged on 5,000 training images that nothing is trained on, digits on one
half of the held-out images and reported on the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "quality"))
sys.path.insert(0, str(HERE.parent / "tests"))

import torch
from scipy.stats import spearmanr
from subjects import SUBJECTS, Subject, accuracy

import taille
from taille.bench.contestants import find_peers
from taille.bench.subject import Subject as Bench
from taille.measurement.turns import take_turns
from zoo import embeddings, sentence_pairs

HELD_OUT = 5000  # training images that only the search's judge sees


@dataclass(frozen=True)
class Target:
    """What a network is held to.

    Attributes:
        faster: than the fastest of the peers.   peers: who they are.   drop: of quality, at most.
        seconds: of the search.   smaller: the artefact over torch's bytes; None: no bound.
    """

    faster: float
    peers: tuple[str, ...]
    drop: float
    seconds: float
    smaller: float | None = None


TARGETS = {
    "digits": Target(4.0, ("torch",), 0.01, 180, smaller=0.25),
    "resnet20": Target(3.0, ("onnxruntime", "openvino"), 0.005, 1200),
    "minilm": Target(2.5, ("onnxruntime", "openvino"), 0.01, 1200),
}


def prepared(name: str, work: Path) -> tuple[Subject, taille.TorchModel]:
    """The network as the study has it, and the model to search with: judged on data of its own."""
    subject = SUBJECTS[name](work)
    model = subject.dense
    model.test_data = [subject.sample]
    if name == "minilm":
        pairs = [part[-500:] for part in sentence_pairs("sick_train.tsv", 4400)]
        model.eval_fn = lambda one: correlation(one, subject.tokenizer, pairs)  # type: ignore[attr-defined]
    elif name == "resnet20":
        images, labels = model.train_data.tensors  # type: ignore[union-attr]
        model.train_data.tensors = images[:-HELD_OUT], labels[:-HELD_OUT]  # type: ignore[union-attr]
        model.eval_fn = lambda one: accuracy(one, images[-HELD_OUT:], labels[-HELD_OUT:])
    else:  # half of the held-out images judge, the other half is reported
        images, labels = subject.test  # type: ignore[attr-defined]
        judged, subject.test = (images[::2], labels[::2]), (images[1::2], labels[1::2])  # type: ignore[attr-defined]
        model.eval_fn = lambda one: accuracy(one, *judged)
    return subject, model


def correlation(model: taille.BaseMLModel, tokenizer: Any, pairs: Any) -> float:
    """Spearman's, of the cosines of sentence pairs with their relatedness."""
    first, second, scores = pairs
    found = embeddings(model, tokenizer, first + second)
    return float(spearmanr([found[a] @ found[b] for a, b in zip(first, second, strict=True)], scores).statistic)


def timed_alone(model: taille.TorchModel) -> taille.TorchModel:
    """The model with what it is timed on and nothing else: its calibration data may have other lengths."""
    examples: Any = model.examples if model.by_keyword else tuple(model.examples.values())
    return taille.TorchModel(model.module, examples, dynamic_shapes=model.dynamic, test_data=model.test_data)


def fastest_peer(bench: Bench, names: tuple[str, ...], threads: int) -> tuple[str, Callable[[], object], float]:
    """The name, a call and the milliseconds of the fastest float32 peer."""
    found, missing = find_peers(names)
    if missing:
        raise SystemExit(f"not installed: {missing}")
    ready = [peer for peer in found if peer.precision == "float32"]
    for peer in ready:
        peer.prepare(bench, threads)
    calls = [partial(peer.run, bench.inputs) for peer in ready]
    times = [1e3 * time.percentile(50) for time in take_turns(list(calls), 3.0)]
    best = int(np.argmin(times))
    return ready[best].name, calls[best], times[best]


def run(name: str, work: Path, threads: int) -> dict[str, Any]:
    """Search, then measure the result and the peer in turns, and the quality on data that the search never saw."""
    target = TARGETS[name]
    torch.set_num_threads(threads)
    subject, model = prepared(name, work)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(timed_alone(model), 1, None, Path(folder))
        peer, call, peer_ms = fastest_peer(bench, target.peers, threads)
        size = sum(t.numel() * t.element_size() for t in model.module.state_dict().values())
        contract = {
            "max_latency_ms": peer_ms / target.faster, "max_accuracy_drop": target.drop, "threads": threads,
            "time_budget_s": target.seconds,
        } | ({"max_size": int(target.smaller * size)} if target.smaller else {})  # fmt: skip
        began = time.monotonic()
        row: dict[str, Any] = {"peer": peer, "peer_ms": peer_ms, "contract": contract, "torch_bytes": size}
        try:
            native, metrics = taille.ModelOptimizer().optimize_model(
                model, contract, journal=work / f"contract-{name}", watch=watch(began)
            )
        except taille.ConstraintError as error:
            return row | {"seconds": time.monotonic() - began, "error": str(error)}
        row["seconds"] = time.monotonic() - began
        beside, own = take_turns([call, partial(native.predict, bench.inputs)], 10.0)
    candidates = native.metadata["search"]["candidates"]
    errors = [
        abs(c["predicted_ms"] / c["metrics"]["latency_ms"] - 1)
        for c in candidates
        if c["predicted_ms"] and c["metrics"]
    ]
    ratios = [a / b for a, b in zip(beside.medians, own.medians, strict=True)]
    dense = subject.quality(taille.compile_model(model))
    return row | {
        "chosen": native.metadata["search"]["chosen"], "metrics": metrics, "candidates": len(candidates),
        "times_the_peer": statistics.median(ratios),
        "times_the_peer_p10_p90": [float(q) for q in np.percentile(ratios, [10, 90])],
        "quality_dense": dense, "quality": subject.quality(native), "elsewhere": subject.elsewhere(native),
        "prediction_error": statistics.median(errors) if errors else None,
    }  # fmt: skip


def watch(began: float) -> Callable[[Any], None]:
    """A line on stderr for every step of the search."""

    def tell(state: Any) -> None:
        best = state.best.key if state.best else "none"
        sys.stderr.write(f"{time.monotonic() - began:7.1f} s  {state.doing or '-'}  best: {best}\n")

    return tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(TARGETS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("build/quality"), help="for baselines and journals")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        print(json.dumps({name: run(name, args.work, args.threads)}, indent=1), flush=True)


if __name__ == "__main__":
    main()
