"""`taille doctor`: what this machine offers and what taille makes of it."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Annotated, Any

import typer

from taille.cli.output import clear_errors, out, print_json, print_table

__all__ = ["doctor"]

PACKAGES = ("numpy", "torch", "safetensors", "typer", "rich", "scikit-learn", "transformers")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Show the CPU and its level, the threads granted and why, versions, and the kernels chosen."""
    with clear_errors():
        facts = examine()
    if as_json:
        print_json(facts)
        return
    forced = facts["taille_isa"] or "not set"
    rows = [
        ("cpu", facts["cpu"]),
        ("level", f"{facts['level']} (of {', '.join(facts['supported_levels'])}; TAILLE_ISA: {forced})"),
        ("threads", f"{facts['threads']}: {facts['threads_why']}"),
        ("versions", ", ".join(f"{k} {v or 'not installed'}" for k, v in facts["versions"].items())),
    ]
    print_table("taille doctor", ("", "value"), rows)
    chosen = [k for k in facts["kernels"] if k["chosen"]]
    print_table("kernels chosen", ("op", "kernel", "level"), [(k["op"], k["name"], k["isa"]) for k in chosen])
    out.print()


def examine() -> dict[str, Any]:
    """The facts, as JSON-compatible values."""
    import taille
    from taille import _native

    threads, why = _native.granted_threads()
    versions: dict[str, str | None] = {"taille": taille.__version__}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "cpu": _native.cpu_name(), "level": _native.active_isa(), "best_level": _native.detect_isa(),
        "supported_levels": _native.supported_isas(), "taille_isa": os.environ.get("TAILLE_ISA"), "threads": threads,
        "threads_why": why, "versions": versions, "kernels": kernels(_native),
    }  # fmt: skip


def kernels(native: Any) -> list[dict[str, Any]]:
    """Every kernel variant: op, name, level, and whether it is the one chosen at the active level."""
    levels = native.isa_levels()
    usable = levels.index(native.active_isa())
    rows, seen = [], set()
    for op, name, isa in native.kernels.list_kernels():  # best first for each op
        chosen = op not in seen and levels.index(isa) <= usable
        if chosen:
            seen.add(op)
        rows.append({"op": op, "name": name, "isa": isa, "chosen": chosen})
    return rows
