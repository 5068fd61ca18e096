"""Binding what a user passes to `predict` to a model's named inputs, and giving outputs back in the same kind.

Nothing is converted in silence except memory layout: dtypes and shapes must be those of the model. torch tensors are
recognised through `sys.modules`, so torch is never imported here; arrays of other packages come by DLPack.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from taille.models import TensorSpec

__all__ = ["InputBinder", "Limits", "check_arrays", "give_back", "name_inputs"]

Array = npt.NDArray[Any]
Limits = Mapping[str, Sequence[int | None]]  # named dimension -> [least, most or None]
DLPACK_CPU = 1  # kDLCPU of dlpack.h


def is_tensor(value: object) -> bool:
    """Whether `value` is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def name_inputs(inputs: Any, names: Sequence[str]) -> dict[str, Any]:
    """Give each of the user's inputs its name, in the model's order.

    Args:
        inputs: one array or tensor, a tuple of them, or a dict by name.
        names: the model's inputs, in order.

    Raises:
        TypeError: `inputs` is none of these.   ValueError: a wrong number of inputs, or a wrong name.
    """
    if isinstance(inputs, dict):
        missing = [n for n in names if n not in inputs]
        unknown = [str(n) for n in inputs if n not in names]
        if missing or unknown:
            given = ", ".join(str(n) for n in inputs) or "none"
            what = f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}"
            raise ValueError(f"inputs given: {given}; wanted: {', '.join(names)} ({what})")
        return {n: inputs[n] for n in names}
    if not isinstance(inputs, tuple):
        inputs = (inputs,)
    if len(inputs) != len(names):
        raise ValueError(f"number of inputs given: {len(inputs)}; wanted {len(names)}: {', '.join(names)}")
    return dict(zip(names, inputs, strict=True))


def as_array(name: str, value: Any) -> Array:
    """View one input as a numpy array; a TypeError names the input where that is impossible."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if is_tensor(value):
        if value.device.type != "cpu" or value.is_sparse:
            raise TypeError(f"input '{name}' is a tensor on {value.device}; wanted a dense one on the CPU: .cpu()")
        if str(value.dtype) == "torch.bfloat16":  # numpy has no such type
            raise TypeError(f"input '{name}' is bfloat16; taille takes float32: .float()")
        array: Array = value.detach().resolve_conj().resolve_neg().numpy()
        return array
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        return from_dlpack(name, value)
    raise TypeError(
        f"input '{name}' is {type(value).__name__}; wanted a numpy array or a torch tensor (or another with __dlpack__)"
    )


def from_dlpack(name: str, value: Any) -> Array:
    """View the memory of any array that speaks DLPack, where it lies on the CPU; nothing is copied."""
    kind = type(value).__name__
    device, _ = value.__dlpack_device__()
    if device != DLPACK_CPU:
        raise TypeError(
            f"input '{name}' is a {kind} on DLPack device {int(device)}; wanted one on the CPU ({DLPACK_CPU})"
        )
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:  # such as a dtype that numpy has not
        raise TypeError(f"input '{name}' is a {kind} whose memory numpy cannot view: {error}") from error


def check_arrays(arrays: Mapping[str, Array], spec: Sequence[TensorSpec], limits: Limits) -> None:
    """Check dtype, rank and shape of every input against the model's, dynamic dimensions against one another.

    Raises:
        TypeError: another dtype.   ValueError: another rank or size. The message names the input.
    """
    sizes: dict[str, tuple[int, str]] = {}  # dimension -> its size and the input that set it
    for wanted in spec:
        array = arrays[wanted.name]
        if array.dtype != wanted.dtype:
            raise TypeError(
                f"input '{wanted.name}' is {array.dtype}; wanted {wanted.dtype}: convert it with "
                f".astype(numpy.{wanted.dtype}) (a torch tensor with .to(torch.{wanted.dtype}))"
            )
        if array.ndim != len(wanted.shape):
            raise ValueError(f"{shapes(array, wanted)}")
        for axis, (size, dim) in enumerate(zip(array.shape, wanted.shape, strict=True)):
            problem = check_size(size, dim, wanted.name, sizes, limits)
            if problem:
                raise ValueError(f"{shapes(array, wanted)}: dimension {axis} is {size}, {problem}")


def shapes(array: Array, wanted: TensorSpec) -> str:
    """How an error begins that is about a shape."""
    shape = "[" + ", ".join(str(d) for d in wanted.shape) + "]"
    return f"input '{wanted.name}' has shape {list(array.shape)}; wanted {shape}"


def check_size(size: int, dim: int | str, name: str, sizes: dict[str, tuple[int, str]], limits: Limits) -> str:
    """What is wrong with one size of the input of that name, or nothing; remembers the sizes of named dimensions."""
    if isinstance(dim, int):
        return "" if size == dim else f"not {dim}"
    known, first = sizes.setdefault(dim, (size, name))
    if known != size:
        return f"but '{dim}' is {known} in input '{first}'"
    least, most = limits.get(dim, (1, None))
    least = max(1, least or 1)
    if size < least:
        return f"but '{dim}' is at least {least}"
    return f"but '{dim}' is at most {most}" if most is not None and size > most else ""


class InputBinder:
    """Turns what a user passes to `predict` into named C-contiguous arrays that fit the model.

    Dtypes and shapes are checked once each: a signature that passed is remembered, as most calls repeat one.
    """

    MOST_SIGNATURES = 256

    def __init__(self, spec: Sequence[TensorSpec], limits: Limits):
        """Bind inputs for a model with this specification and these limits of its named dimensions."""
        self._spec = spec
        self._limits = limits
        self._names = [s.name for s in spec]
        self._known: set[tuple[Any, ...]] = set()

    def bind(self, inputs: Any) -> tuple[dict[str, Array], bool]:
        """Give the arrays by name, and whether they came as torch tensors (then outputs go back as such).

        Raises:
            TypeError, ValueError: as `BaseMLModel.predict` says.
        """
        named = name_inputs(inputs, self._names)
        tensors = [is_tensor(v) for v in named.values()]
        if any(tensors) and not all(tensors):
            raise TypeError("inputs mix numpy arrays and torch tensors; wanted one kind")
        arrays = {name: as_array(name, value) for name, value in named.items()}
        signature = tuple((a.dtype, a.shape) for a in arrays.values())
        if signature not in self._known:
            check_arrays(arrays, self._spec, self._limits)
            if len(self._known) >= self.MOST_SIGNATURES:
                self._known.clear()
            self._known.add(signature)
        ready = {n: a if a.flags.c_contiguous and a.flags.aligned else a.copy(order="C") for n, a in arrays.items()}
        return ready, any(tensors)


def give_back(outputs: Sequence[Array], names: Sequence[str], structure: str, tensors: bool) -> Any:
    """Arrange native outputs as the model gives them: "single", "tuple" or "dict"; as torch tensors where asked."""
    values: list[Any] = list(outputs)
    if tensors:
        from_numpy = sys.modules["torch"].from_numpy
        values = [from_numpy(v) for v in values]
    if structure == "dict":
        return dict(zip(names, values, strict=True))
    return tuple(values) if structure == "tuple" else values[0]
