"""Pruning: weights that matter little are removed, one by one, in blocks, or as whole channels.

`prune.py` holds the steps in order; `options.py` what can be asked for; `patterns.py` the forms of masks; `layers.py`
which layers; `scores.py` what is important; `masks.py` selects; `sensitivity.py` shares the target out among layers;
`reconstruct.py` refits by least squares; `train.py` distils and fine-tunes; `checkpoint.py` goes on after an interrupt;
`permute.py` puts channels into an order that blocks lose less in, which `order_search.py` finds;
`work.py` is what the steps share; `model.py` and `report.py` are what comes out. `channels.py` removes whole channels:
`channel_rules.py` says how each op ties them together, `shape_manifest.py` stores the smaller module.
"""

from taille.pruning.model import PrunedModel
from taille.pruning.prune import prune_model
from taille.pruning.report import ChannelOrder, LayerShare, PruneReport

__all__ = ["ChannelOrder", "LayerShare", "PruneReport", "PrunedModel", "prune_model"]
