"""Which kernels there are, and which this CPU gets."""

from __future__ import annotations

from dataclasses import dataclass

from taille import _native

__all__ = ["Variant", "available", "chosen"]


@dataclass(frozen=True)
class Variant:
    """One implementation of a kernel.

    Attributes:
        op: the kernel's name.   variant: the implementation's name, unique within the op.
        level: the CPU level it needs.   chosen: whether it is the one that runs here (TAILLE_ISA included).
    """

    op: str
    variant: str
    level: str
    chosen: bool


def available() -> tuple[Variant, ...]:
    """Every variant of every kernel, best first within an op; "reference" is the specification, for tests."""
    best = {op: chosen(op) for op in dict.fromkeys(op for op, _, _ in _native.kernels.list_kernels())}
    return tuple(Variant(op, name, level, name == best[op]) for op, name, level in _native.kernels.list_kernels())


def chosen(op: str) -> str:
    """The variant of this op that runs here."""
    levels = _native.isa_levels()
    active = levels.index(_native.active_isa())
    return next(
        name for row, name, level in _native.kernels.list_kernels() if row == op and levels.index(level) <= active
    )
