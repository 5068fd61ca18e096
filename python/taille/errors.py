"""The exceptions taille raises beyond Python's own; each derives from `Error`."""

from __future__ import annotations

__all__ = ["ArtefactError", "CaptureError", "Error", "IsaError"]


class Error(Exception):
    """The base of every exception that is taille's own."""


class ArtefactError(Error, ValueError):
    """The file is not a taille artefact, or it is damaged, hostile or newer than this version."""


class IsaError(Error, ValueError):
    """The CPU level asked for (by TAILLE_ISA or an argument) does not exist, or this CPU lacks it."""


class CaptureError(Error):
    """The model cannot be captured; the message lists every unsupported node, with its shapes."""
