"""Layers whose int8 weights lost blocks: the bits of the dense kernel, the faster kernel, smaller files."""

from __future__ import annotations

import resource
from pathlib import Path

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


@pytest.mark.parametrize("block_rows", [1, 2, 4, 16])
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
    if _native.active_isa() == "amx":
        pytest.skip("on AMX a dense product of this size may be the faster one, which the profile then says")
    dense = kernels_of(quantized(1.0))
    for block_rows in (4, 16):
        sparse = kernels_of(quantized(0.05, block_rows))
        for name in ("a", "c", "d"):  # a twentieth of the work: no clock is that far off
            assert f"blocks of {block_rows}x4" in sparse[name]
            assert "times as fast as dense" in sparse[name]
            assert "blocks" not in dense[name]


class Skewed(nn.Module):
    """Linear layers whose first quarter of outputs alone has weights that are not zero."""

    def __init__(self, block_rows: int):
        super().__init__()
        torch.manual_seed(2)
        self.a, self.b = nn.Linear(512, 1024), nn.Linear(1024, 400)
        for i, layer in enumerate((self.a, self.b)):
            prune_blocks(layer.weight, 0.4, block_rows, i)
            with torch.no_grad():
                layer.weight[layer.weight.shape[0] // 4 :] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(x)))


@pytest.mark.parametrize("block_rows", [4, 16])
def test_shared_out_by_blocks(block_rows) -> None:
    data = [torch.randn(64, 512, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    model = taille.TorchModel(Skewed(block_rows).eval(), (data[0],), calibration_data=data)
    graph = taille.quantize_model(model, "int8").graph
    for rows in (1, 4, 40):  # of which the weights, by columns, are shared out
        x = {graph.inputs[0][0]: np.random.default_rng(rows).standard_normal((rows, 512)).astype(np.float32)}
        (wanted,) = _native.Model(graph, 1, "portable").run(x)
        for threads in (1, 2, 3):
            (found,) = _native.Model(graph, threads).run(x)
            np.testing.assert_array_equal(found.view(np.uint32), wanted.view(np.uint32), err_msg=f"{rows} {threads}")


def resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no resident size to read")
def test_the_dense_form_is_not_kept() -> None:
    if _native.active_isa() == "portable":
        pytest.skip("the portable level has no sparse kernel of its own")
    layer = nn.Linear(4096, 4096)
    prune_blocks(layer.weight, 0.02, 16)
    data = [torch.randn(2, 4096)]
    model = taille.TorchModel(nn.Sequential(layer).eval(), (data[0],), calibration_data=data)
    graph = taille.quantize_model(model, "int8").graph
    _native.Model(graph, 1)
    before = resident_bytes()
    held = [_native.Model(graph, 1) for _ in range(4)]
    assert resident_bytes() - before < len(held) * 8 * 2**20  # dense: 16 MiB each
