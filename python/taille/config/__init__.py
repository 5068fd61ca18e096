"""Settings: their defaults, what each may be, and where they come from. Needs neither torch nor numpy.

`sections` lists the settings, `checks` what each may be, `sizes` reads sizes, `resolve` joins argument, file and
environment.
"""

from taille.config.resolve import INFERENCE_CONFIG, PERFORMANCE_CONFIG, RESOURCE_CONFIG, resolve
from taille.config.sections import InferenceConfig, PerformanceConfig, ResourceConfig
from taille.config.sizes import format_size, parse_size, short_size

__all__ = [
    "INFERENCE_CONFIG",
    "PERFORMANCE_CONFIG",
    "RESOURCE_CONFIG",
    "InferenceConfig",
    "PerformanceConfig",
    "ResourceConfig",
    "format_size",
    "parse_size",
    "resolve",
    "short_size",
]
