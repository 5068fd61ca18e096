"""`prune_model`: the steps in order, from a model to its pruned copy with a report."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from taille.models import BaseMLModel, check_model
from taille.pruning.channels import ChannelPrunedModel, prune_channels
from taille.pruning.checkpoint import Checkpoint
from taille.pruning.layers import Layer, Trace, survey, trace
from taille.pruning.masks import make_mask, make_masks
from taille.pruning.model import PrunedModel, apply_masks, inherited, narrowed
from taille.pruning.options import LEARNING_RATE, Options, Progress
from taille.pruning.patterns import CHANNEL
from taille.pruning.permute import permute as permute_channels
from taille.pruning.reconstruct import reconstruct
from taille.pruning.report import ChannelOrder, LayerShare, PruneReport
from taille.pruning.scores import importance, score_layers
from taille.pruning.sensitivity import allocate, probe
from taille.pruning.train import train
from taille.pruning.work import Work
from taille.quantization.ignore import Ignored
from taille.torch_model import TorchModel

__all__ = ["prune_model"]

log = logging.getLogger(__name__)

# Of the recipe's step: what decides the masks.
SAME = ("method", "pattern", "scope", "score", "target_size", "ignore", "include_first_last", "min_weights")
MOVED = ("name", "channels", "kept_before", "kept_after")  # what the recipe keeps of a group in another order


def prune_model(
    model: BaseMLModel,
    target_size: float,
    method: str = "magnitude",
    *,
    pattern: str | None = None,
    scope: str = "layer",
    score: str | None = None,
    recovery: str = "auto",
    schedule: str | None = None,
    ignore: Sequence[Ignored] = (),
    include_first_last: bool = False,
    min_weights: int = 1024,
    calibration_samples: int = 512,
    steps: int | None = None,
    epochs: int | None = None,
    lr: float = LEARNING_RATE,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    permute: bool | None = None,
    start: PrunedModel | None = None,
) -> PrunedModel | ChannelPrunedModel:
    """Take weights out of a model's Linear and Conv2d layers, and win back what that cost.

    The model itself is not changed. Embeddings, depthwise and grouped convolutions, shared weights, the first and the
    last layer, layers of few weights and those that the pattern does not divide stay dense; the report says which and
    why. The first layer is the first to run, an embedding counted; the last has no LayerNorm after it.

    What is won back, and how, goes by what the model brings (`recovery="auto"`):
    `train_data` and `loss_fn`: "schedule", training while the masks close, with distillation from the dense model;
    `train_data`: "distillation" of outputs and hidden states, after reconstruction, on inputs without labels;
    `calibration_data`: "reconstruction", a least-squares refit of the weights that remain, layer by layer;
    nothing: "none". The recipe in `metadata` records which it was.
    Positions that an input called "attention_mask" says are padding are left out of all of it.

    Args:
        model: a `TorchModel`.
        target_size: the share, in (0, 1], of the weights that remains in the layers that are pruned.
        method: "magnitude": single weights; "structured": blocks, N:M or channels, by `pattern`; "sensitivity": the
            share of each layer is chosen from losses measured on `calibration_data` with that layer pruned alone.
        pattern: which weights go together: "block4x4" (the default but for "magnitude"), "block2x4", "block1x4": so
            many output channels by four input channels of one tap; "block4x16", "block4x32": four input channels by so
            many output channels; "2:4", or another N:M: N of each M neighbouring input channels remain, so that
            `target_size` is N / M; "channel": whole channels; "unstructured" (the default of "magnitude").
        scope: "layer": the same share in each layer; "global": blocks of all layers compete, by their scores.
        score: "magnitude": w^2; "wanda": w^2 times the mean square of the input channel, from `calibration_data`, the
            default for blocks where that is there; "fisher": w^2 times the mean square of the gradient of `loss_fn` on
            `train_data`.
        recovery: "auto", "none", "reconstruction", "distillation" or "schedule".
        schedule: with `recovery="schedule"`: "polynomial" (the default; Zhu & Gupta 2017, arXiv:1710.01878), or
            "oneshot": prune, reconstruct if there is calibration data, then train with masks fixed.
        ignore: layers that stay dense: names; ops ("conv2d"); shell patterns ("encoder.layer.0.*"); regular
            expressions that match the whole name, compiled or as "re:..."; classes of modules (`nn.Linear`).
        include_first_last: prune the first and the last layer too.
        min_weights: layers with fewer weights stay dense.
        calibration_samples: how many samples (not batches) of the calibration data to use at most.
        steps: of training, one batch each; by default 250 of distillation, 1000 of a schedule.
        epochs: passes over the data instead of `steps`.
        lr: the highest learning rate of AdamW; it falls to zero along a cosine.
        seed: of torch's random numbers in training (dropout, the order of a DataLoader that shuffles).
        checkpoint: a file to go on from after an interrupt: call again with the same arguments, and the same data, and
            the result is what it would have been. It is removed at the end.
        progress: called with a stage ("reconstructing"), how much is done and of how much.
        permute: first put channels of like importance side by side, so that blocks, or N:M, keep more of the scores
            (Pool & Yu 2021, "Channel Permutations for N:M Sparsity"). Only channels move that tracing follows from the
            layer that makes them to all that read them: each of these is reordered alike, ignored layers too, so that
            the dense module computes what it did. `report.orders` says what that brought, and why others stayed.
            None: do, with blocks and N:M, where recovery follows, unless torch.export cannot trace the module.
        start: what an earlier call gave for the same model, share and pattern: its masks and weights are taken over, so
            that nothing is reconstructed twice where training comes after a first look.

    Returns:
        A `PrunedModel`: a `TorchModel` with the same data and functions, its `masks` and its `report`; with
        pattern="channel" a `ChannelPrunedModel` around a smaller module (`taille.pruning.channels`), untrained.

    Raises:
        TypeError: `model` is not a TorchModel (prune before quantising or compiling), or an option of another type.
        ValueError: `target_size` outside (0, 1], an unknown or unfitting option, data missing for what was asked for by
            name, nothing that can be pruned, an entry of `ignore` that matches no layer, NaN or infinite weights or
            activations, a checkpoint of other arguments.
        taille.CaptureError: with `permute=True`, that torch.export cannot trace the module.
    """
    options = Options(target_size, method, pattern, scope, score, recovery, schedule, ignore, include_first_last,
                      min_weights, calibration_samples, steps, epochs, lr, seed, checkpoint, progress,
                      permute, start)  # fmt: skip
    model = check_model(model, "taille.prune_model")
    if not isinstance(model, TorchModel):
        raise TypeError(f"prune_model takes a TorchModel, not {type(model).__name__}; prune first, then quantise and "
                        "compile what that gives")  # fmt: skip
    if options.form.name == CHANNEL:  # makes a smaller module, without masks: another way from here on
        return remove_channels(model, options)
    return prune_weights(model, options.settled(model))


def remove_channels(model: TorchModel, options: Options) -> ChannelPrunedModel:
    """Whole channels go, and nothing is trained."""
    if options.recovery not in ("auto", "none"):
        raise ValueError(
            f'recovery is "{options.recovery}"; pattern="channel" has none of its own: '
            "what it gives is a smaller module, to be trained as any other is"
        )
    for name in ("schedule", "steps", "epochs", "checkpoint"):
        if getattr(options, name) is not None:
            raise ValueError(f'{name} is {getattr(options, name)!r}; pattern="channel" trains nothing and takes none')
    if options.scope != "layer" or options.include_first_last:
        raise ValueError(
            'scope and include_first_last do not go with pattern="channel": all groups of channels compete, and those '
            "of the model's inputs and outputs stay"
        )
    return prune_channels(
        model, options.target_size, ignore=options.ignore, score=options.score or "magnitude", progress=options.progress
    )


def prune_weights(model: TorchModel, options: Options) -> PrunedModel:
    """Choose shares, make masks, recover; each from where the checkpoint says that it stands."""
    if options.start is not None:
        check_start(model, options)
    found = trace(model)
    rows = survey(model, options, found)
    layers = [layer for layer in rows if not layer.why]
    log.info("pruning %d of %d layers of %s", len(layers), len(rows), model.name)
    module, checkpoint = copy.deepcopy(model.module), Checkpoint(model, options)
    work = Work(model, module, layers, options, checkpoint, checkpoint.load(module))
    if options.start is not None and not work.state.shares:
        begin_with(work, options.start)
    if not work.state.shares or options.schedule == "polynomial":
        work.factors = importance(model, layers, options)
    if options.permute is not False:
        permute_channels(work)
    if not work.state.shares:
        choose_masks(work)
    if options.recovery != "none" and options.schedule != "polynomial" and not refitted(options.start):
        reconstruct_groups(work, found)
    if options.recovery in ("distillation", "schedule"):
        train(work)
    pruned = PrunedModel(model, work.module, work.state.masks, report_of(rows, work), record(work), work.state.order)
    checkpoint.remove()
    log.info("pruned %s: %s", model.name, pruned.report.counts())
    return pruned


def check_start(model: TorchModel, options: Options) -> None:
    """Whether the model to start from is an earlier result that fits.

    Raises:
        TypeError, ValueError: it does not; the message says what differs.
    """
    if not isinstance(options.start, PrunedModel):
        raise TypeError(f"start is {type(options.start).__name__}; wanted what an earlier prune_model gave")
    if options.schedule == "polynomial":
        raise ValueError('start goes with masks that stay; wanted recovery="distillation" or schedule="oneshot"')
    *before, its = options.start.metadata["recipe"]
    if before != model.metadata["recipe"]:
        raise ValueError("start is no pruned form of this model")
    if options.permute is not None and options.permute != its.get("permute"):
        raise ValueError(f"permute is {options.permute}, and start, whose order is taken over, was pruned with "
                         f"{its.get('permute')}")  # fmt: skip
    mine = options.step()
    for name in SAME:
        if mine[name] != its.get(name):
            raise ValueError(f"{name} is {mine[name]!r}, and start was pruned with {its.get(name)!r}")


def refitted(start: PrunedModel | None) -> bool:
    """Whether a model to start from has been reconstructed."""
    return start is not None and any(row.output_error is not None for row in start.report)


def begin_with(work: Work, start: PrunedModel) -> None:
    """Take over the weights and masks of an earlier result.

    Raises:
        ValueError: it has other layers.
    """
    named = {layer.name for layer in work.layers}
    if not named <= set(start.masks):
        raise ValueError(f"start has no mask for {sorted(named - set(start.masks))}; wanted one of this very model")
    work.module.load_state_dict(start.module.state_dict())
    state = work.state
    state.masks = {name: mask.clone() for name, mask in start.masks.items()}
    state.shares = {name: float(start.masks[name].double().mean()) for name in named}
    state.errors = {row.name: row.output_error for row in start.report if row.output_error is not None}
    state.order, state.moves = dict(start.order), [asdict(row) for row in start.report.orders]
    work.save()


def choose_masks(work: Work) -> None:
    """Choose the share of each layer and the masks, and apply them; a polynomial schedule begins with none gone."""
    model, options, state = work.model, work.options, work.state
    scores = score_layers(model.module, work.layers, work.factors)
    weights = {layer.name: layer.weights for layer in work.layers}
    if options.scope == "global":
        made = make_masks([scores[name] for name in weights], options.form, options.target_size)
        masks = dict(zip(weights, made, strict=True))
    else:
        shares = dict.fromkeys(weights, float(options.target_size))
        if options.method == "sensitivity":
            shares = allocate(probe(model, work.module, work.layers, scores, options), weights, options)
        masks = {name: make_mask(scores[name], options.form, share) for name, share in shares.items()}
    state.shares = {name: float(mask.mean()) for name, mask in masks.items()}
    state.masks = inherited(model)
    if options.schedule != "polynomial":
        state.masks |= {name: narrowed(model, name, torch.from_numpy(mask)) for name, mask in masks.items()}
    apply_masks(work.module, state.masks)
    work.save()


def reconstruct_groups(work: Work, found: Trace) -> None:
    """Refit the layers in the order of execution, those that read one tensor together."""
    state, names = work.state, {layer.name for layer in work.layers}
    chosen = [[name for name in group if name in names] for group in found.groups]
    groups = [group for group in chosen if group]
    for i, group in enumerate(groups):
        if i >= state.groups:
            state.errors |= reconstruct(work, group)
            state.groups = i + 1
            work.save()
        work.progress("reconstructing", i + 1, len(groups))


def report_of(rows: Sequence[Layer], work: Work) -> PruneReport:
    """A row for every layer."""
    masks, pattern = work.state.masks, work.options.form.name

    def share(layer: Layer) -> LayerShare:
        if layer.why:
            return LayerShare(layer.name, layer.op, layer.shape, "dense", 1.0, layer.why)
        kept, error = float(masks[layer.name].double().mean()), work.state.errors.get(layer.name)
        return LayerShare(layer.name, layer.op, layer.shape, pattern, kept, output_error=error)

    orders = [ChannelOrder(**{**move, "layers": tuple(move["layers"])}) for move in work.state.moves or ()]
    return PruneReport(tuple(map(share, rows)), tuple(orders))


def record(work: Work) -> dict[str, Any]:
    """What the recipe says of this step: what was asked for, what was done and what remains."""
    total = sum(layer.weights for layer in work.layers)
    kept = sum(int(work.state.masks[layer.name].sum()) for layer in work.layers)
    return work.options.step() | {
        "reconstructed": len(work.state.errors), "steps": work.state.step, "share": kept / total,
        "weights": {"kept": kept, "prunable": total}, "permute": bool(work.options.permute or work.state.moves),
        "permuted": [{k: move[k] for k in MOVED} for move in work.state.moves or () if not move["why"]],
    }  # fmt: skip
