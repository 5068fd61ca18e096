"""How a runner runs a model best on a CPU: measured once, kept in the artefact, and used wherever that CPU is met.

An artefact's metadata has, under "inference", an object by CPU, level and granted threads. Versions that know nothing
of it open the artefact all the same. Needs no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from taille.compiled import CompiledModel

__all__ = ["KEY", "RunnerChoice", "stored_choice", "this_cpu", "with_choice"]

log = logging.getLogger(__name__)

KEY = "inference"  # in the metadata
MOST_STREAMS = 256  # as a runner takes them
MOST_BATCH = 1 << 16
MOST_SECONDS = 3600.0


@dataclass(frozen=True)
class RunnerChoice:
    """Options of `taille.Runner`, which explains them.

    Attributes:
        streams, threads, max_batch, timeout, max_latency: as there, seconds of the last two.
    """

    streams: int
    threads: int
    max_batch: int
    timeout: float
    max_latency: float

    def __str__(self) -> str:
        return (f"{self.streams} x {self.threads} threads, batches of at most {self.max_batch}, "
                f"{1e3 * self.timeout:g} ms wait")  # fmt: skip

    def options(self) -> dict[str, Any]:
        """The keywords of `Runner`."""
        return asdict(self)


def this_cpu() -> str:
    """What a choice hangs on: the CPU's name, the level of the kernels, and how many threads are granted."""
    from taille import _native

    return _native.this_cpu()


def stored_choice(model: CompiledModel) -> RunnerChoice | None:
    """The choice that the model's artefact holds for this CPU; one that makes no sense is left alone, and logged."""
    from taille import _native

    kept = model.metadata.get(KEY)
    entry = kept.get(this_cpu()) if isinstance(kept, dict) else None
    if entry is None:
        return None
    try:
        return read(entry, _native.granted_threads()[0])
    except ValueError as error:
        log.warning("%r: the choice stored for this CPU is not used: %s", model, error)
        return None


def read(entry: Any, granted: int) -> RunnerChoice:
    """The choice of an entry, which may come from anywhere.

    Raises:
        ValueError: a setting is missing, of another type, or out of its range.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"it is a {type(entry).__name__}; wanted an object")
    choice = RunnerChoice(
        count(entry, "streams", min(granted, MOST_STREAMS)), count(entry, "threads", granted),
        count(entry, "max_batch", MOST_BATCH), seconds(entry, "timeout"), seconds(entry, "max_latency"),
    )  # fmt: skip
    if choice.streams * choice.threads > granted:
        raise ValueError(f"{choice.streams} streams of {choice.threads} threads are more than {granted} threads")
    if not choice.max_latency:
        raise ValueError("max_latency is 0; wanted seconds above 0")
    return choice


def count(entry: Mapping[str, Any], name: str, most: int) -> int:
    """A whole number of an entry, or a ValueError."""
    value = entry.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{name} is {value!r}; wanted an int from 1 to {most}")
    return value


def seconds(entry: Mapping[str, Any], name: str) -> float:
    """Seconds of an entry, or a ValueError."""
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MOST_SECONDS:  # NaN fails
        raise ValueError(f"{name} is {value!r}; wanted seconds from 0 to {MOST_SECONDS:g}")
    return float(value)


def with_choice(model: CompiledModel, choice: RunnerChoice, found: Mapping[str, Any]) -> CompiledModel:
    """The model with a choice for this CPU in its metadata, and what was found beside it; other CPUs' entries stay.

    It has all threads that are granted, as `Runner` shares them out.
    """
    kept = model.metadata.get(KEY)
    entries = dict(kept) if isinstance(kept, dict) else {}
    entries[this_cpu()] = {**choice.options(), **found}
    return CompiledModel(model.graph, model.metadata | {KEY: entries})
