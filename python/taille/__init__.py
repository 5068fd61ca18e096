"""taille: smaller and faster PyTorch models on CPUs, to a contract you state.

Names are imported when they are first used, so `import taille` brings no torch; running an artefact never does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taille import kernels
    from taille.caching import setup_caching
    from taille.cleanup import cleanup_resources
    from taille.compilation import compile_model
    from taille.compiled import CompiledModel, load
    from taille.config import INFERENCE_CONFIG, PERFORMANCE_CONFIG, RESOURCE_CONFIG
    from taille.distillation import DistilledModel, distill_model
    from taille.embedding import get_cmake_dir, get_include
    from taille.errors import (
        ArtefactError,
        CaptureError,
        ClosedError,
        ConstraintError,
        DeadlineError,
        Error,
        IsaError,
        QueueFullError,
        TrainingError,
        TrainingInterrupt,
    )
    from taille.inference import InferenceOptimizer
    from taille.models import BaseMLModel, TensorSpec
    from taille.optimization import ModelOptimizer
    from taille.pruning import PrunedModel, prune_model
    from taille.quantization import quantize_model
    from taille.quantized import QuantizedModel
    from taille.resources import ResourceOptimizer
    from taille.runner import Runner, RunnerFuture
    from taille.torch_model import TorchModel
    from taille.validation import test_optimization, test_resource_usage

__version__ = "0.1.0"

__all__ = [
    "INFERENCE_CONFIG",
    "PERFORMANCE_CONFIG",
    "RESOURCE_CONFIG",
    "ArtefactError",
    "BaseMLModel",
    "CaptureError",
    "ClosedError",
    "CompiledModel",
    "ConstraintError",
    "DeadlineError",
    "DistilledModel",
    "Error",
    "InferenceOptimizer",
    "IsaError",
    "ModelOptimizer",
    "PrunedModel",
    "QuantizedModel",
    "QueueFullError",
    "ResourceOptimizer",
    "Runner",
    "RunnerFuture",
    "TensorSpec",
    "TorchModel",
    "TrainingError",
    "TrainingInterrupt",
    "cleanup_resources",
    "compile_model",
    "distill_model",
    "get_cmake_dir",
    "get_include",
    "kernels",
    "load",
    "prune_model",
    "quantize_model",
    "setup_caching",
    "test_optimization",
    "test_resource_usage",
]

_MODULES = {
    "ArtefactError": "errors",
    "BaseMLModel": "models",
    "CaptureError": "errors",
    "ClosedError": "errors",
    "CompiledModel": "compiled",
    "ConstraintError": "errors",
    "DeadlineError": "errors",
    "DistilledModel": "distillation",
    "Error": "errors",
    "INFERENCE_CONFIG": "config",
    "InferenceOptimizer": "inference",
    "IsaError": "errors",
    "PERFORMANCE_CONFIG": "config",
    "ModelOptimizer": "optimization",
    "PrunedModel": "pruning",
    "QuantizedModel": "quantized",
    "QueueFullError": "errors",
    "RESOURCE_CONFIG": "config",
    "ResourceOptimizer": "resources",
    "Runner": "runner",
    "RunnerFuture": "runner",
    "TensorSpec": "models",
    "TorchModel": "torch_model",
    "TrainingError": "errors",
    "TrainingInterrupt": "errors",
    "cleanup_resources": "cleanup",
    "compile_model": "compilation",
    "distill_model": "distillation",
    "get_cmake_dir": "embedding",
    "get_include": "embedding",
    "load": "compiled",
    "prune_model": "pruning",
    "quantize_model": "quantization",
    "setup_caching": "caching",
    "test_optimization": "validation",
    "test_resource_usage": "validation",
}


def __getattr__(name: str) -> Any:
    """Import the module that holds `name` (PEP 562)."""
    if name == "kernels":
        return importlib.import_module("taille.kernels")
    if name not in _MODULES:
        raise AttributeError(f"module 'taille' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"taille.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
