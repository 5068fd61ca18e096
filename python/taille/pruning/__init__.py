"""Pruning: masks over the weights of Linear and Conv2d layers, and winning back what that cost.

`prune.py` holds the steps in order; `options.py` what can be asked for; `patterns.py` the forms of masks; `layers.py`
which layers; `scores.py` what is important; `masks.py` selects; `sensitivity.py` shares the target out among layers;
`reconstruct.py` refits by least squares; `train.py` distils and fine-tunes; `checkpoint.py` goes on after an interrupt;
`work.py` is what the steps share; `model.py` and `report.py` are what comes out.
"""

from taille.pruning.model import PrunedModel
from taille.pruning.prune import prune_model
from taille.pruning.report import LayerShare, PruneReport

__all__ = ["LayerShare", "PruneReport", "PrunedModel", "prune_model"]
