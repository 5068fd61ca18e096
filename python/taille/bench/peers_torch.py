"""torch, eager."""

from __future__ import annotations

from typing import Any

from taille.arrays import Array
from taille.bench.subject import Subject, flat
from taille.samples import Feed

__all__ = ["CONTESTANTS", "TorchEager"]


class TorchEager:
    """torch as a careful user runs it: eval mode, inference mode."""

    name = "torch float32"
    precision = "float32"
    packages: tuple[str, ...] = ("torch",)
    note = ""
    size_bytes = 0

    def unsuited(self, subject: Subject) -> str:  # noqa: ARG002 - of the protocol
        """Takes part with every model."""
        return ""

    def prepare(self, subject: Subject, threads: int) -> None:
        """Set torch's threads."""
        import torch

        torch.set_num_threads(threads)
        self._module: Any = subject.model.module.eval()
        self._by_keyword = subject.model.by_keyword
        self.size_bytes = sum(t.numel() * t.element_size() for t in self._module.state_dict().values())

    def run(self, inputs: Feed) -> list[Array]:
        """One call of the module."""
        import torch

        tensors = {n: torch.from_numpy(a) for n, a in inputs.items()}
        with torch.inference_mode():
            outputs = self._module(**tensors) if self._by_keyword else self._module(*tensors.values())
        given: list[Any] = flat(outputs)
        return [t.numpy() for t in given]


CONTESTANTS = (TorchEager,)
