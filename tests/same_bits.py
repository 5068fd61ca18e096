"""A graph gives the same bits with every number of threads and at every level."""

from __future__ import annotations

from typing import Any

import numpy as np

from taille import _native


def outputs(graph: Any, inputs: dict[str, np.ndarray[Any, Any]], threads: int, isa: str = "") -> list[Any]:
    return _native.Model(graph, threads, isa).run(inputs)


def check_same_bits(graph: Any, inputs: dict[str, Any], small: dict[str, Any]) -> None:
    """Threads and levels do not change a bit; the portable level, which is slow, gets the small inputs."""
    wanted, wanted_small = outputs(graph, inputs, 1), outputs(graph, small, 1)
    for threads in (2, 3):
        for given, want in zip(outputs(graph, inputs, threads), wanted, strict=True):
            np.testing.assert_array_equal(given, want, strict=True)
    for isa in _native.supported_isas():
        for given, want in zip(outputs(graph, small, 2, isa), wanted_small, strict=True):
            np.testing.assert_array_equal(given, want, strict=True, err_msg=isa)
