"""Whether a student can learn from a teacher: both are run on the example inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from taille.distillation.features import Watch
from taille.distillation.options import Options, nearest
from taille.pruning.layers import call
from taille.torch_model import TorchModel, arrange, eval_mode
from taille.training.data import tensors_in

__all__ = ["form_of", "run_both"]


def run_both(teacher: TorchModel, module: nn.Module, options: Options) -> tuple[Any, Watch, Watch]:
    """The teacher's outputs, and what the watched modules of teacher and student gave, on the example inputs.

    Raises:
        ValueError: the teacher gives NaN; the student does not run, or gives other shapes, dtypes or another structure
            than the teacher; a name in `features` that does not exist.
    """
    watches = []
    for who, root, at in (("teacher", teacher.module, 0), ("student", module, 1)):
        names = [pair[at] for pair in options.features]
        known = [n for n, _ in root.named_modules() if n]
        for name in names:
            if name not in known:
                raise ValueError(f"features: the {who} has no module {name!r}; {nearest(name, known)}")
        watches.append(Watch(names))
    wanted = run(teacher, teacher.module, watches[0])
    if not all(bool(value.isfinite().all()) for value in tensors_in(wanted)):
        raise ValueError(f"the teacher, {teacher.name}, gives NaN or infinite values on its example inputs")
    try:
        given = run(teacher, module, watches[1])
    except Exception as error:
        raise ValueError(
            f"the student does not run on the teacher's example inputs ({'; '.join(map(str, teacher.input_spec))}): "
            f"{type(error).__name__}: {error}"
        ) from error
    if form_of(given) != form_of(wanted):
        raise ValueError(f"the student gives {form_of(given)}; the teacher gives {form_of(wanted)}: wanted the same")
    return wanted, watches[0], watches[1]


def run(model: TorchModel, module: nn.Module, watch: Watch) -> Any:
    """The arranged outputs of a module on the model's example inputs."""
    with eval_mode(module), torch.no_grad(), watch.on(module):
        return arrange(call(model, module, model.examples), as_numpy=False)


def form_of(outputs: Any) -> str:
    """Structure, dtypes and shapes of outputs, as text."""
    if isinstance(outputs, torch.Tensor):
        return f"{str(outputs.dtype).removeprefix('torch.')}{list(outputs.shape)}"
    if isinstance(outputs, dict):
        return "{" + ", ".join(f"{k}: {form_of(v)}" for k, v in outputs.items()) + "}"
    return "(" + ", ".join(map(form_of, outputs)) + ")"
