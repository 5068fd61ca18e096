"""What `distill_model` gives: a trained `TorchModel` that knows where it comes from."""

from __future__ import annotations

import copy
from typing import Any

from taille.distillation.student import Student
from taille.pruning.model import hold_masks
from taille.torch_model import TorchModel

__all__ = ["DistilledModel"]


class DistilledModel(TorchModel):
    """A distilled student: a `TorchModel` with its teacher's data and functions.

    Its masks, where it has some, hold in further training as a `PrunedModel`'s do.
    """

    def __init__(self, teacher: TorchModel, student: Student, step: dict[str, Any], history: list[dict[str, Any]]):
        """Hold a trained student; made by `distill_model`.

        Args:
            teacher: whose examples, data and functions are taken over; its module is not held.
            student: trained.
            step: what the recipe records of the distillation, JSON-compatible.
            history: a row per epoch.
        """
        super().__init__(student.module, **student.heritage(teacher))
        self.masks = dict(student.masks)
        hold_masks(self.module, self.masks)
        source = teacher.metadata
        lineage = {"teacher": {"name": teacher.name, "parameters": teacher.parameter_count,
                               "recipe": source["recipe"], "lineage": source.get("lineage")}}  # fmt: skip
        self._metadata = {"name": self.name, "recipe": [*student.recipe, step], "lineage": lineage, "history": history}

    @property
    def metadata(self) -> dict[str, Any]:
        """Name, recipe, lineage and the history of training: a fresh copy."""
        return copy.deepcopy(self._metadata)

    def __repr__(self) -> str:
        return f"<DistilledModel {self.name}: {'; '.join(map(str, self.input_spec))}>"
