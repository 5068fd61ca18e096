"""Pruning: weights that matter little are removed, one by one, in blocks, or as whole channels."""
