"""Finding a model named on the command line: FILE.py:function, where the function gives a TorchModel."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from taille.models import BaseMLModel, check_model

__all__ = ["call_source", "is_source", "load_source"]


def is_source(text: str) -> bool:
    """Whether the argument names a function in a Python file rather than an artefact."""
    path, colon, name = text.rpartition(":")
    return bool(colon) and path.endswith(".py") and name.isidentifier()


def load_source(text: str) -> BaseMLModel:
    """The model that FILE.py:function gives.

    Raises:
        ValueError, FileNotFoundError: as `call_source`.   TypeError: the function gives no taille model.
    """
    return check_model(call_source(text), f"the command (what {text.rpartition(':')[2]}() gives)")


def call_source(text: str) -> Any:
    """Call the function that FILE.py:function names.

    Raises:
        ValueError: the text has another form, or the file has no such function.
        FileNotFoundError: there is no such file.
    """
    if not is_source(text):
        raise ValueError(f"'{text}' is not of the form FILE.py:function, where the function gives a taille.TorchModel")
    path_text, _, name = text.rpartition(":")
    path = Path(path_text).resolve()
    if not path.exists():
        raise FileNotFoundError(f"no file {path_text}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path_text} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
        if not callable(function):
            raise ValueError(f"{path_text} has no function '{name}'")
        return function()
    finally:
        sys.path.remove(str(path.parent))
