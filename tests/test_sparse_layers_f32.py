"""Layers whose float32 weights lost blocks: the results of the dense kernel, the faster kernel, smaller files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import taille
from taille import _native
from test_sparse_layers import prune_blocks


class Convolutions(nn.Module):
    def __init__(self, kept: float, block_rows: int):
        super().__init__()
        torch.manual_seed(1)
        self.a = nn.Conv2d(32, 64, 3, padding=1, stride=2)
        self.b = nn.Conv2d(64, 64, 1)
        self.c = nn.Linear(64, 512)
        for i, layer in enumerate((self.a, self.b, self.c)):
            prune_blocks(layer.weight, kept, block_rows, i)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.a(x))
        y = torch.relu(self.b(y) + y)
        return self.c(y.permute(0, 2, 3, 1))


class Layers(nn.Sequential):
    def __init__(self, kept: float, block_rows: int):
        torch.manual_seed(2)
        super().__init__(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64))
        for i, layer in enumerate((self[0], self[2])):
            prune_blocks(layer.weight, kept, block_rows, i)


SHAPES = {Convolutions: (32, 8, 8), Layers: (64,)}


def native(module: nn.Module, **options: object) -> taille.CompiledModel:
    return taille.compile_model(taille.TorchModel(module.eval(), (torch.zeros(2, *SHAPES[type(module)]),)), **options)


@pytest.mark.parametrize("block_rows", [1, 2, 4])
@pytest.mark.parametrize("kept", [0.25, 0.05, 0.0])
@pytest.mark.parametrize("make", SHAPES)
def test_whole_numbers_give_the_exact_result(make, kept, block_rows) -> None:
    """Every sum is exact, in any order: the result is that of float64."""
    module = make(kept, block_rows)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(p.sign())
    graph = native(module).graph
    rng = np.random.default_rng(0)
    for batch in (1, 2, 4, 5, 70):
        x = rng.integers(-2, 3, (batch, *SHAPES[make])).astype(np.float32)
        with torch.no_grad():
            wanted = module.double()(torch.from_numpy(x).double()).numpy()
        module.float()
        for isa in _native.supported_isas():
            for threads in (1, 2):
                (found,) = _native.Model(graph, threads, isa).run({graph.inputs[0][0]: x})
                np.testing.assert_array_equal(found, wanted, err_msg=f"{batch} {isa} {threads}")


@pytest.mark.parametrize("make", SHAPES)
def test_all_levels_and_threads_agree(make) -> None:
    graph = native(make(0.1, 4)).graph
    for batch in (1, 3, 40):
        x = np.random.default_rng(batch).standard_normal((batch, *SHAPES[make])).astype(np.float32)
        results = [
            _native.Model(graph, threads, isa).run({graph.inputs[0][0]: x})[0]
            for isa in _native.supported_isas()
            for threads in (1, 2)
        ]
        for other in results[1:]:
            np.testing.assert_array_equal(other, results[0])
        with torch.no_grad():
            np.testing.assert_allclose(results[0], make(0.1, 4)(torch.from_numpy(x)).numpy(), rtol=0, atol=1e-5)


def kernels_of(module: nn.Module) -> list[str]:
    model = native(module, threads=1)
    x = np.zeros((1, *SHAPES[type(module)]), np.float32)
    return [row.kernel for row in model.profile(x).rows if row.op in ("linear", "conv2d")]


@pytest.mark.parametrize("make", SHAPES)
def test_profile_says_which_kernel_and_by_how_much(make) -> None:
    sparse, dense = kernels_of(make(0.05, 4)), kernels_of(make(1.0, 4))
    assert len(sparse) == len(dense) >= 2
    assert all("blocks of 4x4" in kernel and "times as fast as dense" in kernel for kernel in sparse)
    assert not any("blocks" in kernel for kernel in dense)


def test_weights_of_16_bits_stay_dense() -> None:
    half = taille.quantize_model(taille.TorchModel(Layers(0.05, 4).eval(), (torch.zeros(2, 64),)), "float16")
    rows = taille.compile_model(half, threads=1).profile(np.zeros((1, 64), np.float32)).rows
    assert not any("blocks" in row.kernel for row in rows)


@pytest.mark.parametrize("precision", [None, "float16"])
def test_files_shrink(precision) -> None:
    """The mask is multiplied, which leaves negative zeros."""

    def size(kept: float) -> int:
        model = taille.TorchModel(Layers(kept, 4).eval(), (torch.zeros(2, 64),))
        return taille.compile_model(taille.quantize_model(model, precision) if precision else model).size_bytes

    metadata = 4 * 576 + 4000  # biases, and what is said of the graph
    assert size(0.25) < 0.3 * size(1.0) + metadata
    assert size(1.0) > 2 * 512 * 64 * (2 if precision else 4)


def test_a_batch_norm_that_turns_signs_leaves_blocks_of_zeros() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Conv2d(32, 64, 3), nn.BatchNorm2d(64))
    prune_blocks(module[0].weight, 0.1, 4)
    with torch.no_grad():
        module[1].weight.fill_(-1)
    graph = taille.compile_model(taille.TorchModel(module.eval(), (torch.zeros(1, 32, 8, 8),))).graph
    weight = max(graph.constants().values(), key=np.size)
    zero = weight == 0
    assert 0.85 < zero.mean() < 0.95
    assert not np.signbit(weight[zero]).any()
