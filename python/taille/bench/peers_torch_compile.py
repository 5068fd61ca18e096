"""torch.compile."""

from __future__ import annotations

from taille.bench.peers_torch import TorchEager
from taille.bench.subject import Subject, quiet

__all__ = ["CONTESTANTS", "TorchCompile"]


class TorchCompile(TorchEager):
    """torch.compile with frozen weights; compiles with the first call, which needs a C++ compiler."""

    name = "torch.compile float32"

    def prepare(self, subject: Subject, threads: int) -> None:
        """Compile for exactly these shapes."""
        import torch
        import torch._inductor.config as inductor

        super().prepare(subject, threads)
        torch._dynamo.reset()
        self._module = torch.compile(self._module, dynamic=False)
        with quiet(), inductor.patch(freezing=True):
            self.run(subject.inputs)


CONTESTANTS = (TorchCompile,)
