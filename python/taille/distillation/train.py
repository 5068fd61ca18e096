"""The training loop: AdamW, a rate that warms up and falls along a cosine, and the best weights kept."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from taille.distillation.features import Projections, Watch
from taille.distillation.lessons import Lessons, print_of
from taille.distillation.losses import soft_loss
from taille.distillation.options import Options
from taille.distillation.state import Checkpoint, State
from taille.distillation.student import Student
from taille.errors import TrainingError
from taille.pruning.layers import call
from taille.pruning.model import apply_masks
from taille.torch_model import TorchModel, eval_mode
from taille.training.data import Batch, seeded
from taille.training.loop import interrupts_wait, mode_of, moments, restore

__all__ = ["Epoch", "Training", "rate_at"]

log = logging.getLogger(__name__)

SAVE_EVERY = 100  # steps; and at the end of each epoch


@dataclass(frozen=True)
class Epoch:
    """What `on_epoch` is told.

    Attributes:
        epoch: from 1.   epochs: how many there will be at most.
        loss: the mean over the epoch's steps.   losses: its parts by name ("hard", "soft", "features"), unweighted.
        quality: higher is better; None where nothing measures it.
        best_epoch: whose weights are the best so far; 0: those before training.
        seconds_left: at the pace of this run; an upper bound where training stops early.
    """

    epoch: int
    epochs: int
    loss: float
    losses: dict[str, float]
    quality: float | None
    best_epoch: int
    seconds_left: float


@dataclass
class Training:
    """One distillation under way.

    Attributes:
        teacher, student: the one that is never changed, and the one that is.
        options: what was asked for.   task: of the outputs.   alpha: the weight of the hard loss, settled.
        lessons: the data.   projections: of features.   watches: of the features of teacher and student.
        checkpoint: where the state is written.   state: where it stands.
        progress: called with a stage, how much is done and of how much.   on_epoch: told of each epoch.
    """

    teacher: TorchModel
    student: Student
    options: Options
    task: str
    alpha: float
    lessons: Lessons
    projections: Projections
    watches: tuple[Watch, Watch]
    checkpoint: Checkpoint
    state: State
    progress: Callable[[str, int, int], None]
    on_epoch: Callable[[Epoch], None]
    whole: bool = True  # whether the weights are those of a whole step
    parameters: list[nn.Parameter] = field(default_factory=list)
    optimizer: Any = None
    started: tuple[float, int] = (0.0, 0)  # seconds, and the step then

    def __post_init__(self) -> None:
        with torch.no_grad():
            for i, weight in self.state.projections.items():
                self.projections.weights[int(i)].copy_(weight)
        own = [p for p in self.student.module.parameters() if p.requires_grad]
        self.parameters = [*own, *self.projections.weights]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.options.lr, weight_decay=0.0)
        restore(self.optimizer, self.parameters, self.state.optimizer)

    @property
    def steps(self) -> int:
        """How many steps there will be at most."""
        return self.options.epochs * self.lessons.count

    @property
    def judge(self) -> str | None:
        """What measures the quality."""
        if self.teacher.eval_fn is not None:
            return "eval_fn"
        return "loss on held-out batches" if self.lessons.held else None

    @property
    def stopped(self) -> bool:
        """Whether there have been too many epochs without a better quality."""
        stopping = self.options.early_stopping
        return stopping is not None and self.state.stale >= stopping.patience

    def run(self) -> None:
        """Train in place, from where the state stands; the best weights are in the module afterwards."""
        state = self.state
        self.started = time.monotonic(), state.step
        with torch.enable_grad(), eval_mode(self.teacher.module), mode_of(self.student.module, training=True):
            if self.judge is not None and not state.history:
                self._judge({})
            while state.epoch < self.options.epochs and not self.stopped:
                for batch in self.lessons.to_learn(state.epoch, state.within):
                    with interrupts_wait():
                        self._step(batch)
                    if state.step % SAVE_EVERY == 0:
                        self.save()
                    self.progress("training", state.step, self.steps)
                self._close_epoch()
        self.student.module.load_state_dict(state.best)

    def save(self) -> None:
        """Write where training stands, if that is the end of a step."""
        if self.whole:
            self.state.optimizer = moments(self.optimizer, self.parameters)
            self.state.projections = {str(i): w.detach() for i, w in enumerate(self.projections.weights)}
            self.checkpoint.save(self.student.module, self.state)

    def _step(self, batch: Batch) -> None:
        state = self.state
        self.whole = False  # running statistics change with the first forward pass
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * rate_at(state.step, self.steps, self.options.warmup)
        with seeded(self.options.seed + state.step):  # a step draws the same numbers whenever it is run
            losses = self.losses(batch)
            total = self.weighted(losses)
            value = float(total.detach())
            if not math.isfinite(value):
                raise self.failure(f"the loss is {value}", f"try a smaller lr than {self.options.lr}")
            gradients = torch.autograd.grad(total, self.parameters, allow_unused=True)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        apply_masks(self.student.module, self.student.masks)
        state.step += 1
        state.within += 1
        for name, loss in {"loss": total, **losses}.items():
            state.sums[name] = state.sums.get(name, 0.0) + float(loss.detach())
        self.whole = True

    def losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The parts of the loss that count, unweighted: "hard", "soft" and "features"."""
        theirs, ours = self.watches
        found, wanted = {}, None
        if self.alpha < 1 or self.options.features:
            with torch.no_grad(), theirs.on(self.teacher.module):
                wanted = call(self.teacher, self.teacher.module, batch.inputs)
        with ours.on(self.student.module):
            given = call(self.teacher, self.student.module, batch.inputs)
        if self.alpha > 0:
            found["hard"] = self._hard_loss(given, batch)
        if self.alpha < 1:
            options = self.options
            found["soft"] = soft_loss(self.task, batch, given, wanted, temperature=options.temperature,
                                      axis=options.class_axis)  # fmt: skip
        if self.options.features:
            found["features"] = self.projections.loss(batch, theirs, ours)
        return found

    def _hard_loss(self, given: Any, batch: Batch) -> torch.Tensor:
        assert self.teacher.loss_fn is not None  # else there is no alpha
        loss = self.teacher.loss_fn(given, *batch.targets)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            what = list(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise ValueError(f"loss_fn gives {what}; wanted a tensor of one element")
        return loss.reshape(())

    def weighted(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        """What is minimised: alpha hard + (1 - alpha) soft + feature_weight features."""
        weights = self.weights()
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    def weights(self) -> dict[str, float]:
        """The weight of each part of the loss that counts."""
        features = (self.options.feature_weight or 1.0) if self.options.features else 0.0
        weights = {"hard": self.alpha, "soft": 1 - self.alpha, "features": features}
        return {name: weight for name, weight in weights.items() if weight > 0}

    def _close_epoch(self) -> None:
        state = self.state
        sums = {name: total / max(1, state.within) for name, total in state.sums.items()}
        quality = self._judge(sums)
        self.save()
        loss = sums.pop("loss", math.nan)
        seconds, first = time.monotonic() - self.started[0], self.started[1]
        left = seconds / max(1, state.step - first) * (self.steps - state.step)
        best = state.best_epoch or 0
        log.info("epoch %d of %d: loss %.4g, quality %s, best so far epoch %d, %.0f s left", state.epoch,
                 self.options.epochs, loss, quality, best, left)  # fmt: skip
        self.on_epoch(Epoch(state.epoch, self.options.epochs, loss, sums, quality, best, left))

    def _judge(self, losses: dict[str, float]) -> float | None:
        """Measure the weights as they are, note it as an epoch's row, and keep them if they are the best."""
        if not all(bool(p.isfinite().all()) for p in self.student.module.parameters()):
            raise self.failure("a weight is NaN or infinite", f"try a smaller lr than {self.options.lr}")
        quality, state = self.quality(), self.state
        with interrupts_wait():  # all of the row or nothing
            epoch = state.epoch + 1 if losses else 0
            state.history.append({"epoch": epoch, **losses, "quality": quality})
            state.epoch, state.within, state.sums = epoch, 0, {}
            if quality is None or state.best_quality is None or quality > state.best_quality:
                state.best = {n: t.detach().clone() for n, t in self.student.module.state_dict().items()}
                state.best_epoch, state.best_quality = epoch, quality
            delta = self.options.early_stopping.min_delta if self.options.early_stopping else 0.0
            if quality is None or state.reference is None or quality > state.reference + delta:
                state.reference, state.stale = quality, 0
            else:
                state.stale += 1
        return quality

    def quality(self) -> float | None:
        """What `eval_fn` gives, or minus the loss on what is held out; higher is better. None: nothing measures it.

        Raises:
            taille.TrainingError: it is NaN.
        """
        if self.judge is None:
            return None
        with seeded(self.options.seed):
            value = self._evaluated() if self.teacher.eval_fn is not None else -self._held_out_loss()
        if math.isnan(value):
            raise self.failure(f"the {self.judge} gives nan", "wanted a number, higher being better")
        return value

    def _evaluated(self) -> float:
        assert self.teacher.eval_fn is not None
        with eval_mode(self.student.module):
            return float(self.teacher.eval_fn(self.student.model(self.teacher)))

    def _held_out_loss(self) -> float:
        """The mean over the samples that are held out, of hard and soft loss in eval mode."""
        total, samples, crc = 0.0, 0, 0
        with eval_mode(self.student.module), torch.no_grad():
            for batch in self.lessons.to_measure():
                losses = self.losses(batch)
                losses.pop("features", None)
                total += float(self.weighted(losses)) * batch.samples
                samples += batch.samples
                crc = print_of(batch, crc)
        if self.state.held not in (None, crc):
            raise ValueError(
                f"the batches of {self.lessons.source} that are held out differ from pass to pass, so that some would "
                "be trained on; wanted data whose order is fixed or drawn by torch's own random numbers, or an eval_fn"
            )
        self.state.held = crc
        return total / samples

    def failure(self, what: str, advice: str) -> TrainingError:
        """The error to raise; the best so far goes with it."""
        found = self.best_so_far()
        kept = f"the best so far, of epoch {self.state.best_epoch}, is in .best" if found else "there is no best yet"
        step = self.state.step + (not self.whole)  # the one under way, or the last
        return TrainingError(f"{what} at training step {step}; {advice} ({kept})", best=found)

    def best_so_far(self) -> TorchModel | None:
        """The best weights in a model of their own."""
        if self.state.best_epoch is None:
            return None
        kept = copy.deepcopy(self.student)
        kept.module.load_state_dict(self.state.best)
        return kept.model(self.teacher)


def rate_at(step: int, steps: int, warmup: float) -> float:
    """The share of the highest rate at a step from 0: a line up over the first `warmup` of them, then half a cosine."""
    warm = math.ceil(warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
