"""Distillation: a small model learns from the outputs of a large one, its teacher.

`distill.py` holds the steps in order; `options.py` what can be asked for; `student.py` and `depth.py` make a student of
the teacher; `check.py` compares the two before any training; `task.py` tells what the outputs are; `losses.py` and
`features.py` are what is minimised; `lessons.py` the data, some of it held out; `train.py` the loop; `state.py` goes on
after an interrupt; `model.py` is what comes out.
"""

from taille.distillation.distill import distill_model
from taille.distillation.model import DistilledModel
from taille.distillation.train import Epoch

__all__ = ["DistilledModel", "Epoch", "distill_model"]
