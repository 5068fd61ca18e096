"""Tensors as the protocol carries them, to numpy and back: JSON numbers, or bytes as they lie in memory.

Every length that a client claims is held against what it sent before memory is taken for it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from taille.arrays import Array
from taille.models import TensorSpec
from taille.serve.refusals import Invalid, shown

__all__ = ["DATATYPES", "PROTOCOL_NAMES", "checked", "from_bytes", "from_numbers", "metadata", "to_bytes"]

DATATYPES = {
    "BOOL": np.dtype(np.bool_),
    "INT8": np.dtype(np.int8), "INT16": np.dtype(np.int16), "INT32": np.dtype(np.int32), "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8), "UINT16": np.dtype(np.uint16), "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "FP16": np.dtype(np.float16), "FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64),
}  # fmt: skip
PROTOCOL_NAMES = {str(dtype): name for name, dtype in DATATYPES.items()}
MOST_DIMENSIONS = 32
SWAP = sys.byteorder == "big"  # the protocol's bytes are little-endian


def checked(name: str, datatype: object, shape: object) -> tuple[np.dtype[Any], int]:
    """The dtype and the number of elements that a client claims for the input of that name."""
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise Invalid(f"input {shown(name)} has datatype {shown(datatype)}; wanted one of {', '.join(DATATYPES)}")
    if not isinstance(shape, Sequence) or isinstance(shape, str) or len(shape) > MOST_DIMENSIONS:
        raise Invalid(f"input {shown(name)}: the shape has to be a list of at most {MOST_DIMENSIONS} sizes")
    count = 1
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise Invalid(f"input {shown(name)} has {shown(size)} in its shape; wanted whole numbers of at least 0")
        count *= size
    return dtype, count


def from_bytes(name: str, datatype: object, shape: Sequence[int], data: bytes | memoryview) -> Array:
    """The array that lies in `data`: a view of it, which cannot be written to.

    Raises:
        Invalid: an unknown datatype, a shape that is none, or another number of bytes than they take.
    """
    dtype, count = checked(name, datatype, shape)
    if count * dtype.itemsize != len(data):
        raise Invalid(
            f"input {shown(name)} has {len(data)} bytes; {datatype} of shape {shown(list(shape))} takes "
            f"{count * dtype.itemsize}"
        )
    if count == 0:
        return np.empty(tuple(shape), dtype)
    array: Array = np.frombuffer(data, dtype)
    if dtype == np.bool_ and np.frombuffer(data, np.uint8).max() > 1:
        raise Invalid(f"input {shown(name)} is BOOL and has bytes other than 0 and 1")
    return (array.byteswap() if SWAP else array).reshape(shape)


def from_numbers(name: str, datatype: object, shape: Any, data: object) -> Array:
    """The array of a JSON list: its numbers in row-major order, flat or nested as the shape.

    Raises:
        Invalid: what `from_bytes` refuses; or elements that are not numbers of that datatype, or out of its range.
    """
    dtype, count = checked(name, datatype, shape)
    if not isinstance(data, list):
        raise Invalid(f"input {shown(name)} has no list of numbers as its data")
    flat = flattened(name, data, shape)
    if len(flat) != count:
        raise Invalid(f"input {shown(name)} has {len(flat)} elements; shape {shown(shape)} takes {count}")
    if dtype == np.float16:
        raise Invalid(f"input {shown(name)}: FP16 has no form in JSON; send it as bytes (binary_data_size)")
    wanted = {bool} if dtype.kind == "b" else {int, float} if dtype.kind == "f" else {int}
    if not set(map(type, flat)) <= wanted:
        words = " or ".join(sorted(kind.__name__ for kind in wanted))
        raise Invalid(f"input {shown(name)} is {datatype} and has elements that are not {words}")
    try:
        with np.errstate(over="ignore"):
            array: Array = np.array(flat, dtype).reshape(shape)
    except OverflowError:
        raise Invalid(f"input {shown(name)} has numbers out of the range of {datatype}") from None
    if dtype.kind == "f" and not np.isfinite(array).all():  # JSON has no infinity: it was a number too large
        raise Invalid(f"input {shown(name)} has numbers out of the range of {datatype}")
    return array


def flattened(name: str, data: list[Any], shape: Sequence[int]) -> list[Any]:
    """The elements of nested lists, which have to be nested as the shape is; of a flat one, as they are."""
    flat = data
    for depth in range(len(shape)):
        if not flat or not isinstance(flat[0], list):
            return flat if depth == 0 else uneven(name)
        if depth == 0 and len(flat) != shape[0]:
            return uneven(name)
        size = shape[depth + 1] if depth + 1 < len(shape) else -1
        if not all(type(row) is list and len(row) == size for row in flat):
            return uneven(name)
        flat = list(itertools.chain.from_iterable(flat))
        if depth + 2 == len(shape):
            return flat
    return flat


def uneven(name: str) -> list[Any]:
    """Refuse lists that are nested in another way."""
    raise Invalid(f"input {shown(name)}: its lists are not nested as its shape says")


def to_bytes(array: Array) -> memoryview | bytes:
    """The bytes of an array as the protocol carries them; those of the array itself where that is possible."""
    if SWAP:
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    if array.size == 0:
        return b""
    return np.ascontiguousarray(array).reshape(-1).data.cast("B")


def metadata(specs: Sequence[TensorSpec]) -> list[Mapping[str, Any]]:
    """Inputs or outputs as the protocol describes them; a size that varies is -1."""
    return [
        {
            "name": spec.name,
            "datatype": PROTOCOL_NAMES[spec.dtype],
            "shape": [size if isinstance(size, int) else -1 for size in spec.shape],
        }
        for spec in specs
    ]
