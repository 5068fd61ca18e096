"""Says in the header of a test run what it ran on."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

# Torch's threads that spin for one another, in as many processes as there are CPUs, take the time of all.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
from hypothesis import settings

from taille import _native
from taille.quantization import never_slower


def pytest_report_header() -> str:
    threads, reason = _native.granted_threads()
    isas = ", ".join(_native.supported_isas())
    return f"taille: {_native.cpu_name()}, levels {isas}; {threads} threads ({reason})"


# No test asserts a time, and hypothesis's deadline of 200 ms would be one.
settings.register_profile("taille", deadline=None, print_blob=True)
settings.load_profile("taille")


@pytest.fixture(scope="session", autouse=True)
def no_layer_stays_float32_for_its_time() -> Iterator[None]:
    """What is asserted of a small network in int8 does not hang on the clock; test_never_slower.py undoes this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(never_slower, "SURE", math.inf)
        patch.setattr(never_slower, "ROUNDS", (1, 1))
        yield
