"""What `prune_model` can be asked for, checked, and what follows from what the model brings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taille.pruning.patterns import CHANNEL, UNSTRUCTURED, Pattern, parse_pattern
from taille.quantization.ignore import Ignored, text_of
from taille.quantization.options import Progress, check_choice

if TYPE_CHECKING:
    from taille.pruning.model import PrunedModel
    from taille.torch_model import TorchModel

__all__ = ["Options", "Progress"]

METHODS = ("magnitude", "structured", "sensitivity")
SCORES = ("magnitude", "wanda", "fisher")
SCOPES = ("layer", "global")
RECOVERIES = ("none", "reconstruction", "distillation", "schedule")
SCHEDULES = ("oneshot", "polynomial")
DISTILLATION_STEPS = 250  # what brought MiniLM back to within 0.01 of the dense model, in under a minute
SCHEDULE_STEPS = 1000
LEARNING_RATE = 7e-4


@dataclass(frozen=True)
class Options:
    """The keywords of `prune_model`, which explains them.

    Raises:
        TypeError, ValueError: an option of another type, or one that does not exist; the message names it.
    """

    target_size: float
    method: str = "magnitude"
    pattern: str | None = None
    scope: str = "layer"
    score: str | None = None
    recovery: str = "auto"
    schedule: str | None = None
    ignore: Sequence[Ignored] = ()
    include_first_last: bool = False
    min_weights: int = 1024
    calibration_samples: int = 512
    steps: int | None = None
    epochs: int | None = None
    lr: float = LEARNING_RATE
    seed: int = 0
    checkpoint: str | Path | None = None
    progress: Progress | None = None
    permute: bool | None = None
    start: PrunedModel | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_choice("scope", self.scope, SCOPES)
        check_choice("recovery", self.recovery, ("auto", *RECOVERIES))
        if self.score is not None:
            check_choice("score", self.score, SCORES)
        if self.schedule is not None:
            check_choice("schedule", self.schedule, SCHEDULES)
        if isinstance(self.target_size, bool) or not isinstance(self.target_size, (int, float)):
            raise TypeError(f"target_size is {self.target_size!r}; wanted a share in (0, 1], as 0.25")
        if not 0 < self.target_size <= 1:  # NaN fails this too
            raise ValueError(
                f"target_size is {self.target_size}; wanted the share of the weights that remains, in (0, 1], as 0.25"
            )
        if isinstance(self.ignore, str):
            raise TypeError(f"ignore is the text {self.ignore!r}; wanted a sequence of names or patterns")
        self._check_pattern()
        self._check_training()

    def _check_pattern(self) -> None:
        pattern = self.form
        if self.method == "magnitude" and pattern.name != UNSTRUCTURED:
            raise ValueError(
                f"pattern is '{pattern.name}' with method \"magnitude\", which prunes single weights; wanted "
                f'method="structured" or "sensitivity"'
            )
        if self.method == "structured" and pattern.name == UNSTRUCTURED:
            raise ValueError('pattern is "unstructured" with method "structured"; wanted method="magnitude"')
        if self.method == "sensitivity" and pattern.name == CHANNEL:
            raise ValueError('pattern is "channel" with method "sensitivity"; wanted method="structured"')
        if self.method == "sensitivity" and self.scope == "global":
            raise ValueError('scope is "global" with method "sensitivity", which chooses each layer\'s share itself')
        if self.permute is not None and not isinstance(self.permute, bool):
            raise TypeError(f"permute is {self.permute!r}; wanted True, False or None")
        if self.permute and pattern.name in (UNSTRUCTURED, CHANNEL):
            raise ValueError(f"permute is True with pattern '{pattern.name}'; wanted blocks or N:M, as \"block4x4\"")
        if not pattern.of:
            return
        if self.scope == "global":
            raise ValueError(f"scope is \"global\" with pattern '{pattern.name}', which keeps one share everywhere")
        least, chooses = pattern.least_share, self.method == "sensitivity"
        if self.target_size < least - 1e-9 or not (chooses or math.isclose(self.target_size, least)):
            wanted = "at least that" if chooses else "that"
            raise ValueError(
                f"target_size is {self.target_size}; pattern '{pattern.name}' keeps {least:g}: wanted {wanted}"
            )

    def _check_training(self) -> None:
        if self.schedule == "polynomial" and self.recovery not in ("auto", "schedule"):
            raise ValueError(f'schedule is "polynomial" with recovery "{self.recovery}"; wanted recovery="schedule"')
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps is {self.steps} and epochs is {self.epochs}; wanted one of them")
        for name in ("min_weights", "calibration_samples", "steps", "epochs"):
            value, least = getattr(self, name), 0 if name == "min_weights" else 1
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; wanted at least {least}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr is {self.lr}; wanted a positive learning rate")

    @property
    def form(self) -> Pattern:
        """The pattern asked for, or that of the method."""
        return parse_pattern(self.pattern or (UNSTRUCTURED if self.method == "magnitude" else "block4x4"))

    def settled(self, model: TorchModel) -> Options:
        """The options with everything decided that hangs on what the model brings.

        Raises:
            ValueError: data is missing for what was asked for by name.
        """
        trains = model.train_data is not None and model.loss_fn is not None
        score, recovery = self.score, self.recovery
        if score is None:
            wanda = model.calibration_data is not None and self.method != "magnitude"
            score = "wanda" if wanda else "magnitude"
        if recovery == "auto" and self.schedule == "polynomial":
            recovery = "schedule"
        elif recovery == "auto" and self.target_size == 1:
            recovery = "none"
        elif recovery == "auto":
            found = [
                (trains, "schedule"),
                (model.train_data is not None, "distillation"),
                (model.calibration_data is not None, "reconstruction"),
                (True, "none"),
            ]
            recovery = next(name for there, name in found if there)
        schedule = (self.schedule or "polynomial") if recovery == "schedule" else "oneshot"
        plain = self.form.name in (UNSTRUCTURED, CHANNEL) or recovery == "none"
        permute = False if plain and self.permute is None else self.permute
        options = replace(
            self, pattern=self.form.name, score=score, recovery=recovery, schedule=schedule, permute=permute
        )
        options._check_data(model)
        return options

    def _check_data(self, model: TorchModel) -> None:
        calibration, trains = model.calibration_data is not None, model.train_data is not None
        labelled = trains and model.loss_fn is not None
        train = "train_data and loss_fn: taille.TorchModel(..., train_data=batches, loss_fn=loss)"
        wanted = "calibration_data: taille.TorchModel(..., calibration_data=batches)"
        name = 'schedule="polynomial"' if self.schedule == "polynomial" else 'recovery="schedule"'
        needs = [
            (self.score == "wanda" and not calibration, f'score="wanda" needs {wanted}'),
            (self.score == "fisher" and not labelled, f'score="fisher" needs {train}'),
            (self.method == "sensitivity" and not calibration, f'method="sensitivity" needs {wanted}'),
            (self.recovery == "reconstruction" and not calibration, f'recovery="reconstruction" needs {wanted}'),
            (
                self.recovery == "distillation" and not calibration and not trains,
                f'recovery="distillation" needs train_data (inputs alone will do) or {wanted}',
            ),
            (self.recovery == "schedule" and not labelled, f"{name} needs {train}"),
        ]
        for missing, message in needs:
            if missing:
                raise ValueError(message)

    @property
    def training_steps(self) -> int:
        """How many steps training takes, where neither steps nor epochs were asked for."""
        return SCHEDULE_STEPS if self.recovery == "schedule" else DISTILLATION_STEPS

    def step(self) -> dict[str, Any]:
        """What the recipe records of that which was asked for and settled: JSON-compatible."""
        return {
            "step": "prune", "method": self.method, "pattern": self.form.name, "scope": self.scope,
            "score": self.score, "target_size": self.target_size, "ignore": [text_of(i) for i in self.ignore],
            "include_first_last": self.include_first_last, "min_weights": self.min_weights,
            "recovery": self.recovery, "schedule": self.schedule, "seed": self.seed, "permute": self.permute,
        }  # fmt: skip
