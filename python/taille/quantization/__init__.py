"""Quantisation after training: calibrate the float32 graph in the native executor, then rewrite it to int8.

`quantize.py` holds the steps in order; `options.py` what can be asked for; `calibration.py` the way of the samples;
`ignore.py` how nodes are named; `mixed.py` the choice per layer; `measure.py` the report of every node.
"""

from taille.quantization.quantize import quantize_model

__all__ = ["quantize_model"]
