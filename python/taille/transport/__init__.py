"""Artefacts on their way: packed for storage, and as the difference from one that is there already. Needs no torch.

`records` has the format of both, `encoding` how bytes get fewer, `layout` where an artefact's tensors lie, `shipping`
the functions on files.
"""

from taille.transport.shipping import Delta, Packed, apply_delta, make_delta, pack, unpack

__all__ = ["Delta", "Packed", "apply_delta", "make_delta", "pack", "unpack"]
