"""What every model of taille offers, whatever it is made of. Needs numpy only."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["BaseMLModel", "TensorSpec", "check_model"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the name that a dict of inputs (or outputs) uses.
        dtype: numpy's name of the element type: "float32", "int64" or "bool".
        shape: a size per dimension: an int, or text over named dimensions ("batch", "12*sequence").
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(str(d) for d in self.shape)}]"


class BaseMLModel(ABC):
    """A model: trainable (`TorchModel`), quantised (`QuantizedModel`) or native (`CompiledModel`)."""

    @abstractmethod
    def predict(self, inputs: Any) -> Any:
        """Run the model on one batch.

        Args:
            inputs: a numpy array, a torch tensor or, for a native model, another array on the CPU with `__dlpack__`
                (not copied where it is contiguous); for several inputs a tuple of them in the order of `input_spec`, or
                a dict by name. Dtypes and shapes as `input_spec` says; nothing is converted in silence.

        Returns:
            Arrays of the kind that went in (torch, or numpy for all others): one, a tuple, or a dict by name, as the
            model gives.

        Raises:
            TypeError: an input is not an array, or has another dtype than the model takes.
            ValueError: a wrong number, name, rank or shape of inputs; the message names the input.
        """

    @property
    @abstractmethod
    def input_spec(self) -> tuple[TensorSpec, ...]:
        """The inputs, in order."""

    @property
    @abstractmethod
    def output_spec(self) -> tuple[TensorSpec, ...]:
        """The outputs, in order."""

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Bytes of the artefact that `save` writes."""

    @property
    @abstractmethod
    def parameter_count(self) -> int:
        """How many numbers the model's weights hold."""

    @property
    @abstractmethod
    def sparsity(self) -> float:
        """The share of the matrix and convolution weights that are zero, from 0 to 1."""

    @property
    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Name, recipe, lineage and metrics: a fresh copy of JSON-compatible values."""

    @abstractmethod
    def save(self, path: str | Path) -> int:
        """Write the artefact atomically (beside, fsynced, renamed), for `taille.load`.

        Returns:
            The bytes written.
        """


def check_model(model: object, function: str) -> BaseMLModel:
    """Return `model` if it is one of taille's, else raise a TypeError that says how to make one.

    Args:
        model: what the user passed.
        function: the name of the function it was passed to, for the message.
    """
    if isinstance(model, BaseMLModel):
        return model
    torch = sys.modules.get("torch")
    given = type(model).__name__
    if torch is not None and isinstance(model, torch.nn.Module):
        raise TypeError(
            f"{function} takes a taille model, not the bare nn.Module {given}; wrap it with an example of its inputs:\n"
            f"    model = taille.TorchModel(module, (example_input,))\n"
            f"    {function}(model, ...)"
        )
    raise TypeError(f"{function} takes a TorchModel, QuantizedModel or CompiledModel, not {given}")
