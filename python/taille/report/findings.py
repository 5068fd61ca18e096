"""Reads the metadata of an artefact, which may come from anywhere: what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from taille.optimization.contract import Contract

__all__ = ["Candidate", "Findings", "Layer", "read"]

LARGEST = 1e15  # no time, size or quality is beyond; sums and squares of such numbers stay finite
SMALLEST = 1e-9  # of what is drawn on a logarithmic axis


@dataclass(frozen=True)
class Candidate:
    """A row of `search["candidates"]`; None where it was not measured."""

    key: str
    latency_ms: float | None
    quality: float | None
    size_bytes: float | None
    predicted_ms: float | None
    seconds: float
    error: str
    front: bool
    meets: bool


@dataclass(frozen=True)
class Layer:
    """A row of `search["layers"]`; None where there is no such thing."""

    name: str
    op: str
    precision: str
    kernel: str
    why: str
    us: float
    us_float32: float | None
    sqnr_db: float | None
    weight_bytes: float | None
    stored_bytes: float | None
    share: float | None


@dataclass(frozen=True)
class Findings:
    """What the report shows.

    Attributes:
        name: the model's.   contract: what was asked for.   chosen: the key of the candidate that was given back.
        metrics: its measurements, with `baseline_*` and `*_ratio`.   candidates, layers: in the metadata's order.
        latencies_ms: of single calls, of "chosen" and "float32".   machine, versions: names with text.
        recipe: steps, each a list of names with text.
        seed: of training; None where it is not said.   ended: why the search ended; "" where it is not said.
    """

    name: str
    contract: Contract
    chosen: str
    metrics: Mapping[str, float]
    candidates: tuple[Candidate, ...]
    latencies_ms: Mapping[str, tuple[float, ...]]
    layers: tuple[Layer, ...]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    recipe: tuple[Mapping[str, str], ...]
    seed: int | None
    ended: str


@dataclass(frozen=True)
class Place:
    """A value in the metadata, with the way to it for messages."""

    value: Any
    path: str

    def wrong(self, wanted: str) -> ValueError:
        """The error that says what is here instead."""
        text = repr(self.value)
        return ValueError(f"{self.path} is {text if len(text) < 80 else type(self.value).__name__}; wanted {wanted}")

    def __getitem__(self, key: str) -> Place:
        found = self.maybe(key)
        if found is None:
            raise ValueError(f"{self.path} has no '{key}'")
        return found

    def maybe(self, key: str) -> Place | None:
        """The member of that name; None where there is none or null."""
        value = self.mapping().get(key)
        return None if value is None else Place(value, f"{self.path}['{key}']")

    def mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def members(self) -> Iterator[tuple[str, Place]]:
        for key, value in self.mapping().items():
            yield key, Place(value, f"{self.path}['{key}']")

    def rows(self) -> list[Place]:
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        return [Place(value, f"{self.path}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("text")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def number(self, least: float = -LARGEST) -> float:
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.wrong("a number")
        if not least <= self.value <= LARGEST:  # nor is NaN
            raise self.wrong(f"a number from {least:g} to {LARGEST:g}")
        return float(self.value)

    def whole(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not abs(self.value) <= LARGEST:
            raise self.wrong("a whole number")
        return self.value

    def maybe_number(self, key: str, least: float = -LARGEST) -> float | None:
        found = self.maybe(key)
        return None if found is None else found.number(least)

    def shown(self) -> str:
        """Anything as text: JSON, but text itself without quotes."""
        if isinstance(self.value, str):
            return self.value
        try:
            return json.dumps(self.value, ensure_ascii=False)
        except RecursionError:
            raise ValueError(f"{self.path} is nested too deep to be shown") from None


def read(metadata: Any) -> Findings:
    """The findings in an artefact's metadata.

    Raises:
        ValueError: a value is missing or of another form; the message says which.
    """
    root = Place(metadata, "metadata")
    if root.maybe("search") is None:
        raise ValueError("metadata has no 'search', which the report is made of: the model was not made by "
                         "optimize_model (`taille optimize`)")  # fmt: skip
    search = root["search"]
    chosen = search["chosen"].text()
    candidates = tuple(map(candidate, search["candidates"].rows()))
    if chosen not in [c.key for c in candidates if not c.error]:
        raise ValueError(f"{search.path}['chosen'] is {chosen[:60]!r}, which is no candidate without an error")
    latencies = {}
    for series in ("chosen", "float32"):
        place = search["latencies_ms"][series]
        latencies[series] = tuple(v.number(SMALLEST) for v in place.rows())
        if not latencies[series]:
            raise place.wrong("at least one number")
    name, recipe, versions = root.maybe("name"), root.maybe("recipe"), root.maybe("versions")
    seed, ended = search.maybe("seed"), search.maybe("ended")
    return Findings(
        name=name.text() if name else "model", contract=contract(search["contract"]), chosen=chosen,
        metrics={key: value.number() for key, value in search["metrics"].members()},
        candidates=candidates, latencies_ms=latencies, layers=tuple(map(layer, search["layers"].rows())),
        machine={key: value.shown() for key, value in search["machine"].members()},
        versions={key: value.shown() for key, value in versions.members()} if versions else {},
        recipe=tuple({k: v.shown() for k, v in step.members()} for step in recipe.rows()) if recipe else (),
        seed=seed.whole() if seed else None, ended=ended.text() if ended else "",
    )  # fmt: skip


def contract(place: Place) -> Contract:
    """The contract, checked as the user's own is."""
    record = place.mapping()
    bounds_quality = not record.keys().isdisjoint({"max_accuracy_drop", "min_accuracy"})
    try:
        return Contract.parse(record, has_eval=bounds_quality)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{place.path} is no contract: {error}") from None


def candidate(place: Place) -> Candidate:
    """A row of the candidates; only one with an error may lack its metrics."""
    metrics, error = place["metrics"], place["error"].text()
    if not error:
        for key in ("latency_ms", "size_bytes"):
            _ = metrics[key]
    return Candidate(
        key=place["key"].text(), latency_ms=metrics.maybe_number("latency_ms", SMALLEST),
        quality=metrics.maybe_number("accuracy"), size_bytes=metrics.maybe_number("size_bytes", 1),
        predicted_ms=place.maybe_number("predicted_ms", 0), seconds=place["seconds"].number(0), error=error,
        front=place["front"].flag(), meets=place["meets"].flag(),
    )  # fmt: skip


def layer(place: Place) -> Layer:
    """A row of the layers."""
    sqnr = place.maybe("sqnr_db")
    exact = sqnr is not None and sqnr.value == float("inf")  # a weight without any noise
    return Layer(
        name=place["name"].text(), op=place["op"].text(), precision=place["precision"].text(),
        kernel=place["kernel"].text(), why=place["why"].text(),
        us=place["us"].number(0), us_float32=place.maybe_number("us_float32", 0),
        sqnr_db=float("inf") if exact else place.maybe_number("sqnr_db"),
        weight_bytes=place.maybe_number("weight_bytes", 0),
        stored_bytes=place.maybe_number("stored_bytes", 0), share=place.maybe_number("share", 0),
    )  # fmt: skip
