"""The lines that make the model again: Python and shell, ready to be copied."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields

from taille.optimization.contract import Contract
from taille.report.findings import Findings
from taille.report.markup import Markup, element

__all__ = ["command", "python_lines", "reproduce"]

OPTIONS = {"time_budget_s": "time-budget"}  # constraints that the command line calls otherwise


def reproduce(findings: Findings) -> Markup:
    """The part of the page."""
    return element(
        "section",
        element("h2", "Do it again"),
        element("p", "With the same model, data and seed; latencies are of the machine above. In Python:"),
        block(python_lines(findings), "Python"),
        element("p", "Or on the command line:"),
        block(command(findings), "Commands"),
    )


def block(text: str, what: str) -> Markup:
    """Lines of code."""
    return element("pre", element("code", text), tabindex="0", role="region", aria_label=what)


def file_name(findings: Findings) -> str:
    """A name for the artefact: the model's, without what a file's name or a shell could stumble on."""
    return (re.sub(r"[^A-Za-z0-9_.]+", "-", findings.name)[:60].strip("-.") or "model") + ".safetensors"


def asked(contract: Contract) -> dict[str, object]:
    """The constraints that are not as they are by default."""
    values = {f.name: getattr(contract, f.name) for f in fields(contract)}
    return {f.name: values[f.name] for f in fields(contract) if values[f.name] != f.default}


def python_lines(findings: Findings) -> str:
    """A search with the same contract."""
    constraints = "".join(f"    {key!r}: {value!r},\n" for key, value in asked(findings.contract).items())
    seed = f", seed={findings.seed}" if findings.seed else ""
    return (
        "import taille\n"
        "from taille.optimization import ModelOptimizer\n\n"
        "model = taille.TorchModel(...)  # your module, with eval_fn, calibration_data and train_data\n"
        f"optimized, metrics = ModelOptimizer().optimize_model(model, {{\n{constraints}}}{seed})\n"
        f'optimized.save("{file_name(findings)}")'
    )


def command(findings: Findings) -> str:
    """The same on the command line."""
    words = ["taille", "optimize", "FILE.py:function", "-o", file_name(findings)]
    for key, value in asked(findings.contract).items():
        text = ",".join(value) if isinstance(value, tuple) else str(value)
        words += [f"--{OPTIONS.get(key, key).replace('_', '-')}", text]
    if findings.seed:
        words += ["--seed", str(findings.seed)]
    return f"{shlex.join(words)}\ntaille report {file_name(findings)} -o report.html"
