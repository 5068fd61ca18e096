"""Measuring models on the native executor. Needs no torch.

`request` checks what is asked for, `quality` and `metrics` say how good outputs are, `turns` times calls, `memory` and
`resident` find the peak memory in a process of its own, and `performance` puts it all together.
"""

from taille.measurement.performance import measure_performance

__all__ = ["measure_performance"]
