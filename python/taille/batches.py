"""A batch of a user's data as the model's named inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taille.arrays import Array, Limits, as_array, check_arrays
from taille.models import TensorSpec

__all__ = ["Arrays", "batch_arrays", "wanted_batch"]

Arrays = dict[str, Array]  # by input name


def wanted_batch(spec: Sequence[TensorSpec]) -> str:
    """What a calibration batch must hold, in words."""
    return "; ".join(map(str, spec))


def batch_arrays(
    number: int, batch: Any, spec: Sequence[TensorSpec], limits: Limits, data: str = "calibration"
) -> Arrays:
    """Take the model's inputs out of one batch; entries beyond them (labels) are not used.

    Args:
        number: of the batch, for messages.
        batch: a tensor or array, a tuple or list that begins with the inputs, or a dict by input name.
        spec: the model's inputs.
        limits: of the named dimensions.
        data: which data it is of, for messages.

    Raises:
        TypeError, ValueError: the batch has another form, dtype or shape; the message names the batch and the input.
    """
    names = [s.name for s in spec]
    where = f"{data} batch {number}"
    if isinstance(batch, Mapping):
        missing = [n for n in names if n not in batch]
        if missing:
            raise ValueError(f"{where} has no {', '.join(missing)}; wanted {wanted_batch(spec)}")
        values: Iterator[Any] = (batch[n] for n in names)
    elif isinstance(batch, (tuple, list)):
        if len(batch) < len(names):
            raise ValueError(f"{where} holds {len(batch)} arrays; wanted {wanted_batch(spec)}")
        values = iter(batch[: len(names)])
    else:
        if len(names) > 1:
            raise ValueError(f"{where} is one {type(batch).__name__}; wanted {wanted_batch(spec)}")
        values = iter((batch,))
    try:
        arrays = {n: as_array(n, v) for n, v in zip(names, values, strict=True)}
        check_arrays(arrays, spec, limits)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {error}") from None
    return arrays
