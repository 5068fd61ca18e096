"""What a fresh process runs, to tell how much memory a model takes: loads the artefact and runs it. Needs no torch."""

from __future__ import annotations

import gc
import json
import re
import sys
from pathlib import Path

import numpy as np

from taille import _native, compiled  # noqa: F401 - the native module is there without a model too

__all__ = ["main", "resident"]

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # of proc(5): the peak becomes what is resident now


def main(artefact: str, inputs: str, threads: str) -> None:
    """Write to standard output, as JSON, the bytes that loading and running a model made resident.

    Args:
        artefact: path of a file that `save` wrote.
        inputs: path of an .npz file, an array per input name.
        threads: of the model.
    """
    with np.load(inputs, allow_pickle=False) as file:
        arrays = dict(file)
    gc.collect()
    # What is there without the model: the interpreter, numpy, the native module and the inputs.
    before, peak_before = resident()
    try:
        CLEAR.write_text(RESET_PEAK)
        peak_before = before
    except OSError:
        pass  # not allowed here; then a peak below that of the start-up is not seen, and what is resident counts
    model = compiled.load(artefact, threads=int(threads))
    for _ in range(2):  # the second run is the steady state
        outputs = model.predict(arrays)
        after, peak = resident()
        del outputs
    if peak <= peak_before:
        peak = after
    sys.stdout.write(json.dumps({"peak_bytes": max(peak, after) - before}))


def resident() -> tuple[int, int]:
    """Bytes that are resident now, and the most that were."""
    text = STATUS.read_text()
    now, most = (int(re.findall(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[0]) for field in ("VmRSS", "VmHWM"))
    return now * 1024, most * 1024
