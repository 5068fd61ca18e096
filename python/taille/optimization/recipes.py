"""What can be done to a model: a recipe is a few words that say it, and `carry_out` does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taille.models import BaseMLModel

if TYPE_CHECKING:
    from taille.config import PerformanceConfig
    from taille.pruning.options import Progress
    from taille.torch_model import TorchModel

__all__ = ["PATTERNS", "WIDTHS", "Level", "Recipe", "carry_out", "levels_for", "methods_for", "shares_from"]

SHARES = (
    0.5,
    0.45,
    0.4,
    0.35,
    0.3,
    0.25,
    0.2,
    0.15,
    0.1,
)  # of the weights that remain, in the order in which they are tried
SMALL = 2_000_000  # parameters up to which probing every layer takes seconds
WIDTHS = (0.5, 0.25)  # of students
STUDENT_EPOCHS = 30
REFITTED = "reconstruction"
PATTERNS = ("block4x4", "block1x4")  # fastest kernels first; finer blocks lose less


@dataclass(frozen=True)
class Level:
    """How a pruned model is brought back, cheapest first.

    Attributes:
        recovery: as `prune_model` takes it.   steps: of training; 0: none.
    """

    recovery: str
    steps: int = 0


LEVELS = {
    "none": (Level("none"),),
    "reconstruction": (Level("reconstruction"),),
    "distillation": (Level("reconstruction"), Level("distillation", 100), Level("distillation", 400)),
    "schedule": (Level("reconstruction"), Level("schedule", 300), Level("schedule", 1500)),
}


@dataclass(frozen=True)
class Recipe:
    """One way to make a model smaller.

    Attributes:
        precision: "float32", "float16", "int8" or "mixed".
        pattern: of the weights that go, as `prune_model` takes it; "": none go.
        share: of the weights that remain.   method: "structured" or "sensitivity" (each layer its own share).
        recovery, steps: see `Level`.
        width: of the channels of a student that is distilled from the model instead; 1: it is the model itself.
    """

    precision: str
    pattern: str = ""
    share: float = 1.0
    method: str = "sensitivity"
    recovery: str = "none"
    steps: int = 0
    width: float = 1.0

    @property
    def key(self) -> str:
        """The recipe in words; no two recipes have the same."""
        if self.width < 1:
            return f"student {self.width:g} {self.precision}"
        if not self.pattern:
            return f"dense {self.precision}"
        trained = f" {self.recovery} {self.steps}" if self.steps else f" {self.recovery}"
        return f"{self.pattern} {self.share:g} {self.method}{trained} {self.precision}"

    @property
    def made_key(self) -> str:
        """The same of the model before it is quantised; "" where that is the dense one."""
        return self.key.rsplit(" ", 1)[0] if self.pattern or self.width < 1 else ""

    @property
    def refitted(self) -> bool:
        """Whether the weights that remain are refitted and no more."""
        return self.made_key.endswith(REFITTED)

    def record(self) -> dict[str, Any]:
        """The fields: JSON-compatible."""
        return asdict(self)


def shares_from(target_sparsity: float) -> tuple[float, ...]:
    """The shares to try: what is asked for at least, then ever fewer weights."""
    first = round(1 - target_sparsity, 4)
    return tuple(sorted({share for share in (first, *SHARES) if share <= first and share < 1}, reverse=True))


def methods_for(method: str, parameters: int) -> tuple[str, ...]:
    """How the share is spread over the layers: evenly, or by sensitivity; of a small model both, evenly first."""
    if method == "sensitivity":
        return ("sensitivity",)
    return ("structured", "sensitivity") if parameters <= SMALL else ("structured",)


def levels_for(model: TorchModel, techniques: Sequence[str]) -> tuple[Level, ...]:
    """The ways of recovery that the model's data allows, cheapest first."""
    if "distillation" in techniques and model.train_data is not None:
        return LEVELS["schedule" if model.loss_fn is not None else "distillation"]
    return LEVELS["reconstruction" if model.calibration_data is not None else "none"]


def carry_out(
    recipe: Recipe, model: TorchModel, config: PerformanceConfig, made: dict[str, TorchModel], folder: Path,
    seed: int, drop: float | None, progress: Progress, quantizing: Mapping[str, Any],
) -> BaseMLModel:  # fmt: skip
    """The model that the recipe gives.

    Args:
        recipe: what to do.
        model: the dense one.
        config: the schedule of pruning, the samples of calibration.
        made: models made before, by `Recipe.made_key`; the newest is kept, and the newest that was only refitted, from
            which training begins.
        folder: for the checkpoints of training, so that an interrupt loses little.
        seed: of training.
        drop: of quality that "mixed" may cost; None: as much as it may by default.
        progress: told the stage, how much is done and of how much.
        quantizing: more options of `quantize_model`.
    """
    from taille.quantization import quantize_model

    base = model
    if recipe.made_key:
        if recipe.made_key not in made:
            checkpoint = folder / (recipe.made_key.replace(" ", "-") + ".part")
            if recipe.width < 1:
                found: TorchModel = distilled(recipe, model, config, checkpoint, seed, progress)
            else:
                refitted = made.get(replace(recipe, recovery=REFITTED, steps=0).made_key)
                found = pruned(recipe, model, config, checkpoint, seed, progress, refitted)
            for key in [k for k in made if recipe.refitted or not k.endswith(REFITTED)]:
                del made[key]
            made[recipe.made_key] = found
        base = made[recipe.made_key]
    if recipe.precision == "float32":
        return base
    return quantize_model(
        base, recipe.precision, calibration_samples=config.quantization.calibration_samples,
        max_accuracy_drop=drop if recipe.precision == "mixed" else None, progress=progress, **quantizing,
    )  # fmt: skip


def pruned(
    recipe: Recipe, model: TorchModel, config: PerformanceConfig, checkpoint: Path, seed: int, progress: Progress,
    refitted: TorchModel | None,
) -> TorchModel:  # fmt: skip
    """The model with the recipe's share of weights; training with masks that stay begins with the refitted one."""
    from taille.pruning import PrunedModel, prune_model

    schedule = config.pruning.schedule if recipe.recovery == "schedule" else None
    start = refitted if isinstance(refitted, PrunedModel) and recipe.steps and schedule != "polynomial" else None
    return prune_model(
        model, recipe.share, recipe.method, pattern=recipe.pattern, recovery=recipe.recovery, schedule=schedule,
        steps=recipe.steps or None, seed=seed, checkpoint=checkpoint, progress=progress, start=start,
    )  # fmt: skip


def distilled(
    recipe: Recipe, model: TorchModel, config: PerformanceConfig, checkpoint: Path, seed: int, progress: Progress
) -> TorchModel:
    """A narrower student of the model."""
    from taille.distillation import distill_model

    labelled = model.loss_fn is not None
    student = {
        "width": recipe.width, "epochs": STUDENT_EPOCHS, "temperature": config.distillation.temperature, "seed": seed,
        "early_stopping": {"patience": 5, "min_delta": 0.0},
    } | ({"alpha": config.distillation.alpha} if labelled else {})  # fmt: skip
    return distill_model(model, student, checkpoint=checkpoint, progress=progress)
