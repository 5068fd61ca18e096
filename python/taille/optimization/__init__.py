"""From a contract to the fastest model that keeps it."""

from taille.optimization.optimizer import ModelOptimizer

__all__ = ["ModelOptimizer"]
