"""From a bound on memory or time of the machine to a model that keeps it."""

from taille.resources.optimizer import ResourceOptimizer

__all__ = ["ResourceOptimizer"]
