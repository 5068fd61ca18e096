"""The search: from the cheapest recipe to the dearest, as far as the contract needs and the time allows.

Quality is taken to fall with every share of weights that goes, and speed to rise. So along the shares each way of
recovery is followed until it loses too much; the next, dearer one begins there. What the layers' times say cannot be
faster than the best so far, or cannot meet a bound, is not made at all; where nothing is left, the search has ended.

A way is a generator of groups of recipes, which goes on by what became of them. Several ways are followed at once where
the executor makes several candidates at once; else one after the other, a recipe at a time.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taille.compiled import load
from taille.config import format_size
from taille.errors import ConstraintError
from taille.optimization.contract import SIZES, Contract, Shortfall
from taille.optimization.evaluation import Evaluator
from taille.optimization.journal import Entry
from taille.optimization.prediction import LatencyTable, Predictor
from taille.optimization.recipes import PATTERNS, WIDTHS, Level, Recipe, levels_for, methods_for, shares_from
from taille.optimization.workshop import TimeIsUp

if TYPE_CHECKING:
    from taille.config import PerformanceConfig
    from taille.torch_model import TorchModel

__all__ = ["Search", "State", "front"]

log = logging.getLogger(__name__)

PREDICTION_ERROR = 0.15  # that a prediction may be off by, either way
NEARLY = 0.03
SIZE_ERROR = 0.05
LEAST_SHARE = 0.02  # of the dense time; times of layers and of calls are measured apart, and differ
EVIDENCE_BYTES = 2500  # that the least evidence adds to a file
GAIN = 0.03  # by which a candidate must be expected to be faster than the best

Way = Iterator[Sequence[Recipe]]


@dataclass
class State:
    """What a search knows, for whoever watches it.

    Attributes:
        entries: all candidates that were judged, in order.
        best: the fastest so far that meets the contract, evidence included.
        doing: the candidates in work.   seconds_left: of the budget.
        ended: why the search has ended; "" while it goes on.
    """

    entries: list[Entry] = field(default_factory=list)
    best: Entry | None = None
    doing: str = ""
    seconds_left: float = math.inf
    ended: str = ""


class Search:
    """One model, one contract."""

    def __init__(
        self, model: TorchModel, contract: Contract, config: PerformanceConfig, evaluator: Evaluator,
        table: LatencyTable, deadline: float, watch: Callable[[State], None],
    ):  # fmt: skip
        """Nothing is measured yet; `watch` is told of every change."""
        self.model, self.contract, self.config, self.evaluator = model, contract, config, evaluator
        self.state = State()
        self._table, self._deadline, self._watch = table, deadline, watch
        self._predictors: dict[str, Predictor] = {}
        self._baseline: dict[str, float] = {}
        self._shares = shares_from(config.pruning.target_sparsity)
        self._prunable: tuple[str, ...] | None = None
        self._reached: dict[tuple[str, str], int] = {}  # by pattern and method: the first share that lost too much

    def run(self) -> None:
        """Find candidates that meet the contract; they are in `state`.

        Raises:
            ConstraintError: none does; with the front and the nearest candidate.
        """
        baseline = self.evaluator.baseline()
        self._baseline = baseline.metrics
        self._note(baseline)
        self._check_quality()
        try:
            self._follow([self._dense()])
            self._check_reach()
            self._sparse()
            self._follow([self._students()])
            self.state.ended = "nothing else is expected to be faster and within the bounds"
        except TimeIsUp:
            self.state.ended = "the time budget was used up"
        log.info("the search has ended: %s", self.state.ended)
        if not any(map(self.meets, self.state.entries)):
            raise self.failure()

    def meets(self, entry: Entry) -> bool:
        """Whether a candidate keeps every bound."""
        return not entry.error and not self.contract.shortfalls(entry.metrics, self._baseline)

    def failure(self, why: str = "") -> ConstraintError:
        """The error that says which bound failed, by how much, and what would do."""
        judged = [e for e in self.state.entries if not e.error]
        nearest = min(judged, key=lambda e: sum(s.excess for s in self._shortfalls(e)), default=None)
        lines = [why or "no candidate meets the contract"]
        if nearest is not None:
            lines.append(f"the nearest is '{nearest.key}': " + "; ".join(map(str, self._shortfalls(nearest))))
            lines.append(self._would_do(nearest))
        failed = [e for e in self.state.entries if e.error]
        if failed:
            lines.append(f"{len(failed)} candidates could not be made; '{failed[0].key}': {failed[0].error}")
        return ConstraintError(". ".join(lines), front=[vars(e) for e in front(judged)],
                               nearest=vars(nearest) if nearest else None)  # fmt: skip

    def _shortfalls(self, entry: Entry) -> list[Shortfall]:
        return self.contract.shortfalls(entry.metrics, self._baseline)

    def _would_do(self, nearest: Entry) -> str:
        """Bounds that this candidate would meet, so that the user knows what can be had."""
        wanted = [suggested(s) for s in self._shortfalls(nearest)]
        return "it would be met with " + ", ".join(wanted)

    def _note(self, entry: Entry) -> None:
        self.state.entries.append(entry)
        best, most = self.state.best, self.contract.max_size
        room = most is None or entry.metrics.get("size_bytes", 0) + EVIDENCE_BYTES <= most
        if self.meets(entry) and room and (best is None or entry.metrics["latency_ms"] < best.metrics["latency_ms"]):
            self.state.best = entry
        self._tell("")

    def _tell(self, doing: str) -> None:
        self.state.doing, self.state.seconds_left = doing, max(0.0, self._deadline - time.monotonic())
        self._watch(self.state)

    def _follow(self, ways: Sequence[Way]) -> None:
        """Evaluate what ways want, as many ways at once as candidates are made at once."""
        waiting, active = deque(ways), list[Way]()
        while waiting or active:
            while waiting and len(active) < self.evaluator.width:
                active.append(waiting.popleft())
            wanted = [(way, next(way, None)) for way in active]
            active = [way for way, recipes in wanted if recipes is not None]
            if active:
                self._evaluate([recipe for _, recipes in wanted for recipe in recipes or ()])

    def _evaluate(self, recipes: Sequence[Recipe]) -> None:
        known = self.evaluator.journal.entries
        if time.monotonic() > self._deadline and any(recipe.key not in known for recipe in recipes):
            raise TimeIsUp
        predicted = [self._predicted_ms(recipe) for recipe in recipes]
        doing = ", ".join(recipe.key for recipe in recipes)
        self._tell(doing)
        if self.state.best is not None:
            log.info("%s keeps the contract; going on with %s, which may be faster", self.state.best.key, doing)
        for entry in self.evaluator.evaluate(recipes, predicted):
            self._note(entry)

    def _check_quality(self) -> None:
        """End at once where even the float32 model is not good enough."""
        least = self.contract.least_accuracy(self._baseline.get("accuracy"))
        if least is not None and self._baseline["accuracy"] < least - 1e-12:
            raise self.failure(
                f"min_accuracy is {least:g}, and the float32 model reaches {self._baseline['accuracy']:g}"
            )

    def _dense(self) -> Way:
        """Every precision with all weights; mixed only where int8 loses too much."""
        if "quantization" not in self.contract.techniques:
            return
        wanted = self.config.quantization.precision
        halves = wanted in ("float16", "bfloat16")
        yield [Recipe(wanted if halves else "float16")]
        if self.model.calibration_data is None or halves:
            return
        if wanted == "mixed":
            yield [Recipe("mixed")]
            return
        yield [Recipe("int8")]
        entry = self._entry("dense int8")
        if entry is not None and not entry.error and self._loses(entry):
            yield [Recipe("mixed")]

    def _entry(self, key: str) -> Entry | None:
        return next((e for e in self.state.entries if e.key == key), None)

    def _loses(self, entry: Entry) -> bool:
        """Whether the quality bound is what a candidate fails."""
        return any(s.bound in ("max_accuracy_drop", "min_accuracy") for s in self._shortfalls(entry))

    def _base(self) -> str:
        """The precision that pruned models get: of those that keep the quality, the nearest to the contract."""
        dense = [e for e in self.state.entries if e.key.startswith("dense ") and not e.error]
        good = [e for e in dense if not self._loses(e)] or dense
        nearest = min(good, key=lambda e: (sum(s.excess for s in self._shortfalls(e)), e.metrics["latency_ms"]))
        return str(nearest.recipe["precision"])

    def _check_reach(self) -> None:
        """End at once where the sparsest form of the model is still much too slow or too large."""
        if self.state.best is not None:
            return
        sparse = Recipe(self._base(), PATTERNS[0], self._shares[-1])
        able = "pruning" in self.contract.techniques and self._predictor(sparse.precision) is not None
        fastest = min(e.metrics["latency_ms"] for e in self.state.entries if not e.error)
        smallest = min(e.metrics["size_bytes"] for e in self.state.entries if not e.error)
        if able:
            fastest = min(fastest, self._predicted_ms(sparse) or math.inf)
            smallest = min(smallest, self._predicted_size(sparse) or smallest)
        if "distillation" in self.contract.techniques and self.model.train_data is not None:
            narrowest = min(WIDTHS) ** 2  # of the weights and products of layers between narrow ones
            fastest, smallest = narrowest * fastest, narrowest * smallest
        limit, size = self.contract.max_latency_ms, self.contract.max_size
        if limit is not None and limit < (1 - PREDICTION_ERROR) * fastest:
            raise self.failure(
                f"max_latency_ms is {limit:g}, and the fastest form of the model that is known here would take about "
                f"{fastest:.3g} ms"
            )
        if size is not None and size < (1 - SIZE_ERROR) * smallest:
            raise self.failure(
                f"max_size is {format_size(size)}; about {smallest:,.0f} are the least that can be reached"
            )

    def _sparse(self) -> None:
        """Pruned models: for each pattern, along the shares, with as much recovery as it takes."""
        if "pruning" not in self.contract.techniques or not self._layers():
            return
        precision, config = self._base(), self.config.pruning
        ways = [(p, m) for p in PATTERNS for m in methods_for(config.method, self.model.parameter_count)]
        ahead = max(1, self.evaluator.width // len(ways))
        for level in levels_for(self.model, self.contract.techniques):
            self._follow([self._along(way, level, precision, ahead) for way in ways])

    def _along(self, way: tuple[str, str], level: Level, precision: str, ahead: int) -> Way:
        """Recipes with ever fewer weights, until too much is lost; `ahead` at once, where workers would be idle."""
        pattern, method = way
        index = self._reached.get(way, 0)
        while index < len(self._shares):
            group: dict[int, Recipe] = {}
            while index < len(self._shares) and len(group) < ahead:
                recipe = Recipe(precision, pattern, self._shares[index], method, level.recovery, level.steps)
                if self._promises(recipe):
                    group[index] = recipe
                index += 1
            if not group:
                break
            yield list(group.values())
            for at, recipe in group.items():
                entry = self._entry(recipe.key)
                assert entry is not None
                if entry.error or self._loses(entry):
                    self._reached[way] = at
                    return
        self._reached[way] = len(self._shares)

    def _students(self) -> Way:
        """Narrower networks, distilled: the dearest way, for where nothing else keeps the contract."""
        if "distillation" not in self.contract.techniques or self.model.train_data is None:
            return
        for width in WIDTHS:
            if self.state.best is None:
                yield [Recipe(self._base(), width=width)]

    def _promises(self, recipe: Recipe) -> bool:
        """Whether a candidate may meet the bounds and, where there is a best one, be faster."""
        size, most = self._predicted_size(recipe), self.contract.max_size
        if most is not None and size is not None and size > (1 + SIZE_ERROR) * most:
            return False
        predicted = self._predicted_ms(recipe)
        if predicted is None:
            return True
        limit, best = self.contract.max_latency_ms, self.state.best
        if best is not None and predicted > (1 - GAIN) * best.metrics["latency_ms"]:
            return False
        last = recipe.share == self._shares[-1]  # of what is nearly fast enough, the next share is tried instead
        return limit is None or predicted <= (1 + (PREDICTION_ERROR if last else NEARLY)) * limit

    def _layers(self) -> tuple[str, ...]:
        """Names of the layers that would be pruned."""
        if self._prunable is None:
            from taille.pruning.layers import prunable_layers

            self._prunable = prunable_layers(self.model, PATTERNS[0])
        return self._prunable

    def _predictor(self, precision: str) -> Predictor | None:
        """Of the dense model in that precision, once that has been judged."""
        entry = self._entry(Recipe(precision).key)
        if entry is None or entry.error or not self._layers():
            return None
        if precision not in self._predictors:
            native = load(self.evaluator.journal.path(entry), threads=self.contract.threads)
            self._predictors[precision] = Predictor(
                native.graph, self._layers(), self.evaluator.sample, native.threads, self._table
            )
        return self._predictors[precision]

    def _predicted_size(self, recipe: Recipe) -> float | None:
        """Bytes, from the dense model's and the blocks that go; None where nothing is known."""
        predictor = self._predictor(recipe.precision) if recipe.pattern else None
        entry = self._entry(Recipe(recipe.precision).key)
        if predictor is None or entry is None:
            return None
        return entry.metrics["size_bytes"] - predictor.bytes_saved(recipe.pattern, recipe.share)

    def _predicted_ms(self, recipe: Recipe) -> float | None:
        """From the dense model's measured latency and the layers' times; None where nothing is known."""
        predictor = self._predictor(recipe.precision) if recipe.pattern else None
        if predictor is None:
            return None
        entry = self._entry(Recipe(recipe.precision).key)
        assert entry is not None
        dense = entry.metrics["latency_ms"]  # with what a call costs beyond its layers, which stays
        return max(LEAST_SHARE * dense, dense - 1e3 * predictor.seconds_saved(recipe.pattern, recipe.share))


def suggested(short: Shortfall) -> str:
    """A bound that would be met, as it is written in a contract."""
    if short.bound == "min_accuracy":
        return f"min_accuracy={short.value:.4g}"
    most = short.value * 1.02  # some room for what differs from run to run
    return f"{short.bound}={math.ceil(most) if short.bound in SIZES and math.isfinite(most) else f'{most:.4g}'}"


def front(entries: Iterable[Entry]) -> list[Entry]:
    """Those that no other beats in latency, bytes and quality at once (Pareto)."""
    judged = [e for e in entries if not e.error]

    def at_least_as_good(a: Entry, b: Entry) -> bool:
        return all(
            (a.metrics.get(m, 0.0) - b.metrics.get(m, 0.0)) * sign <= 0
            for m, sign in (("latency_ms", 1), ("size_bytes", 1), ("accuracy", -1))
        )

    return [e for e in judged if not any(o is not e and at_least_as_good(o, e) and not at_least_as_good(e, o)
                                         for o in judged)]  # fmt: skip
