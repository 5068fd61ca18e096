"""How the server and its models describe themselves, in both protocols."""

from __future__ import annotations

from typing import Any

import taille
from taille.serve.model_host import ModelHost
from taille.serve.repository import Repository
from taille.serve.tensors import metadata

__all__ = ["EXTENSIONS", "model_metadata", "server_metadata"]

EXTENSIONS = ["binary_tensor_data", "model_repository", "model_repository(unload_dependents)"]
PLATFORM = "taille"


def server_metadata() -> dict[str, Any]:
    """Name, version and extensions."""
    return {"name": "taille", "version": taille.__version__, "extensions": EXTENSIONS}


def model_metadata(host: ModelHost, repository: Repository) -> dict[str, Any]:
    """Name, versions, inputs and outputs of a model."""
    return {
        "name": host.name,
        "versions": repository.versions(host.name),
        "platform": PLATFORM,
        "inputs": metadata(host.model.input_spec),
        "outputs": metadata(host.model.output_spec),
    }
