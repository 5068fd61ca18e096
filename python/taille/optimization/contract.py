"""What the user asks for: bounds on latency, bytes, memory and quality, checked before anything long begins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from taille.config import format_size, parse_size
from taille.hints import did_you_mean

__all__ = ["SIZES", "TECHNIQUES", "Contract", "Shortfall"]

TECHNIQUES = ("quantization", "pruning", "distillation")
SIZES = ("max_size", "max_memory")
DEFAULT_BUDGET_S = 600.0
DEFAULT_DROP = 0.01


@dataclass(frozen=True)
class Shortfall:
    """A bound that a candidate does not meet.

    Attributes:
        bound: the key of the constraint.   value: the candidate's.   limit: the contract's.
        excess: by how much it is missed, as a share of the limit; of a quality, the difference itself.
    """

    bound: str
    value: float
    limit: float
    excess: float

    def __str__(self) -> str:
        if self.bound in ("max_accuracy_drop", "min_accuracy"):
            return f"{self.bound}: {self.value:.4f}, wanted {self.limit:.4f} (off by {self.excess:.4f})"
        if self.bound in SIZES and math.isfinite(self.value):
            wanted = format_size(int(self.limit))
            return f"{self.bound}: {format_size(int(self.value))}, wanted at most {wanted} ({self.excess:+.0%})"
        return f"{self.bound}: {self.value:,.4g}, wanted at most {self.limit:,.4g} ({self.excess:+.0%})"


@dataclass(frozen=True)
class Contract:
    """The `constraints` of `optimize_model`, checked.

    Attributes:
        max_latency_ms: of one call, at `latency_percentile`, with `batch_size` samples and `threads` threads.
        max_size: bytes of the artefact.   max_memory: resident bytes of a fresh process, beyond one without the model.
        max_accuracy_drop: how far `eval_fn` may fall below its value for the float32 model.
        min_accuracy: how low it may be.   time_budget_s: seconds for the whole search.
        techniques: those that may be used.
    """

    max_latency_ms: float | None = None
    latency_percentile: float = 50.0
    batch_size: int = 1
    threads: int | None = None
    max_size: int | None = None
    max_memory: int | None = None
    max_accuracy_drop: float | None = None
    min_accuracy: float | None = None
    time_budget_s: float = DEFAULT_BUDGET_S
    techniques: tuple[str, ...] = TECHNIQUES

    @classmethod
    def parse(cls, constraints: Mapping[str, Any], *, has_eval: bool) -> Contract:
        """Check the user's mapping.

        Args:
            constraints: see the attributes; sizes as bytes or text ("5MB").
            has_eval: whether the model can be judged (`eval_fn`). It then may lose 0.01 where nothing is said of it;
                else it is only quantised, unless other techniques are asked for by name.

        Raises:
            TypeError, ValueError: an unknown, contradictory or ill-formed constraint; the message names the key.
        """
        if not isinstance(constraints, Mapping):
            raise TypeError(f"constraints is {type(constraints).__name__}; wanted a dict, as {{'max_latency_ms': 5}}")
        known = [f.name for f in fields(cls)]
        for key in constraints:
            if key not in known:
                raise ValueError(
                    f"constraints['{key}'] is unknown; {did_you_mean(key, known)}there are {', '.join(known)}"
                )
        given = {k: v for k, v in constraints.items() if v is not None}
        for key in SIZES:
            if key in given:
                given[key] = parse_size(given[key], f"constraints['{key}']")
        for key, (least, most, open_ends) in _RANGES.items():
            if key in given:
                given[key] = _number(key, given[key], least, most, open_ends)
        able = TECHNIQUES if has_eval else TECHNIQUES[:1]
        given["techniques"] = _techniques(given.get("techniques", able))
        contract = cls(**given)
        contract._check(has_eval, set(given))
        return contract if not contract.unjudged or not has_eval else cls(**given, max_accuracy_drop=DEFAULT_DROP)

    def _check(self, has_eval: bool, given: set[str]) -> None:
        if self.max_accuracy_drop is not None and self.min_accuracy is not None:
            raise ValueError("constraints has both 'max_accuracy_drop' and 'min_accuracy'; wanted one of them")
        for key in ("max_accuracy_drop", "min_accuracy"):
            if getattr(self, key) is not None and not has_eval:
                raise ValueError(
                    f"constraints['{key}'] needs the model's quality: taille.TorchModel(..., eval_fn=function), "
                    "where function(model) gives a number, higher is better"
                )
        if not given & {"max_latency_ms", "max_size", "max_memory", "max_accuracy_drop", "min_accuracy"}:
            raise ValueError("constraints bounds nothing; wanted at least one of max_latency_ms, max_size, max_memory, "
                             "max_accuracy_drop, min_accuracy")  # fmt: skip

    @property
    def unjudged(self) -> bool:
        """Whether nothing is said of quality."""
        return self.max_accuracy_drop is None and self.min_accuracy is None

    def least_accuracy(self, baseline: float | None) -> float | None:
        """The lowest quality allowed, where there is one."""
        if self.min_accuracy is not None:
            return self.min_accuracy
        if self.max_accuracy_drop is not None and baseline is not None:
            return baseline - self.max_accuracy_drop
        return None

    def shortfalls(self, metrics: Mapping[str, float], baseline: Mapping[str, float]) -> list[Shortfall]:
        """The bounds that measured metrics do not meet; a bound whose metric is missing counts as not met.

        Args:
            metrics: `latency_ms`, `size_bytes`, `peak_memory_bytes`, `accuracy`; those that were measured.
            baseline: the same of the float32 model.
        """
        found = []
        pairs = (("max_latency_ms", "latency_ms"), ("max_size", "size_bytes"), ("max_memory", "peak_memory_bytes"))
        for bound, metric in pairs:
            limit = getattr(self, bound)
            if limit is not None and not metrics.get(metric, math.inf) <= limit:
                value = metrics.get(metric, math.inf)
                found.append(Shortfall(bound, value, limit, value / limit - 1 if limit else math.inf))
        least = self.least_accuracy(baseline.get("accuracy"))
        accuracy = metrics.get("accuracy", -math.inf)
        if least is not None and not accuracy >= least - 1e-12:
            bound = "min_accuracy" if self.min_accuracy is not None else "max_accuracy_drop"
            value = accuracy if self.min_accuracy is not None else baseline["accuracy"] - accuracy
            limit = self.min_accuracy if self.min_accuracy is not None else self.max_accuracy_drop
            assert limit is not None
            found.append(Shortfall(bound, value, limit, least - accuracy))
        return found

    def record(self) -> dict[str, Any]:
        """What journals and artefacts store: JSON-compatible."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v is not None}


# least, most, and whether these two themselves are excluded
_RANGES: dict[str, tuple[float, float, bool]] = {
    "max_latency_ms": (0, math.inf, True),
    "latency_percentile": (0, 100, True),
    "batch_size": (1, 1 << 20, False),
    "threads": (1, 1 << 10, False),
    "max_accuracy_drop": (0, math.inf, False),
    "min_accuracy": (-math.inf, math.inf, True),
    "time_budget_s": (0, math.inf, True),
}


def _number(key: str, value: Any, least: float, most: float, open_ends: bool) -> float:
    whole = key in ("batch_size", "threads")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise TypeError(f"constraints['{key}'] is {value!r}; wanted {'an int' if whole else 'a number'}")
    inside = least < value < most if open_ends else least <= value <= most
    if not inside or (isinstance(value, float) and not math.isfinite(value)):
        ends = "()" if open_ends else "[]"
        raise ValueError(f"constraints['{key}'] is {value}; wanted a number in {ends[0]}{least:g}, {most:g}{ends[1]}")
    return value


def _techniques(given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(t, str) for t in given):
        raise TypeError(f"constraints['techniques'] is {given!r}; wanted a sequence of {', '.join(TECHNIQUES)}")
    unknown = [t for t in given if t not in TECHNIQUES]
    if unknown or not given:
        raise ValueError(f"constraints['techniques'] is {list(given)}; wanted some of {', '.join(TECHNIQUES)}")
    return tuple(t for t in TECHNIQUES if t in given)
