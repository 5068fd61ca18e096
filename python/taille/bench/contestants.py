"""What takes part in a comparison: the protocol, taille itself, and how the peers are found."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol

import taille
from taille.arrays import Array
from taille.bench.subject import Subject, flat
from taille.models import BaseMLModel
from taille.samples import Feed

__all__ = ["INSTALL", "PEERS", "Contestant", "Ours", "find_peers"]

INSTALL = "pip install 'taille[peers]'"
# what --peers takes -> the module with its `CONTESTANTS`
PEERS = {
    "onnxruntime": "peers_onnxruntime",
    "openvino": "peers_openvino",
    "torch": "peers_torch",
    "torch-compile": "peers_torch_compile",
}


class Contestant(Protocol):
    """One engine in one precision.

    Attributes:
        name: what the table calls it.   precision: "float32" or "int8".
        packages: the modules it imports.   size_bytes: of its model file, once prepared.
        note: what there is to say about how it runs, once prepared.
    """

    name: str
    precision: str
    packages: tuple[str, ...]
    size_bytes: int
    note: str

    def unsuited(self, subject: Subject) -> str:
        """Why this contestant does not take part with that model; "" where it does."""

    def prepare(self, subject: Subject, threads: int) -> None:
        """Convert, quantise and load the model, for that many threads."""

    def run(self, inputs: Feed) -> list[Array]:
        """One inference; the outputs in the model's order, valid until the next call."""


class Ours:
    """taille in one precision, by way of a file."""

    packages: tuple[str, ...] = ("taille",)
    note = ""
    size_bytes = 0

    def __init__(self, precision: str):
        """Take part in `precision`: "float32" or "int8"."""
        self.precision = precision
        self.name = f"taille {precision}"

    def unsuited(self, subject: Subject) -> str:
        """int8 needs calibration data."""
        return "" if self.precision == "float32" or subject.calibration else "the model has no calibration_data"

    def prepare(self, subject: Subject, threads: int) -> None:
        """Quantise on the subject's batches, save, load."""
        model: BaseMLModel = subject.model
        if self.precision == "int8":
            before, subject.model.calibration_data = subject.model.calibration_data, subject.calibration
            try:
                quantized = taille.quantize_model(model, "int8")
            finally:
                subject.model.calibration_data = before
            left = [r.name for r in quantized.report if r.why]
            self.note = f"{len(left)} nodes left in float32" if left else ""
            model = quantized
        path = subject.folder / f"{self.precision}.safetensors"
        self.size_bytes = model.save(path)
        self._model = taille.load(path, threads=threads)

    def run(self, inputs: Feed) -> list[Array]:
        """One `predict`."""
        return flat(self._model.predict(inputs))


def find_peers(names: Sequence[str]) -> tuple[list[Contestant], list[dict[str, str]]]:
    """The peers that are installed, and a record with the pip line for each one that is not.

    Raises:
        ValueError: no peer has that name.
    """
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise ValueError(f"no peer is called '{unknown[0]}'; there are {', '.join(PEERS)}")
    found: list[Contestant] = []
    skipped = []
    for name in dict.fromkeys(names):
        for kind in importlib.import_module(f"taille.bench.{PEERS[name]}").CONTESTANTS:
            peer: Contestant = kind()
            absent = [p for p in peer.packages if not importable(p)]
            if absent:
                why = f"{', '.join(absent)} cannot be imported"
                skipped.append({"name": peer.name, "why": why, "install": INSTALL})
            else:
                found.append(peer)
    return found, skipped


def importable(module: str) -> bool:
    """Whether the module imports."""
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True
