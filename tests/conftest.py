"""Says in the header of a test run what it ran on."""

from __future__ import annotations

from hypothesis import settings

from taille import _native


def pytest_report_header() -> str:
    threads, reason = _native.granted_threads()
    isas = ", ".join(_native.supported_isas())
    return f"taille: {_native.cpu_name()}, levels {isas}; {threads} threads ({reason})"


# No test asserts a time, and hypothesis's deadline of 200 ms would be one.
settings.register_profile("taille", deadline=None, print_blob=True)
settings.load_profile("taille")
