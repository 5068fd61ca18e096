"""`distill_model`: the steps in order, from a teacher to a trained student."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taille.distillation.check import run_both
from taille.distillation.features import Projections
from taille.distillation.lessons import Lessons
from taille.distillation.losses import SOFT
from taille.distillation.model import DistilledModel
from taille.distillation.options import HARD, Options
from taille.distillation.state import Checkpoint
from taille.distillation.student import make_student
from taille.distillation.task import check_logits, find_task, loss_name
from taille.distillation.train import Epoch, Training
from taille.errors import TrainingInterrupt
from taille.models import BaseMLModel, check_model
from taille.quantization.options import Progress
from taille.torch_model import TorchModel
from taille.training.data import seeded

__all__ = ["distill_model"]

log = logging.getLogger(__name__)


def distill_model(
    teacher: BaseMLModel,
    student_config: Mapping[str, Any],
    *,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> DistilledModel:
    """Train a small model, the student, to give what a large one, its teacher, gives.

    What is minimised: alpha times the hard loss (`loss_fn` on labels), plus 1 - alpha times the soft loss (how far the
    outputs are from the teacher's), plus what hidden features are asked for. The soft loss goes by the task:
    "classification": KL divergence of the logits softened by a temperature, times its square (Hinton et al. 2015,
    arXiv:1503.02531); "regression": mean squared error; "embedding": 1 - cosine, and how unlike samples are to one
    another (Park et al. 2019, arXiv:1904.05068). What an input "attention_mask" says is padding does not count.

    The data is the teacher's `train_data`, else its `calibration_data`, of which only the inputs are used. Neither the
    teacher nor a student that is given is changed; nor are torch's random numbers.

    The quality is what the teacher's `eval_fn` says of the student; without one, and with early stopping, minus the
    loss on batches that are held out. It is measured before training and after each epoch, and the best weights are
    given back; where nothing measures it, those of the last epoch. As it chooses, `eval_fn` should look at other data
    than a final test.

    Args:
        teacher: a `TorchModel` with data.
        student_config: a dict. Which student, one or more of:
            student: an nn.Module or a `TorchModel`; its outputs must have the structure, shapes and dtypes of the
                teacher's.
            depth: the share, in (0, 1], of the layers that stays of each stack of equal layers (neighbours in an
                nn.ModuleList or nn.Sequential), with the teacher's weights.
            width: the share, in (0, 1], of the channels that stays in each group of channels that can go, by
                `prune_channels`; those of least norm go.
            sparsity: the share, in [0, 1), of the prunable weights that is zero, by `prune_model` without recovery; the
                masks stay fixed. Goes with student, too.
            pattern: of these zeros, as `prune_model` takes it: "block4x4" by default; "unstructured", "2:4", ...
            What is learned:
            task: "classification", "regression" or "embedding"; by default told from `loss_fn`, labels and outputs.
            temperature: 3.0; above 0.   class_axis: the dimension of the classes; by default the last, of images the
                second.
            alpha: the weight of the hard loss, in [0, 1]; by default 0.1 with labels and `loss_fn`, else 0.
            features: {name of a teacher's module: name of a student's}, whose outputs are matched through learned
                projections (Romero et al. 2015, arXiv:1412.6550), which are thrown away at the end.
            feature_weight: of the relative squared error of the features; 1.0.
            How:
            epochs: 10.   lr: the highest rate of AdamW, 1e-3.
            warmup: the share of the steps over which the rate rises, 0.05; then it falls to zero along a cosine.
            early_stopping: {"patience": 3, "min_delta": 0.0}: ends after so many epochs in a row whose quality does not
                exceed the best by more than min_delta, in units of the quality; None: never.
            hold_out: the share of the batches that is held out where there is no `eval_fn`, in (0, 0.5]; 0.1.
            seed: of all random numbers of torch in training, the order of a DataLoader that shuffles included; 0.
        progress: called with a stage ("training"), how much is done and of how much.
        checkpoint: a file to go on from after an interrupt: call again with the same arguments, and the same data, and
            the result is what it would have been. It is removed at the end.
        on_epoch: called after each epoch with an `Epoch`: losses, quality, seconds left.

    Returns:
        A `DistilledModel`: a `TorchModel` with the teacher's data and functions. `metadata` holds the recipe, the
        lineage, and the history by epochs.

    Raises:
        TypeError: `teacher` is not a TorchModel (distil before quantising or compiling), or a value of another type.
        ValueError: an unknown key, a value out of range, keys that contradict one another; a student whose outputs do
            not match; a teacher that cannot be made smaller as asked; a task that cannot be told; data missing for what
            was asked for by name; a checkpoint of other arguments. All of these before training begins.
        taille.TrainingError: the loss or the quality is NaN or infinite; `best` is the best model so far.
        taille.TrainingInterrupt: a KeyboardInterrupt came; `best` likewise, and the checkpoint is written.
    """
    options = Options.of(student_config)
    teacher = check_model(teacher, "taille.distill_model")
    if not isinstance(teacher, TorchModel):
        raise TypeError(f"distill_model takes a TorchModel, not {type(teacher).__name__}; distil first, then quantise "
                        "and compile what that gives")  # fmt: skip
    with seeded(options.seed):
        training, because = prepare(teacher, options, checkpoint, progress)
        if on_epoch is not None:
            training.on_epoch = on_epoch
        taught = None
        if teacher.eval_fn is not None:
            with seeded(options.seed):
                taught = float(teacher.eval_fn(teacher))
        learn(training, checkpoint)
    step = record(training, because, taught)
    model = DistilledModel(teacher, training.student, step, training.state.history)
    training.checkpoint.remove()
    log.info("distilled %s: %d of %d parameters, best epoch %s", teacher.name, model.parameter_count,
             teacher.parameter_count, training.state.best_epoch)  # fmt: skip
    return model


def prepare(
    teacher: TorchModel, options: Options, path: str | Path | None, progress: Progress | None
) -> tuple[Training, str]:
    """Make and check all that training needs; also why the task is what it is."""
    lessons = Lessons(teacher, options)
    student = make_student(teacher, options, progress)
    outputs, theirs, ours = run_both(teacher, student.module, options)
    alpha = (HARD if lessons.labelled else 0.0) if options.alpha is None else float(options.alpha)
    task, because = options.task or "", "the soft loss has no weight"
    if alpha < 1:
        task, because = find_task(teacher, options, outputs, lessons.first if lessons.labelled else None)
    if task == "classification":
        check_logits(outputs, options, teacher.name)
    projections = Projections(theirs, ours)
    checkpoint = Checkpoint(path, teacher, student, options)
    training = Training(
        teacher, student, options, task, alpha, lessons, projections, (theirs, ours), checkpoint,
        checkpoint.load(student.module), progress or (lambda *_: None), lambda _: None,
    )  # fmt: skip
    return training, because


def learn(training: Training, path: str | Path | None) -> None:
    """Train; whatever ends it early leaves a checkpoint, where there is one."""
    try:
        training.run()
    except KeyboardInterrupt as interrupt:
        training.save()
        advice = "call again with the same arguments to go on" if path else "with a checkpoint it could go on"
        done = f"interrupted after step {training.state.step} of {training.steps}"
        raise TrainingInterrupt(f"{done}; {advice}", best=training.best_so_far()) from interrupt
    except BaseException:
        training.save()
        raise


def record(training: Training, because: str, taught: float | None) -> dict[str, Any]:
    """What the recipe says of this step: what was asked for, what was used and what came of it; JSON-compatible."""
    options, state, lessons = training.options, training.state, training.lessons
    names = {"hard": loss_name(training.teacher.loss_fn), "soft": SOFT.get(training.task, ""),
             "features": "relative squared error through learned projections"}  # fmt: skip
    losses = {name: {"weight": weight, "loss": names[name]} for name, weight in training.weights().items()}
    softened = training.task == "classification" and "soft" in losses
    return {
        "step": "distill", **options.record(),
        "student": training.student.name if training.student.given else "the teacher, made smaller",
        "task": training.task or None, "task_because": because, "alpha": training.alpha,
        "temperature": options.temperature if softened else None, "losses": losses,
        "data": {"source": lessons.source, "labelled": lessons.labelled, "batches": lessons.count,
                 "held_out": len(lessons.held)},
        "judge": training.judge,
        "quality": {"teacher": taught, "before": state.history[0]["quality"] if training.judge else None,
                    "after": state.best_quality},
        "steps": state.step, "epochs_run": state.epoch, "best_epoch": state.best_epoch,
        "stopped_early": state.epoch < options.epochs,
    }  # fmt: skip
