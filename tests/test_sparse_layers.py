"""Layers whose int8 weights lost blocks: the bits of the dense kernel, the faster kernel, smaller files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import taille
from taille import _native


def prune_blocks(weight: torch.Tensor, kept: float, block_rows: int, seed: int = 0) -> None:
    """Zeroes blocks of block_rows outputs by 4 inputs at random, channels last."""
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.rand(weight.shape[0] // block_rows, weight[0].numel() // 4, generator=generator) < kept
    mask = blocks.repeat_interleave(block_rows, 0).repeat_interleave(4, 1)
    if weight.dim() == 4:
        out, channels, height, width = weight.shape
        mask = mask.reshape(out, height, width, channels).permute(0, 3, 1, 2)
    with torch.no_grad():
        weight *= mask


class Layers(nn.Module):
    def __init__(self, kept: float, block_rows: int):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 32, 3)
        self.a = nn.Conv2d(32, 64, 3, padding=1, stride=2)
        self.b = nn.Conv2d(64, 64, 1)
        self.c = nn.Linear(64, 512)
        self.d = nn.Linear(512, 64)
        for i, layer in enumerate((self.a, self.b, self.c, self.d)):
            prune_blocks(layer.weight, kept, block_rows, i)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.a(torch.relu(self.stem(x))))
        y = torch.relu(self.b(y) + y).mean((2, 3))
        return self.d(torch.nn.functional.gelu(self.c(y)))


def quantized(kept: float, block_rows: int = 4) -> taille.QuantizedModel:
    data = [torch.randn(8, 3, 24, 24, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    model = taille.TorchModel(Layers(kept, block_rows).eval(), (data[0],), calibration_data=data)
    return taille.quantize_model(model, "int8")


@pytest.mark.parametrize("block_rows", [1, 2, 4])
@pytest.mark.parametrize("kept", [0.25, 0.05, 0.0])
def test_same_bits_as_the_dense_kernels(kept, block_rows) -> None:
    graph = quantized(kept, block_rows).graph
    rng = np.random.default_rng(0)
    for batch in (1, 3, 70):
        x = {graph.inputs[0][0]: rng.standard_normal((batch, 3, 24, 24)).astype(np.float32)}
        (wanted,) = _native.Model(graph, 1, "portable").run(x)  # whose dense kernel is the faster
        for isa in _native.supported_isas():
            for threads in (1, 2):
                (found,) = _native.Model(graph, threads, isa).run(x)
                np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32), err_msg=f"{isa} {threads}")


def kernels_of(model: taille.QuantizedModel) -> dict[str, str]:
    x = np.zeros((1, 3, 24, 24), np.float32)
    return {row.name: row.kernel for row in taille.compile_model(model, threads=1).profile(x).rows}


def test_profile_says_which_kernel_and_by_how_much() -> None:
    if _native.active_isa() == "portable":
        pytest.skip("the portable level has no sparse kernel of its own")
    sparse, dense = kernels_of(quantized(0.05)), kernels_of(quantized(1.0))
    for name in ("a", "c", "d"):  # a twentieth of the work: no clock is that far off
        assert "blocks of 4x4" in sparse[name]
        assert "times as fast as dense" in sparse[name]
        assert "blocks" not in dense[name]
