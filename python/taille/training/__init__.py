"""What trains: the parts that pruning's recovery and distillation share.

`data.py` gives batches as tensors, streaming; `losses.py` compares two networks; `loop.py` holds what a training loop
must put back; `checkpoint.py` is the file to go on from after an interrupt.
"""
