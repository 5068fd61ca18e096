"""The search for a runner's options: threads x streams first, then batches, then how long they wait.

Asked for is the highest throughput with a median latency of `target_latency` at most, and with 99 % of the requests
answered within `batch.max_latency`. Every (streams, threads) is measured with 2, 4, 8, ... requests in flight until one
of the two is missed or throughput grows no more. The best of these are measured again in turns, then smaller batches
and shorter waits beside the winner; batches larger than come up at its load, under four times as much. What is not
clearly better replaces nothing, so noise changes little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from taille.config.sections import Batch
from taille.inference.load import Load, Measure, merged
from taille.runner_choice import RunnerChoice

__all__ = ["Point", "TimeIsUp", "Tuning", "layouts"]

SECONDS = 0.15  # of one measurement
TURNS = 3  # of those that are compared
FINALISTS = 3  # (streams, threads) that are measured again
GAIN = 1.03  # what is clearly better
PATIENCE = 3  # times that more requests in flight bring no more throughput
SIZES = 3  # smaller batches that are tried, each half of the one before
OVERLOAD = 4  # times the load that is chosen, at which larger batches must prove themselves
WAITS = (0.1, 0.01, 0.0)  # shorter ones that are tried, as shares of batch.timeout

ALL = "everything was tried"

Progress = Callable[[str, int, int], None]  # stage, how much is done, of how much


class TimeIsUp(Exception):  # noqa: N818 - it is no error
    """The time budget has run out."""


@dataclass(frozen=True)
class Point:
    """Options, how many requests were in flight, and what was measured."""

    choice: RunnerChoice
    in_flight: int
    load: Load

    @property
    def median(self) -> float:
        """Seconds."""
        return self.load.percentile(50)

    @property
    def tail(self) -> float:
        """Seconds that 99 % take at most."""
        return self.load.percentile(99)

    @property
    def rank(self) -> tuple[bool, float]:
        """Higher is better. A request alone says nothing of load, so any load that meets the target goes before it."""
        return self.in_flight > 1, self.load.throughput

    def record(self) -> dict[str, float]:
        """What an artefact stores of it."""
        return {
            "in_flight": self.in_flight, "latency_p50": short(self.median), "latency_p99": short(self.tail),
            "throughput": short(self.load.throughput),
        }  # fmt: skip


def short(value: float) -> float:
    """Four digits: more says nothing."""
    return float(f"{value:.4g}")


def layouts(granted: int) -> list[tuple[int, int]]:
    """Pairs of streams and threads that fill the granted threads, or half of them; most threads for one batch first."""
    threads = {granted, *(1 << i for i in range(granted.bit_length()))}
    pairs = {(streams, t) for t in threads for streams in (granted // t, max(1, granted // t // 2))}
    return sorted(pairs, key=lambda pair: (-pair[1], -pair[0]))


@dataclass
class Tuning:
    """One search.

    Attributes:
        measure: gives a `Load`.   granted: threads.   batch: the bounds.   target: seconds.
        deadline: on `clock`.   progress: told of the stages.
        best: what meets the target, so far.   nearest: the quickest for a request alone.
        alone: what was measured of a request alone, by threads.   tried: the best of each (streams, threads).
        ended: why.
    """

    measure: Measure
    granted: int
    batch: Batch
    target: float
    deadline: float
    progress: Progress = field(default=lambda *_: None)
    clock: Callable[[], float] = time.perf_counter
    best: Point | None = None
    alone: dict[int, Point] = field(default_factory=dict)
    tried: dict[tuple[int, int], Point] = field(default_factory=dict)
    ended: str = ALL

    @property
    def nearest(self) -> Point | None:
        """What answers a request alone the soonest; None where nothing was measured."""
        return min(self.alone.values(), key=lambda p: p.median, default=None)

    @property
    def why(self) -> str:
        """Why it ended before it knew whether the target can be met; "" where it did not."""
        return self.ended if self.best is None and self.ended != ALL else ""

    def run(self) -> None:
        """Search, until `deadline` at most; `best` then is what was found, or None."""
        try:
            self._measure_alone()
            points = self._climb()
            self._confirm(points)
            if self.best is not None:
                self._narrow()
        except TimeIsUp:
            self.ended = "the time budget ran out"

    def meets(self, point: Point) -> bool:
        """Whether it keeps both bounds."""
        return point.median <= self.target and point.tail <= self.batch.max_latency

    def _point(self, choice: RunnerChoice, in_flight: int, seconds: float | None = None) -> Point:
        if self.clock() >= self.deadline:
            raise TimeIsUp
        return Point(choice, in_flight, self.measure(choice, in_flight, SECONDS if seconds is None else seconds))

    def _choice(self, streams: int, threads: int) -> RunnerChoice:
        batch = self.batch
        return RunnerChoice(streams, threads, batch.size, float(batch.timeout), float(batch.max_latency))

    def _take(self, point: Point) -> None:
        """Keep it where it is the best so far, or the first."""
        if self.meets(point) and (self.best is None or point.rank > self.best.rank):
            self.best = point

    def _measure_alone(self) -> None:
        """A request alone, which is as quick as it gets; where that misses, the quickest once more, and for longer."""
        threads = sorted({t for _, t in layouts(self.granted)}, reverse=True)
        for done, count in enumerate(threads):
            self.progress("a request alone", done, len(threads))
            self.alone[count] = self.tried[1, count] = self._point(self._choice(1, count), 1)
            self._take(self.alone[count])
        if self.best is None and (nearest := self.nearest) is not None:
            again = self._point(nearest.choice, 1, TURNS * SECONDS)
            if self.meets(again) or again.median < nearest.median:
                self.alone[nearest.choice.threads] = again
            self._take(again)

    def _climb(self) -> list[Point]:
        """Points of every (streams, threads) that meet the target, with more and more in flight."""
        if self.best is None:
            return []
        found = list(filter(self.meets, self.alone.values()))
        pairs = [(s, t) for s, t in layouts(self.granted) if self.meets(self.alone[t])]
        for done, (streams, threads) in enumerate(pairs):
            self.progress("threads x streams", done, len(pairs))
            best, weak, in_flight = 0.0, 0, max(2, streams)
            while in_flight <= 2 * streams * self.batch.size and weak < PATIENCE:
                point = self._point(self._choice(streams, threads), in_flight)
                if point.tail > self.batch.max_latency and point.median <= self.target:
                    point = self._point(point.choice, in_flight)  # a tail of few is soon missed by chance
                if not self.meets(point):
                    break
                found.append(point)
                self._take(point)
                kept = self.tried.get((streams, threads))
                if kept is None or point.rank > kept.rank:
                    self.tried[streams, threads] = point
                weak = 0 if point.load.throughput > GAIN * best else weak + 1
                best = max(best, point.load.throughput)
                in_flight *= 2
        return found

    def _confirm(self, points: list[Point]) -> None:
        """Measure the best again, in turns; where none of them meets the target any more, those that come next."""
        left = sorted(points, key=lambda p: p.rank, reverse=True)
        while left:
            by_pair: dict[tuple[int, int], Point] = {}
            for point in left:
                by_pair.setdefault((point.choice.streams, point.choice.threads), point)
            finalists = list(by_pair.values())[:FINALISTS]
            again = self._in_turns("the best again", finalists)
            self.best = None
            for point in again:
                self._take(point)
                if point.in_flight == 1:
                    self.alone[point.choice.threads] = point
            if self.best is not None:
                return
            left = [point for point in left if point not in finalists]
        self.best = None

    def _in_turns(self, stage: str, points: Sequence[Point]) -> list[Point]:
        """The points, measured anew one after the other and that again, so that all meet the same disturbances."""
        loads: list[list[Load]] = [[] for _ in points]
        for turn in range(TURNS):
            self.progress(stage, turn, TURNS)
            for own, point in zip(loads, points, strict=True):
                own.append(self._point(point.choice, point.in_flight).load)
        return [replace(point, load=merged(own)) for point, own in zip(points, loads, strict=True)]

    def _narrow(self) -> None:
        """Smaller batches, then shorter waits, where they are clearly better."""
        assert self.best is not None
        largest = min(self.best.load.largest_batch, self.batch.size)
        sizes = [size for size in powers_below(self.batch.size) if size < largest]
        self._replace("batches", [{"max_batch": size} for size in sizes[: -SIZES - 1 : -1]])
        if self.best.choice.max_batch == self.batch.size:
            self._cap(largest)
        waits = dict.fromkeys(short(share * self.batch.timeout) for share in WAITS)
        self._replace("waiting", [{"timeout": wait} for wait in waits if wait < self.batch.timeout])

    def _replace(self, stage: str, changes: Sequence[Mapping[str, Any]]) -> None:
        """Take the best of the changes, under the same load, where it is better."""
        assert self.best is not None
        points = [self.best, *(replace(self.best, choice=replace(self.best.choice, **c)) for c in changes)]
        if len(points) == 1:
            return
        kept, *others = self._in_turns(stage, points)
        for point in others:
            if self.meets(point) and better(point.load, kept.load):
                kept = point
        self.best = kept if self.meets(kept) else self.best

    def _cap(self, largest: int) -> None:
        """Bound batches to those that come up now, or a little larger, where under more load that is better."""
        assert self.best is not None
        streams, size = self.best.choice.streams, self.batch.size
        more = min(OVERLOAD * self.best.in_flight, 2 * streams * size)
        sizes = [one for one in powers_below(min(size, more // streams)) if one >= largest][:SIZES]
        if not sizes:
            return
        point = replace(self.best, in_flight=more)
        points = [point, *(replace(point, choice=replace(point.choice, max_batch=one)) for one in reversed(sizes))]
        kept, *others = self._in_turns("batches under more load", points)
        for point in others:
            if better(point.load, kept.load):
                kept = point
        self.best = replace(self.best, choice=kept.choice)


def powers_below(most: int) -> list[int]:
    """Powers of two below a number."""
    return [1 << i for i in range(most.bit_length()) if 1 << i < most]


def better(load: Load, than: Load) -> bool:
    """Whether its throughput is clearly higher, and higher in every turn; with it, latency is lower."""
    return load.throughput > GAIN * than.throughput and all(a > b for a, b in zip(load.turns, than.turns, strict=True))
