"""The file that training goes on from: tensors by kind, and JSON of the rest. No pickle.

A safetensors file whose tensors are called "kind/name", with the JSON in its metadata: the state, and a key of what
must be the same for the work to go on. An interrupt never leaves half a file.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from taille.files import write_atomically

__all__ = ["CheckpointFile", "Parts", "checksum"]

Parts = dict[str, dict[str, torch.Tensor]]  # kind -> name -> tensor


class CheckpointFile:
    """The file, if there shall be one."""

    def __init__(self, path: str | Path | None, function: str):
        """Check where it would be.

        Args:
            path: of the file; None: there shall be none, and nothing below does anything.
            function: whose it is, "prune_model".

        Raises:
            ValueError: its folder does not exist.
        """
        self.path = None if path is None else Path(path)
        self.function = function
        self.key: dict[str, Any] = {}
        if self.path is not None and not self.path.absolute().parent.is_dir():
            raise ValueError(f"checkpoint is '{self.path}', in a folder that does not exist")

    def load(self) -> tuple[Parts, dict[str, Any]] | None:
        """The tensors and the state; None where there is no file yet.

        Raises:
            ValueError: the file is no checkpoint of this function, or its key is another than `self.key`.
        """
        if self.path is None or not self.path.exists():
            return None
        from safetensors import SafetensorError, safe_open

        parts: Parts = {}
        try:
            with safe_open(str(self.path), framework="pt") as file:
                facts = json.loads((file.metadata() or {})[f"taille.{self.function}"])
                for name in file.keys():  # noqa: SIM118 - no mapping
                    kind, _, rest = name.partition("/")
                    parts.setdefault(kind, {})[rest] = file.get_tensor(name)
            key, state = facts["key"], dict(facts["state"])
            other = [name for name, value in self.key.items() if key.get(name) != value]
        except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"checkpoint '{self.path}' is not one of {self.function}: {error!r}") from None
        if other:
            raise ValueError(
                f"checkpoint '{self.path}' was made with another {', '.join(other)}; wanted the same arguments, or the "
                "path of a file that does not exist yet"
            )
        return parts, state

    def save(self, parts: Mapping[str, Mapping[str, torch.Tensor]], state: Mapping[str, Any]) -> None:
        """Write tensors and state, atomically."""
        if self.path is None:
            return
        from safetensors.torch import save

        tensors = {f"{kind}/{n}": t.detach().clone().contiguous() for kind, p in parts.items() for n, t in p.items()}
        text = json.dumps({"key": self.key, "state": state})
        write_atomically(self.path, save(tensors, metadata={f"taille.{self.function}": text}))

    def remove(self) -> None:
        """The work is done: the file is needed no more."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def checksum(tensors: Mapping[str, torch.Tensor]) -> int:
    """CRC-32 over names and values."""
    crc = 0
    for name, tensor in tensors.items():
        crc = zlib.crc32(name.encode(), crc)
        crc = zlib.crc32(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy(), crc)
    return crc
