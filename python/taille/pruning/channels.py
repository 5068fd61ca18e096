"""`prune_channels`: whole channels are removed, and a plain smaller module remains."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from taille.capture.export import check_weights, export
from taille.models import BaseMLModel, check_model
from taille.pruning.channel_groups import ChannelGroup, ChannelReport, GroupReport, build_groups
from taille.pruning.channel_labels import Indices
from taille.pruning.channel_scores import SCORES, Choice, choose, choose_evenly, least_units
from taille.pruning.channel_surgery import Attributes, can_mask, cut, differences, named_tensors
from taille.pruning.channel_trace import trace_channels
from taille.pruning.channel_trials import Names, Trials
from taille.quantization.ignore import Ignored, match, text_of
from taille.quantization.options import Progress
from taille.torch_model import TorchModel, heritage

__all__ = ["ChannelPrunedModel", "prune_channels"]

log = logging.getLogger(__name__)

METHOD = "channels"
INEXACT = "a LayerNorm or RMSNorm runs over these channels: its statistics are now those of the remaining ones"


class ChannelPrunedModel(TorchModel):
    """What `prune_channels` gives: a `TorchModel` around a plain smaller module, with the report of its groups."""

    def __init__(self, parent: TorchModel, module: nn.Module, report: ChannelReport, step: dict[str, Any]):
        """Take data and names from `parent`; made by `prune_channels`.

        Args:
            parent: the model that was pruned; its module is not held.
            module: the smaller one.
            report: what became of each group of channels.
            step: what the recipe records, JSON-compatible.
        """
        super().__init__(module, **heritage(parent))
        self.report = report
        self._metadata = {**parent.metadata, "recipe": [*parent.metadata["recipe"], step]}

    @property
    def metadata(self) -> dict[str, Any]:
        """Name and recipe: a fresh copy."""
        return copy.deepcopy(self._metadata)


def prune_channels(
    model: BaseMLModel,
    target_size: float,
    *,
    ignore: Sequence[Ignored] = (),
    score: str = "magnitude",
    round_to: int = 1,
    evenly: bool = False,
    progress: Progress | None = None,
) -> ChannelPrunedModel:
    """Remove whole channels, heads and widths, so that about `target_size` of the prunable weights remains.

    The module is traced, and its channels are followed through residual additions, concatenation, grouped and depthwise
    convolutions, flattening and attention heads: what depends on a channel goes with it. What remains is a module of
    the same class with smaller layers. It computes what the dense module computes with zeros in place of the removed
    channels wherever they are read, which is checked on the example inputs. A LayerNorm over removed channels takes its
    statistics from the others; the report says where, and `ignore=[torch.nn.LayerNorm]` prevents it. Inputs and outputs
    of the model keep their sizes. Nothing is trained.

    Args:
        model: a `TorchModel`, which stays as it is.
        target_size: share of the prunable weights that remains, in (0, 1]. Prunable are the weights of two or more
            dimensions that belong to a group of channels that can go; `report.share` says what was reached.
        ignore: layers whose channels stay, inputs and outputs: names, shell patterns, regular expressions ("re:..." or
            compiled), or classes of modules. A group of channels that runs through one of them stays.
        score: "magnitude": the L2 norm over all weights that go with a channel (Li et al. 2017, arXiv:1608.08710),
            relative to the mean of its group; the least go first, over all groups.
        round_to: as many channels of each group remain as are a multiple of this, where any are removed.
        evenly: `target_size` is the share of the channels that remains in each group, a narrower network of the same
            form, and not a share of the weights for which all groups compete.
        progress: called with a stage ("pruning channels"), how much is done and of how much.

    Returns:
        A model with `report`: a row for every group of channels, with the reason where it had to stay.

    Raises:
        TypeError: `model` is not a TorchModel; an option of another type.
        ValueError: an option out of range, an entry of `ignore` that matches no layer, a NaN or infinite weight; no
            channels that can be removed (the message says why, group by group).
        taille.CaptureError: torch.export cannot trace the module.

    Source: groups after Fang et al. 2023 (DepGraph, arXiv:2301.12900).
    """
    check_options(target_size, score, round_to)
    model = check_model(model, "prune_channels")
    if not isinstance(model, TorchModel):
        raise TypeError(f"prune_channels takes a TorchModel, not {type(model).__name__}; prune before quantising")
    check_weights(model.module)
    report_progress = progress or (lambda *_: None)
    report_progress("pruning channels", 0, 4)
    walk = trace_channels(export(model), model.module)
    groups = refuse(build_groups(walk.atoms), model.module, ignore, round_to)
    report_progress("pruning channels", 1, 4)
    trials = Trials(model)
    groups, names = trials.attributes(groups)
    report_progress("pruning channels", 2, 4)
    plan = agree(Plan(model, groups, names, evenly), trials, target_size, round_to)
    report_progress("pruning channels", 3, 4)
    module = cut(model.module, plan.cuts, plan.attributes(trials))
    report = describe(plan, walk.unused)
    changed = differences(model.module, module)
    for path, values in plan.attributes(trials).items():
        changed[path] = {**changed.get(path, {}), **values}
    step = record(target_size, ignore, score, round_to, report, changed) | {"evenly": evenly}
    log.info("pruned %s: %.1f %% of the prunable weights remain (asked: %.1f %%)", model.name, 100 * report.share,
             100 * target_size)  # fmt: skip
    report_progress("pruning channels", 4, 4)
    return ChannelPrunedModel(model, module, report, step)


def check_options(target_size: Any, score: Any, round_to: Any) -> None:
    """Raise where an option has another type or range than `prune_channels` says."""
    if isinstance(target_size, bool) or not isinstance(target_size, (int, float)):
        raise TypeError(f"target_size is {target_size!r}; wanted a number in (0, 1]")
    if not 0 < target_size <= 1:
        raise ValueError(f"target_size is {target_size}; wanted a share in (0, 1] of the weights that remains")
    if score not in SCORES:
        raise ValueError(f"score is {score!r}; wanted one of {', '.join(SCORES)}")
    if isinstance(round_to, bool) or not isinstance(round_to, int):
        raise TypeError(f"round_to is {round_to!r}; wanted a whole number")
    if round_to < 1:
        raise ValueError(f"round_to is {round_to}; wanted at least 1")


@dataclass
class Plan:
    """What can go, and what goes.

    Attributes:
        model: to be pruned.   groups: all, those that must stay included.
        names: by index of a group, attributes that hold its size.
        evenly: the same share of each group's channels remains.
        removed: by index of a group, the units that go.   choice: the weights before and after.
    """

    model: TorchModel
    groups: list[ChannelGroup]
    names: dict[int, Names]
    evenly: bool = False
    removed: dict[int, Indices] = field(default_factory=dict)
    choice: Choice | None = None

    @property
    def cuts(self) -> list[tuple[ChannelGroup, Indices]]:
        """Each group that changes, with its units that go."""
        return [(self.groups[i], units) for i, units in self.removed.items() if len(units)]

    def attributes(self, trials: Trials) -> Attributes:
        """What attributes become."""
        return trials.values([(self.groups[i], units, self.names.get(i, ())) for i, units in self.removed.items()
                              if len(units)])  # fmt: skip

    def choose(self, target_size: float, round_to: int) -> None:
        """Choose what goes among the groups that can."""
        able = [i for i, g in enumerate(self.groups) if not g.why]
        if not able:
            reasons = "\n".join(f"  {g.name}: {g.why}" for g in self.groups) or "  no layer with channels was found"
            raise ValueError(f"no channels of {self.model.name} can be removed:\n{reasons}")
        chooser = choose_evenly if self.evenly else choose
        self.choice = chooser([self.groups[i] for i in able], named_tensors(self.model.module), target_size, round_to)
        self.removed = dict(zip(able, self.choice.removed, strict=True))


def agree(plan: Plan, trials: Trials, target_size: float, round_to: int) -> Plan:
    """Choose what goes, and refuse groups without which the smaller module would compute something else."""
    while True:
        plan.choose(target_size, round_to)
        if not plan.cuts or checked(plan, trials, list(plan.removed)):
            return plan
        failure = trials.failure
        wrong = {
            i: trials.failure for i, units in plan.removed.items() if len(units) and not checked(plan, trials, [i])
        }
        if not wrong:
            raise RuntimeError(f"the pruned {plan.model.name} computes something else than the dense one: {failure}")
        for i, found in wrong.items():
            plan.groups[i] = plan.groups[i].refused(f"a trial without channels failed: {found}")
            log.info("%s: %s", plan.groups[i].name, plan.groups[i].why)


def checked(plan: Plan, trials: Trials, chosen: Sequence[int]) -> bool:
    """Whether the module without the channels of these groups passes; those that can be masked also by themselves."""
    parts = Plan(plan.model, plan.groups, plan.names, removed={i: plan.removed[i] for i in chosen})
    known = {i: u for i, u in parts.removed.items() if can_mask(plan.model.module, plan.groups[i])}
    exact = Plan(plan.model, plan.groups, plan.names, removed=known)
    if exact.cuts and len(exact.cuts) < len(parts.cuts) and not trials.agree(exact.cuts, exact.attributes(trials)):
        return False
    return not parts.cuts or trials.agree(parts.cuts, parts.attributes(trials))


def refuse(
    groups: Sequence[ChannelGroup], module: nn.Module, ignore: Sequence[Ignored], round_to: int
) -> list[ChannelGroup]:
    """The groups, those refused that run through ignored layers or are too narrow."""
    layers = dict(module.named_modules())
    kinds = {name: type(layers[name]).__name__ if name in layers else "parameter"
             for g in groups for name in g.layers}  # fmt: skip
    ignored: dict[str, str] = {}
    for entry in ignore:
        found = match(entry, kinds, module)
        if not found:
            raise ValueError(f"ignore: {text_of(entry)!r} matches no layer; the layers are {', '.join(kinds)}")
        ignored |= {name: text_of(entry) for name in found}
    result = []
    for group in groups:
        hit = next((name for name in group.layers if name in ignored), None)
        if not group.why and hit is not None:
            group = group.refused(f"{hit} is ignored ({ignored[hit]})")
        elif not group.why and group.units <= least_units(group, round_to):
            channels = group.units * group.width
            narrow = f"its {channels} channels are the least that may remain (round_to is {round_to})"
            group = group.refused(narrow if group.units > 1 else f"its {channels} channels can only go together")
        result.append(group)
    return result


def describe(plan: Plan, unused: Sequence[str]) -> ChannelReport:
    """The report of a plan."""
    rows = []
    for i, group in enumerate(plan.groups):
        before = group.units * group.width
        after = before - len(plan.removed.get(i, ())) * group.width
        why = group.why or (INEXACT if group.norms and after != before else "")
        rows.append(GroupReport(group.name, group.layers, before, after, group.width, why))
    choice = plan.choice
    assert choice is not None
    return ChannelReport(tuple(rows), choice.share, choice.before, choice.after, tuple(unused))


def record(
    target_size: float, ignore: Sequence[Ignored], score: str, round_to: int, report: ChannelReport,
    attributes: Attributes,
) -> dict[str, Any]:  # fmt: skip
    """What the recipe keeps of a pruning; `attributes` let `save_pruned` write the manifest."""
    return {
        "step": "prune",
        "method": METHOD,
        "target_size": float(target_size),
        "achieved": report.share,
        "score": score,
        "round_to": round_to,
        "ignore": [text_of(entry) for entry in ignore],
        "groups": {r.name: [r.before, r.after] for r in report if r.after != r.before},
        "refused": {r.name: r.why for r in report.refused},
        "attributes": {
            path: {n: list(v) if isinstance(v, (tuple, torch.Size)) else v for n, v in values.items()}
            for path, values in attributes.items()
        },
    }
