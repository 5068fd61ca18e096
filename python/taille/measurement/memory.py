"""Peak memory of a model, in a process of its own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from taille.batches import Arrays
from taille.compiled import CompiledModel

__all__ = ["peak_memory", "why_not_measured"]

log = logging.getLogger(__name__)

# The child finds what this process finds, however it was started; the working directory is not put first.
CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from taille.measurement.resident import main; main(*sys.argv[2:])"
)
TIMEOUT = 600  # seconds


def why_not_measured() -> str:
    """Why `peak_memory` gives None here; "" where it does not."""
    if not Path("/proc/self/status").exists():
        return "this system has no /proc/self/status"
    return "" if sys.executable else "this process has no interpreter to start"


def peak_memory(model: CompiledModel, arrays: Arrays) -> int | None:
    """Bytes that loading the saved artefact and running it on one batch adds to a fresh process, at their peak.

    The interpreter, numpy, the native module and the inputs are not counted; weights (as stored while the file is
    read, and as packed), the arena, the threads' stacks and the outputs are. Pages are 4 kB, and the count differs by
    some hundred kB from run to run.

    Returns:
        None where the system does not tell (no /proc), or this process has no interpreter to start.

    Raises:
        RuntimeError: the process failed; the message ends with what it said.
    """
    if why := why_not_measured():
        log.warning("peak memory is not measured: %s", why)
        return None
    with tempfile.TemporaryDirectory(prefix="taille-") as folder:
        artefact, inputs = Path(folder, "model.safetensors"), Path(folder, "inputs.npz")
        model.save(artefact)
        np.savez(inputs, allow_pickle=False, **arrays)
        command = [
            sys.executable, "-c", CHILD, json.dumps(sys.path), str(artefact), str(inputs), str(model.threads),
        ]  # fmt: skip
        try:
            done = subprocess.run(  # noqa: S603 - this interpreter, with paths of our own
                command, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"measuring peak memory: the process took more than {TIMEOUT} s") from None
    if done.returncode:
        raise RuntimeError(f"measuring peak memory: exit status {done.returncode}: {done.stderr.strip()[-1000:]}")
    return int(json.loads(done.stdout)["peak_bytes"])
