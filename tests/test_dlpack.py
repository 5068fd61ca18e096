"""Arrays of other packages come by DLPack: viewed where they lie, not copied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plain_models import echo
from taille.arrays import InputBinder

F32 = np.float32


class Foreign:
    """An array of a package that taille does not know."""

    def __init__(self, array: Any, device: tuple[int, int] = (1, 0)) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def test_memory_is_viewed_where_it_lies() -> None:
    x = np.arange(6, dtype=F32).reshape(2, 3)
    model = echo()
    bound, tensors = InputBinder(model.input_spec, {}).bind(Foreign(x))
    assert bound["x"].ctypes.data == x.ctypes.data
    assert not tensors
    answer = model.predict(Foreign(x))
    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(answer, x)
    np.testing.assert_array_equal(model.predict({"x": Foreign(x)}), x)


def test_what_is_not_contiguous_is_copied() -> None:
    x = np.arange(6, dtype=F32).reshape(3, 2).T
    np.testing.assert_array_equal(echo().predict(Foreign(x)), x)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (Foreign(np.zeros((1, 3), F32), (2, 0)), TypeError, "'x' is a Foreign on DLPack device 2; wanted one"),
        (Foreign(np.zeros((1, 3))), TypeError, "'x' is float64; wanted float32"),
        (Foreign(np.zeros((1, 4), F32)), ValueError, "dimension 1 is 4, not 3"),
        (Foreign(np.zeros((1, 3), ">f4")), TypeError, "'x' is a Foreign whose memory numpy cannot view"),
    ],
)
def test_what_does_not_fit_is_refused(given: Foreign, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        echo().predict(given)
