"""How important each weight is.

"magnitude": w^2. "wanda": w^2 times the mean square of the input channel it reads (Sun et al. 2023, arXiv:2306.11695,
squared, so that the scores of a block add up). "fisher": w^2 times the mean square of its gradient over single samples,
which is twice the diagonal second-order estimate of what taking it away costs (Theis et al. 2018, arXiv:1801.05787).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from taille.arrays import Array
from taille.pruning.layers import Layer, call, hooked, weight_rows
from taille.pruning.options import Options
from taille.torch_model import eval_mode
from taille.training.data import Batch, Batches

if TYPE_CHECKING:
    from taille.torch_model import TorchModel

__all__ = ["importance", "score_layers"]

FISHER_SAMPLES = 128  # one backward pass each


def importance(model: TorchModel, layers: Sequence[Layer], options: Options) -> dict[str, Array]:
    """What each squared weight is multiplied with: by layer, [1, k] or [outputs, k]; empty for "magnitude"."""
    if options.score == "wanda":
        return input_energy(model, layers, options)
    return gradient_energy(model, layers, options) if options.score == "fisher" else {}


def score_layers(module: nn.Module, layers: Sequence[Layer], factors: Mapping[str, Array]) -> dict[str, Array]:
    """The scores of the weights that `module` has now: by layer, float64 [outputs, k].

    Raises:
        ValueError: a weight is NaN or infinite.
    """
    scores = {}
    for layer in layers:
        rows = weight_rows(module.get_submodule(layer.name).weight.detach()).numpy()
        if not np.isfinite(rows).all():
            raise ValueError(f"the weight of '{layer.name}' holds NaN or infinite values; wanted finite ones")
        scores[layer.name] = np.square(rows, dtype=np.float64) * factors.get(layer.name, 1.0)
    return scores


def input_energy(model: TorchModel, layers: Sequence[Layer], options: Options) -> dict[str, Array]:
    """The mean square of each input channel over the calibration data, [1, k], in one pass."""
    sums: dict[str, torch.Tensor] = {}
    counts = dict.fromkeys((layer.name for layer in layers), 0)

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], _: Any) -> None:
            given = args[0].flatten(2).transpose(1, 2) if isinstance(module, nn.Conv2d) else now[0].real(args[0])
            given = given.reshape(-1, given.shape[-1])
            sums[name] = sums.get(name, 0) + given.square().sum(0, dtype=torch.float64)
            counts[name] += len(given)

        return hook

    done = 0
    now: list[Batch] = []
    with eval_mode(model.module), torch.no_grad(), hooked(model.module, {n: note(n) for n in counts}):
        for batch in Batches(model, "calibration", options.calibration_samples):
            now[:] = [batch]
            call(model, model.module, batch.inputs)
            done += batch.samples
            if options.progress:
                options.progress("scoring", done, max(done, options.calibration_samples))
    if options.progress:
        options.progress("scoring", done, done)
    energies = {}
    for layer in layers:
        taps = layer.weights // (layer.shape[0] * layer.shape[1])
        energy = (sums[layer.name] / counts[layer.name]).numpy()
        if not np.isfinite(energy).all():
            raise ValueError(f"what '{layer.name}' reads on the calibration data holds NaN or infinite values")
        energies[layer.name] = np.tile(energy, taps)[None]
    return energies


def gradient_energy(model: TorchModel, layers: Sequence[Layer], options: Options) -> dict[str, Array]:
    """The mean square of each weight's gradient of the loss over single training samples, [outputs, k]."""
    assert model.loss_fn is not None  # the options were settled
    weights = {layer.name: model.module.get_submodule(layer.name).weight for layer in layers}
    frozen = [name for name, weight in weights.items() if not weight.requires_grad]
    if frozen:
        raise ValueError(f'score="fisher" needs gradients; those of {", ".join(frozen)} are off: .requires_grad_(True)')
    sums = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in weights.items()}
    done = 0
    with eval_mode(model.module), torch.enable_grad():
        for batch in Batches(model, "train", FISHER_SAMPLES):
            for i in range(batch.samples):
                one = batch.part(i, i + 1)
                loss = model.loss_fn(call(model, model.module, one.inputs), *one.targets)
                # Not backward(): the user's module keeps whatever gradients it has.
                for name, gradient in zip(sums, torch.autograd.grad(loss, list(weights.values())), strict=True):
                    sums[name] += gradient.square()
                done += 1
                if options.progress:
                    options.progress("scoring", done, FISHER_SAMPLES)
    if options.progress:
        options.progress("scoring", done, done)
    return {name: (weight_rows(total) / done).numpy() for name, total in sums.items()}
