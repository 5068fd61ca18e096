"""What `student_config` may hold, checked, with the defaults."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from taille.pruning.patterns import CHANNEL, UNSTRUCTURED, parse_pattern
from taille.quantization.options import check_choice

__all__ = ["EarlyStopping", "Options", "nearest"]

TASKS = ("classification", "regression", "embedding")
BLOCKS = "block4x4"  # what `sparsity` prunes by default: the form that the engine is quick with
HARD = 0.1  # the weight of the hard loss where there are labels
MOST_SEED = 2**32


@dataclass(frozen=True)
class EarlyStopping:
    """When training ends before its last epoch.

    Attributes:
        patience: so many epochs in a row without a better quality end it.
        min_delta: by how much a quality must exceed the best so far to count as better; in units of the quality.
    """

    patience: int = 3
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        whole("early_stopping['patience']", self.patience, 1)
        number("early_stopping['min_delta']", self.min_delta, "at least 0", lambda v: v >= 0)


@dataclass(frozen=True)
class Options:
    """The keys of `student_config`, which `distill_model` explains; None: not given.

    Raises:
        TypeError, ValueError: a value of another type or range, or keys that contradict one another; the message names
            the key.
    """

    student: Any = None
    width: float | None = None
    depth: float | None = None
    sparsity: float | None = None
    pattern: str | None = None
    task: str | None = None
    class_axis: int | None = None
    temperature: float = 3.0
    alpha: float | None = None
    features: tuple[tuple[str, str], ...] = ()
    feature_weight: float | None = None
    epochs: int = 10
    lr: float = 1e-3
    warmup: float = 0.05
    early_stopping: EarlyStopping | None = None
    hold_out: float | None = None
    seed: int = 0

    @staticmethod
    def of(config: Any) -> Options:
        """Read `student_config`."""
        given = mapping("student_config", config, [f.name for f in fields(Options)])
        stopping = given.get("early_stopping")
        if stopping is not None:
            names = [f.name for f in fields(EarlyStopping)]
            given["early_stopping"] = EarlyStopping(**mapping("early_stopping", stopping, names))
        given["features"] = pairs(given.get("features"))
        return Options(**given)

    def __post_init__(self) -> None:
        share = "in (0, 1]", lambda v: 0 < v <= 1
        for name in ("width", "depth"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), *share)
        if self.sparsity is not None:
            number("sparsity", self.sparsity, "the share of the weights that is zero, in [0, 1)", lambda v: 0 <= v < 1)
        number("temperature", self.temperature, "a number above 0", lambda v: v > 0)
        if self.alpha is not None:
            number("alpha", self.alpha, "the weight of the hard loss, in [0, 1]", lambda v: 0 <= v <= 1)
        if self.feature_weight is not None:
            number("feature_weight", self.feature_weight, "a number above 0", lambda v: v > 0)
        number("lr", self.lr, "a positive learning rate", lambda v: v > 0)
        number("warmup", self.warmup, "a share of the steps, in [0, 1)", lambda v: 0 <= v < 1)
        if self.hold_out is not None:
            number("hold_out", self.hold_out, "a share of the batches, in (0, 0.5]", lambda v: 0 < v <= 0.5)
        whole("epochs", self.epochs, 1)
        whole("seed", self.seed, 0, MOST_SEED - 1)
        if self.class_axis is not None:
            whole("class_axis", self.class_axis, -16, 16)
        if self.task is not None:
            check_choice("task", self.task, TASKS)
        self._check_student()

    def _check_student(self) -> None:
        derived = [n for n in ("width", "depth", "sparsity") if getattr(self, n) is not None]
        if self.student is None and not derived:
            raise ValueError("student_config names no student; wanted student, or any of width, depth, sparsity")
        narrower = [n for n in ("width", "depth") if n in derived]
        if self.student is not None and narrower:
            raise ValueError(
                f"student_config holds student and {' and '.join(narrower)}, which make a student of the teacher; "
                "wanted one or the other"
            )
        if self.pattern is not None:
            if self.sparsity is None:
                raise ValueError(f"pattern is {self.pattern!r} without sparsity, which it is the form of")
            if parse_pattern(self.pattern).name == CHANNEL:
                raise ValueError('pattern is "channel", which leaves no zeros; wanted width')
        if self.feature_weight is not None and not self.features:
            raise ValueError(f"feature_weight is {self.feature_weight} without features")
        if self.hold_out is not None and self.early_stopping is None:
            raise ValueError(f"hold_out is {self.hold_out} without early_stopping, which measures on what is held out")

    @property
    def form(self) -> str:
        """The pattern that `sparsity` prunes to."""
        return self.pattern or BLOCKS

    @property
    def method(self) -> str:
        """How `prune_model` calls pruning to that pattern."""
        return "magnitude" if parse_pattern(self.form).name == UNSTRUCTURED else "structured"

    def record(self) -> dict[str, Any]:
        """What the recipe keeps of that which was asked for: JSON-compatible; the student itself left out."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("student", "early_stopping")}
        stopping = None if self.early_stopping is None else vars(self.early_stopping)
        return {**kept, "features": [list(p) for p in self.features], "early_stopping": stopping}


def mapping(what: str, given: Any, known: Sequence[str]) -> dict[str, Any]:
    """A copy of a mapping whose keys are all known."""
    if not isinstance(given, Mapping):
        raise TypeError(f"{what} is {type(given).__name__}; wanted a dict with any of {', '.join(known)}")
    for key in given:
        if key not in known:
            raise ValueError(f"{what} holds an unknown key {key!r}; {nearest(str(key), known)}")
    return dict(given)


def nearest(name: str, known: Iterable[str]) -> str:
    """What the user may have meant, in words."""
    names = list(known)
    close = difflib.get_close_matches(name, names, 1, 0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"


def pairs(given: Any) -> tuple[tuple[str, str], ...]:
    """Names of modules, (teacher's, student's), from a dict or a sequence of pairs."""
    found = list(given.items()) if isinstance(given, Mapping) else [] if given is None else given
    if isinstance(found, str) or not isinstance(found, Sequence):
        raise TypeError(f"features is {type(given).__name__}; wanted a dict {{teacher's module: student's module}}")
    for pair in found:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(isinstance(n, str) for n in pair):
            raise TypeError(f"features holds {pair!r}; wanted pairs of names of modules, (teacher's, student's)")
    return tuple((a, b) for a, b in found)


def number(name: str, value: Any, wanted: str, fits: Any) -> None:
    """Raise unless the value is a finite number that fits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}; wanted {wanted}")
    if not math.isfinite(value) or not fits(value):
        raise ValueError(f"{name} is {value}; wanted {wanted}")


def whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise unless the value is a whole number in this range."""
    wanted = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}; wanted {wanted}")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} is {value}; wanted {wanted}")
