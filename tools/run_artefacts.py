"""Runs the artefacts of a folder with the taille that is installed and compares what they give with what is stored.

    python tools/run_artefacts.py tests/golden

Beside `NAME.safetensors` lies `NAME.npz`, with the arrays of its inputs and outputs by name. Results are the same bits
on every machine, so nothing else is right. Needs numpy and taille alone, and fails where more was imported.
"""

from __future__ import annotations

import sys

STARTED_WITH = set(sys.modules)  # an environment may import things of its own at the start

from pathlib import Path

import numpy as np

import taille

ALLOWED = {"numpy", "taille", "tomli"} | sys.stdlib_module_names


def mistakes(artefact: Path) -> list[str]:
    """What is wrong with the outputs of one artefact, for one and for two threads."""
    wrong = []
    with np.load(artefact.with_suffix(".npz"), allow_pickle=False) as file:
        arrays = dict(file)
    for threads in (1, 2):
        model = taille.load(artefact, threads=threads)
        given = model.predict(tuple(arrays[spec.name] for spec in model.input_spec))
        outputs = given if isinstance(given, tuple) else (given,)
        for spec, output in zip(model.output_spec, outputs, strict=True):
            stored = arrays[spec.name]
            if (output.dtype, output.shape) != (stored.dtype, stored.shape):
                wrong.append(f"{spec.name} is {output.dtype}{output.shape}, not {stored.dtype}{stored.shape}")
            elif output.tobytes() != stored.tobytes():
                first = np.flatnonzero(output.view(np.uint8) != stored.view(np.uint8))[0] // output.itemsize
                got, wanted = output.flat[first], stored.flat[first]
                wrong.append(f"{spec.name}, {threads} threads: element {first} is {got!r}, stored is {wanted!r}")
    return [f"{artefact.name}: {one}" for one in wrong]


def main() -> int:
    artefacts = sorted(Path(sys.argv[1]).glob("*.safetensors"))
    wrong = [one for artefact in artefacts for one in mistakes(artefact)]
    if not artefacts:
        wrong.append(f"there is no artefact in {sys.argv[1]}")
    others = {name.partition(".")[0] for name in set(sys.modules) - STARTED_WITH} - ALLOWED
    if others:
        wrong.append(f"to run artefacts imported {', '.join(sorted(others))}; wanted numpy alone")
    print("\n".join(wrong) or f"{len(artefacts)} artefacts give the stored outputs ({Path(taille.__file__).parent})")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
