"""From an exported program to what is known of its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from taille.pruning import channel_rules_layers, channel_rules_shape  # noqa: F401 - they fill the table
from taille.pruning.channel_walk import Walk

if TYPE_CHECKING:
    from torch import nn

    from taille.capture.export import Exported

__all__ = ["trace_channels"]


def trace_channels(exported: Exported, module: nn.Module) -> Walk:
    """Follow the channels of `module` through its exported program.

    Args:
        exported: of the module; dynamic dimensions may be symbols.
        module: its parameters name the axes.

    Source: the dependencies that Fang et al. 2023 (DepGraph, arXiv:2301.12900) find between layers, here between the
    indices of dimensions, so that concatenation, flattening and heads need no special case in what follows.
    """
    walk = Walk(exported, module)
    walk.run(exported.program.graph)
    return walk
