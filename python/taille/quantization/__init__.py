"""Quantisation after training: to int8, calibrated in the native executor, or weights to 16 bits.

`quantize.py` holds the steps in order; `prepare.py` what is measured before layers are chosen; `options.py` what can be
asked for; `calibration.py` the way of the samples; `ignore.py` how nodes are named; `mixed.py` the choice per layer;
`measure.py` the report of every node.
"""

from taille.quantization.quantize import quantize_model

__all__ = ["quantize_model"]
