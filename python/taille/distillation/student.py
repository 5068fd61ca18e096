"""The student: the user's, or one made of the teacher."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from taille.distillation.depth import shallower
from taille.distillation.options import Options
from taille.models import BaseMLModel
from taille.pruning.channels import prune_channels
from taille.pruning.prune import prune_model
from taille.quantization.options import Progress
from taille.torch_model import TorchModel, heritage, name_examples

__all__ = ["Student", "make_student"]


@dataclass
class Student:
    """What is trained.

    Attributes:
        module: a copy, free to change.   name: of the model that comes out.
        masks: of its weights, fixed.
        recipe: how it came to be.   given: whether it is the user's own.
    """

    module: nn.Module
    name: str
    masks: dict[str, torch.Tensor] = field(default_factory=dict)
    recipe: list[dict[str, Any]] = field(default_factory=list)
    given: bool = False

    def model(self, teacher: TorchModel) -> TorchModel:
        """The student with the teacher's data; see `heritage`."""
        model = TorchModel(self.module, **self.heritage(teacher))
        model.masks = dict(self.masks)
        return model

    def heritage(self, teacher: TorchModel) -> dict[str, Any]:
        """What it takes over of the teacher, by the names that its own `forward` gives the inputs.

        Raises:
            ValueError: it takes fewer inputs.
        """
        taken = heritage(teacher) | {"name": self.name}
        names = list(name_examples(self.module, taken["example_inputs"]))
        return taken | {"dynamic_shapes": dict(zip(names, teacher.dynamic.values(), strict=True))}

    def take(self, model: TorchModel) -> None:
        """Become what pruning gave."""
        self.module, self.masks = model.module, dict(model.masks)
        self.recipe += model.metadata["recipe"]


def make_student(teacher: TorchModel, options: Options, progress: Progress | None) -> Student:
    """Copy the user's student, or make one of the teacher: shallower, then narrower, then sparse.

    Masks that the teacher has stay fixed, unless layers or channels go.

    Raises:
        TypeError: the student is no module, or quantised or compiled.
        ValueError: the teacher has no stack to shorten, no channels that can go, or nothing to prune.
    """
    student = copied(teacher, options)
    if options.depth is not None and options.depth < 1:
        student.module, step = shallower(student.module, options.depth, teacher.name)
        student.masks = {}
        student.recipe.append(step)
    if options.width is not None and options.width < 1:
        student.take(prune_channels(student.model(teacher), options.width, evenly=True, progress=progress))
    if options.sparsity:
        left = 1 - options.sparsity
        student.take(prune_model(student.model(teacher), left, options.method, pattern=options.form, recovery="none",
                                 seed=options.seed, progress=progress))  # fmt: skip
    if not any(p.requires_grad for p in student.module.parameters()):
        student.module.requires_grad_(True)  # a teacher is often frozen; its student learns
    return student


def copied(teacher: TorchModel, options: Options) -> Student:
    """A copy of the user's student, or of the teacher."""
    given = options.student
    if given is None:
        recipe = list(teacher.metadata["recipe"])
        return Student(copy.deepcopy(teacher.module), teacher.name, dict(teacher.masks), recipe)
    if isinstance(given, TorchModel):
        recipe = list(given.metadata["recipe"])
        return Student(copy.deepcopy(given.module), given.name, dict(given.masks), recipe, given=True)
    if isinstance(given, nn.Module):
        return Student(copy.deepcopy(given), type(given).__name__, given=True)
    what = type(given).__name__
    if isinstance(given, BaseMLModel):
        raise TypeError(f"student is a {what}, which cannot be trained; distil first, then quantise and compile")
    raise TypeError(f"student is {what}; wanted a torch.nn.Module or a TorchModel")
