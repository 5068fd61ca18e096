"""Measuring taille beside other engines on the same work, for `taille bench`.

`models` has the built-in models, `subject` one of them with its inputs, `contestants` what takes part and how it is
found, `peers_*` one engine each, `timing` the turns, `compare` the whole comparison and `kernels` single kernels.
Nothing here is needed to run a model.
"""
