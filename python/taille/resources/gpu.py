"""A torch model on a GPU: its forms, from the plainest to the dearest, and the fastest of those that keep the bounds.

Forms differ in dtype, in whether torch.compile makes their kernels, and in whether linear weights are 2:4 (two of four
are zero, which the GPU's sparse units use). Each is built, timed as it will be called, and judged by `eval_fn`.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from taille.arrays import check_arrays, is_tensor, name_inputs
from taille.config import format_size
from taille.errors import ConstraintError
from taille.measurement.turns import take_turns
from taille.models import BaseMLModel, TensorSpec, check_model
from taille.optimization.contract import DEFAULT_DROP
from taille.optimization.evaluation import sample_of
from taille.optimization.workshop import quality
from taille.torch_model import TorchModel, arrange

__all__ = ["Form", "GpuModel", "Trial", "check_cuda", "choose", "forms_for", "optimize_on_gpu"]

log = logging.getLogger(__name__)

SECONDS = 0.5  # of timing a form
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SPARSE_SHARE = 0.5  # of the weights that remain in 2:4


@dataclass(frozen=True)
class Form:
    """One way to run a model on a GPU.

    Attributes:
        dtype: "float32", "float16" or "bfloat16": of weights and activations.   compiled: by torch.compile.
        sparse: linear weights are 2:4.
    """

    dtype: str
    compiled: bool = False
    sparse: bool = False

    @property
    def key(self) -> str:
        """The form in words."""
        return " ".join([self.dtype, *["2:4"] * self.sparse, *["compiled"] * self.compiled])


@dataclass(frozen=True)
class Trial:
    """What was measured of a form.

    Attributes:
        seconds: for a batch, copies to and from the GPU included.   memory_bytes: most that it held on the GPU.
        accuracy: what `eval_fn` says; None where there is none.   error: why there is nothing.
    """

    seconds: float = 0.0
    memory_bytes: int = 0
    accuracy: float | None = None
    error: str = ""


class GpuModel(BaseMLModel):
    """A `TorchModel` in one of its forms, on a device."""

    def __init__(self, source: TorchModel, form: Form, device: torch.device, found: Mapping[str, Any] | None = None):
        """Put a copy of the module there.

        Args:
            source: with 2:4 weights where the form is sparse.
            form: see `Form`.
            device: where it runs.
            found: what the metadata says of the search.
        """
        self.source, self.form, self.device = source, form, device
        self._found = dict(found or {})
        self._dtype = DTYPES[form.dtype]
        module = copy.deepcopy(source.module).eval().to(device=device, dtype=self._dtype)
        self.sparse_layers = to_semi_structured(module) if form.sparse else ()
        self._run: Callable[..., Any] = torch.compile(module) if form.compiled else module

    def predict(self, inputs: Any) -> Any:
        """Run on one batch; see `BaseMLModel.predict`. Outputs come back to the CPU, in float32."""
        named = name_inputs(inputs, list(self.source.examples))
        kinds = {is_tensor(v) for v in named.values()}
        if len(kinds) > 1:
            raise TypeError("inputs mix numpy arrays and torch tensors; wanted one kind")
        tensors = {n: v if is_tensor(v) else torch.as_tensor(v) for n, v in named.items()}
        check_arrays({n: t.detach().cpu().numpy() for n, t in tensors.items()}, self.input_spec, {})
        there = {n: self._there(t) for n, t in tensors.items()}
        with torch.inference_mode():
            outputs = self._run(**there) if self.source.by_keyword else self._run(*there.values())
        return arrange(nested(outputs, back), as_numpy=kinds == {False})

    def _there(self, tensor: torch.Tensor) -> torch.Tensor:
        moved = tensor.to(self.device)
        return moved.to(self._dtype) if moved.is_floating_point() else moved

    @property
    def input_spec(self) -> tuple[TensorSpec, ...]:
        """The inputs, in order."""
        return self.source.input_spec

    @property
    def output_spec(self) -> tuple[TensorSpec, ...]:
        """The outputs, in order."""
        return self.source.output_spec

    @property
    def size_bytes(self) -> int:
        """Bytes of the artefact that `save` writes."""
        return self.source.size_bytes

    @property
    def parameter_count(self) -> int:
        """How many numbers the module's parameters hold."""
        return self.source.parameter_count

    @property
    def sparsity(self) -> float:
        """The share of the weights of two or more dimensions that are zero."""
        return self.source.sparsity

    @property
    def metadata(self) -> dict[str, Any]:
        """The source's, with the form, the device, and what was measured."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return {**self.source.metadata, "form": asdict(self.form), "device": name, **copy.deepcopy(self._found)}

    def save(self, path: str | Path) -> int:
        """Write the weights as a float32 artefact, which `taille.load` runs on a CPU; gives the bytes written."""
        return self.source.save(path)

    def __repr__(self) -> str:
        return f"<GpuModel {self.source.name}: {self.form.key} on {self.device}>"


def nested(outputs: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The module's outputs, each tensor changed."""
    if isinstance(outputs, torch.Tensor):
        return change(outputs)
    if isinstance(outputs, Mapping):
        return {k: nested(v, change) for k, v in outputs.items()}
    return tuple(nested(v, change) for v in outputs) if isinstance(outputs, Sequence) else outputs


def back(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor as the native model gives it."""
    here = tensor.detach().cpu()
    return here.float() if here.dtype in (torch.float16, torch.bfloat16) else here


def to_semi_structured(module: nn.Module) -> tuple[str, ...]:
    """Hand linear weights that are 2:4 to the GPU's sparse units; the names of those that it takes."""
    names = []
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear) and is_two_of_four(layer.weight):
            try:
                sparse = torch.sparse.to_sparse_semi_structured(layer.weight.detach())
            except (RuntimeError, ValueError) as error:  # a shape or dtype that they do not take
                log.info("%s stays dense: %s", name, error)
                continue
            layer.weight = nn.Parameter(sparse, requires_grad=False)
            names.append(name)
    if not names:
        raise ValueError("no linear layer has a 2:4 weight that the GPU's sparse units take")
    return tuple(names)


def is_two_of_four(weight: torch.Tensor) -> bool:
    """Whether of each four neighbours in a row at most two are not zero."""
    if weight.shape[1] % 4:
        return False
    return int((weight.detach().reshape(-1, 4) != 0).sum(1).max()) <= 2


def check_cuda() -> torch.device:
    """The GPU.

    Raises:
        RuntimeError: there is none for torch; the message says what is missing.
    """
    if torch.version.cuda is None:
        raise RuntimeError(f"device='cuda' needs a build of torch with CUDA; torch {torch.__version__} has none "
                           "(https://pytorch.org/get-started says how to install one)")  # fmt: skip
    if not torch.cuda.is_available():
        raise RuntimeError("device='cuda' needs an NVIDIA GPU and its driver; torch finds none "
                           "(`nvidia-smi` shows what there is)")  # fmt: skip
    return torch.device("cuda", torch.cuda.current_device())


def forms_for(model: TorchModel, *, bfloat16: bool) -> list[Form]:
    """The forms to try, the quickest to build first; weights only go where somebody would notice what that costs."""
    halves = ["float16", *["bfloat16"] * bfloat16]
    forms = [Form("float32"), *(Form(h) for h in halves), *(Form(h, compiled=True) for h in ("float32", *halves))]
    if model.eval_fn is not None and model.calibration_data is not None:
        forms += [Form(h, compiled, sparse=True) for compiled in (False, True) for h in halves]
    return forms


def choose(
    forms: Sequence[Form], attempt: Callable[[Form], Trial], target: float, memory: int, deadline: float
) -> tuple[Form, dict[str, Trial]]:
    """The fastest form within the bounds, and what was measured of all that were tried.

    Args:
        forms: to try, float32 first: quality may fall 0.01 below its.
        attempt: builds and measures a form.
        target: most seconds for a batch.
        memory: most bytes on the GPU.
        deadline: `time.monotonic` after which no other form is tried.

    Raises:
        taille.ConstraintError: none keeps the bounds; the message says how near they come.
    """
    trials: dict[str, Trial] = {}
    for form in forms:
        if trials and time.monotonic() > deadline:
            log.info("the time budget is used up before %s", form.key)
            break
        trials[form.key] = attempt(form)
        log.info("%s: %s", form.key, trials[form.key])
    before = trials[forms[0].key].accuracy
    judged = {form: trials[form.key] for form in forms if form.key in trials and not trials[form.key].error}
    good = {f: t for f, t in judged.items() if before is None or (t.accuracy or 0.0) >= before - DEFAULT_DROP - 1e-12}
    fitting = {f: t for f, t in good.items() if t.memory_bytes <= memory}
    best = min(fitting, key=lambda f: fitting[f].seconds, default=None)
    if best is not None and fitting[best].seconds <= target:
        return best, trials
    rows = {key: {"key": key, "metrics": asdict(trial)} for key, trial in trials.items()}
    message = shortfall(trials, good, best, target, memory)
    raise ConstraintError(message, front=[*rows.values()], nearest=rows[best.key] if best is not None else None)


def shortfall(
    trials: Mapping[str, Trial], good: Mapping[Form, Trial], best: Form | None, target: float, memory: int
) -> str:
    """What the error says."""
    if best is not None:
        return (f"target_latency is {target:g} s; the fastest form on the GPU, {best.key}, takes "
                f"{good[best].seconds:.3g} s for a batch")  # fmt: skip
    if good:
        least = min(good, key=lambda f: good[f].memory_bytes)
        return (f"compute.gpu_memory is {format_size(memory)}; {least.key}, which needs least, takes "
                f"{format_size(good[least].memory_bytes)}")  # fmt: skip
    failed = next(((key, trial.error) for key, trial in trials.items() if trial.error), None)
    return f"no form could be run on the GPU; {failed[0]}: {failed[1]}" if failed else "every form loses too much"


def optimize_on_gpu(
    model: BaseMLModel, target: float, batch_size: int, memory: int, time_budget_s: float
) -> GpuModel:  # fmt: skip
    """See `ResourceOptimizer.optimize_compute`; `memory` in bytes."""
    model = check_model(model, "optimize_compute")
    if not isinstance(model, TorchModel):
        raise TypeError(f"optimize_compute takes a TorchModel, not {type(model).__name__}")
    device = check_cuda()
    deadline = time.monotonic() + time_budget_s
    sample = sample_of(model, batch_size)
    pruned: dict[str, TorchModel] = {}

    def build(form: Form, found: Mapping[str, Any] | None = None) -> GpuModel:
        return GpuModel(two_of_four(model, pruned) if form.sparse else model, form, device, found)

    def attempt(form: Form) -> Trial:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        try:
            made = build(form)
            (times,) = take_turns([partial(made.predict, sample)], SECONDS)
            peak = torch.cuda.max_memory_allocated(device) - before
            accuracy = quality(model, made) if model.eval_fn is not None else None
        except (RuntimeError, ValueError, TypeError) as error:  # of kernels that do not exist, or of too little memory
            return Trial(error=f"{type(error).__name__}: {error}"[:500])
        return Trial(times.percentile(50), peak, accuracy)

    forms = forms_for(model, bfloat16=torch.cuda.is_bf16_supported())
    best, trials = choose(forms, attempt, target, memory, deadline)
    found = {"chosen": best.key, "target_seconds": target, "candidates": {k: asdict(t) for k, t in trials.items()}}
    return build(best, {"search": found})


def two_of_four(model: TorchModel, made: dict[str, TorchModel]) -> TorchModel:
    """The model with half of its weights as 2:4; made once."""
    from taille.pruning import prune_model

    if "2:4" not in made:
        made["2:4"] = prune_model(model, SPARSE_SHARE, "structured", pattern="2:4")
    return made["2:4"]
