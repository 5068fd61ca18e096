"""Training the weights that remain: distillation from the dense model, or fine-tuning while the masks close.

Distillation: the outputs and hidden states of the pruned network are pulled to those of the dense one, relative squared
error each, on inputs without labels; masks are fixed. Schedule: the user's loss is added, on training data, and with
"polynomial" the share that is pruned grows as s_f (1 - (1 - t / T)^3) (Zhu & Gupta 2017, arXiv:1710.01878) over the
first three quarters of the steps. AdamW with a cosine of the learning rate in both.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from taille.pruning.layers import EMBEDDINGS, call, hooked
from taille.pruning.masks import make_mask
from taille.pruning.model import apply_masks, narrowed
from taille.pruning.scores import score_layers
from taille.pruning.work import Work
from taille.torch_model import eval_mode
from taille.training.data import Batch, Batches, seeded, tensors_in
from taille.training.loop import mode_of, moments, restore
from taille.training.losses import relative_error, unlikeness

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["train"]

RAMP = 0.75  # of the steps: the mask closes meanwhile
UPDATES = 25  # how often it is made anew in that time
SAVE_EVERY = 25  # steps


def train(work: Work) -> None:
    """Train in place; goes on where the state says that training stands."""
    options, state = work.options, work.state
    labelled = options.recovery == "schedule"
    data = Batches(work.model, "train" if work.model.train_data is not None else "calibration")
    if not state.steps:
        state.steps = options.steps or (options.epochs or 0) * data.count() or options.training_steps
    parameters = trainable(work.module, labelled)
    optimizer = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=0.0)
    restore(optimizer, parameters, state.optimizer)
    watched = hidden_states(work)
    batches = data.steps(state.step, options.seed)
    with eval_mode(work.model.module), mode_of(work.module, training=labelled):
        while state.step < state.steps:
            close_masks(work)
            for group in optimizer.param_groups:
                group["lr"] = options.lr * 0.5 * (1 + math.cos(math.pi * state.step / state.steps))
            with seeded(options.seed + state.step):  # a step draws the same numbers whenever it is run
                loss = loss_of(work, watched, next(batches), labelled)
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            apply_masks(work.module, state.masks)
            state.step += 1
            value = float(loss.detach())
            if not math.isfinite(value):
                raise ValueError(
                    f"the loss is {value} at training step {state.step}; wanted finite losses: try a smaller lr "
                    f"than {options.lr}"
                )
            if state.step % SAVE_EVERY == 0 and work.checkpoint.path is not None:
                state.optimizer = moments(optimizer, parameters)
                work.save()
            work.progress("training", state.step, state.steps)


def trainable(module: nn.Module, labelled: bool) -> list[nn.Parameter]:
    """The parameters that are trained: without labels all but tables of embeddings, of which a batch sees few rows.

    Raises:
        ValueError: there are none.
    """
    tables = set() if labelled else {id(m.weight) for m in module.modules() if isinstance(m, EMBEDDINGS)}
    found = [p for p in module.parameters() if p.requires_grad and id(p) not in tables]
    if not found:
        raise ValueError("no parameter of the module requires a gradient; wanted some: module.requires_grad_(True)")
    return found


def close_masks(work: Work) -> None:
    """Make the masks anew where the schedule says so; a weight that has gone scores 0, so it does not come back."""
    state, options = work.state, work.options
    if options.schedule != "polynomial":
        return
    ramp = max(1, math.ceil(RAMP * (state.steps - 1)))
    every = max(1, ramp // UPDATES)
    if state.step > ramp or (state.step % every and state.step != ramp):
        return
    left = (1 - state.step / ramp) ** 3
    scores = score_layers(work.module, work.layers, work.factors)
    for layer in work.layers:
        share = state.shares[layer.name]
        mask = make_mask(scores[layer.name], options.form, share + (1 - share) * left)
        state.masks[layer.name] = narrowed(work.model, layer.name, torch.from_numpy(mask))
    apply_masks(work.module, state.masks)


def loss_of(work: Work, watched: list[str], batch: Batch, labelled: bool) -> torch.Tensor:
    """Distillation's loss on a batch, and the user's where there are labels."""
    with torch.no_grad():
        wanted, wanted_outputs = observed(work.model, work.model.module, watched, batch)
    given, outputs = observed(work.model, work.module, watched, batch)
    hidden = [relative_error(batch.real(g), batch.real(w)) for g, w in zip(given, wanted, strict=True)]
    ends = []
    for output, exact in zip(tensors_in(outputs), tensors_in(wanted_outputs), strict=True):
        ends.append(relative_error(batch.real(output), batch.real(exact)))
        pools = batch.pooled(output), batch.pooled(exact)  # what an embedding of the whole sequence is made of
        if pools[0] is not None and pools[1] is not None:
            ends += [relative_error(pools[0], pools[1]), unlikeness(pools[0], pools[1])]
    loss = sum(ends) / max(1, len(ends)) + sum(hidden) / max(1, len(hidden))
    if labelled:
        assert work.model.loss_fn is not None  # the options were settled
        loss = loss + work.model.loss_fn(outputs, *batch.targets)
    return loss


def observed(model: TorchModel, module: nn.Module, watched: list[str], batch: Batch) -> tuple[list[Any], Any]:
    """What the watched modules give, in order, and the outputs."""
    found: list[torch.Tensor] = []

    def hook(_module: nn.Module, _args: Any, output: Any) -> None:
        found.extend(tensors_in(output)[:1])

    with hooked(module, dict.fromkeys(watched, hook)):
        outputs = call(model, module, batch.inputs)
    return found, outputs


def hidden_states(work: Work) -> list[str]:
    """Whose outputs are the hidden states: the members of every ModuleList and Sequential that hold pruned layers.

    Without any, the pruned layers themselves.
    """
    pruned = [layer.name for layer in work.layers]
    found: list[str] = []
    for name, module in work.module.named_modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)):
            members = [f"{name}.{child}".lstrip(".") for child, _ in module.named_children()]
            found += [m for m in members if any(p == m or p.startswith(f"{m}.") for p in pruned)]
    return found or pruned
