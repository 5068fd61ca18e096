"""`InferenceOptimizer`: how a model is run best under load on this machine. Needs no torch, but to change a precision.

`load` keeps requests in flight and times them, `tuning` searches what to run them with, `precision` makes the model
faster where that is not enough, and `optimizer` puts it together.
"""

from taille.inference.optimizer import InferenceOptimizer

__all__ = ["InferenceOptimizer"]
