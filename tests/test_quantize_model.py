"""Quantisation to int8: quality on real data, the same bits everywhere, and what it says about bad calibration data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from same_bits import check_same_bits
from taille import _native
from zoo import cifar, mlp, relative_error, resnet20


class Batches:
    """Re-iterable batches that count how often they are iterated."""

    def __init__(self, values: Any, size: int):
        self.values, self.size, self.iterations = values, size, 0

    def __iter__(self) -> Iterator[Any]:
        self.iterations += 1
        return iter(self.values.split(self.size))


@pytest.fixture(scope="module")
def resnet() -> tuple[taille.TorchModel, taille.QuantizedModel]:
    images, _ = cifar("train", 0, 500)
    model = taille.TorchModel(resnet20(), (images[:2],), calibration_data=Batches(images, 100), name="resnet20")
    return model, taille.quantize_model(model, "int8")


def test_resnet20_keeps_its_accuracy(resnet: tuple[taille.TorchModel, taille.QuantizedModel]) -> None:
    model, small = resnet
    images, labels = cifar("test", 0, 1000)
    full = (model.predict(images).argmax(1).numpy() == labels).mean()
    int8 = (small.predict(images).argmax(1).numpy() == labels).mean()
    assert int8 >= full - 0.01
    assert {r.precision for r in small.report if r.op in ("conv2d", "linear")} == {"int8"}
    assert all(r.weight_sqnr_db > 25 for r in small.report if r.op in ("conv2d", "linear"))


def test_resnet20_gives_the_same_bits_everywhere(resnet: tuple[taille.TorchModel, taille.QuantizedModel]) -> None:
    graph = resnet[1].graph
    name = graph.inputs[0][0]
    images = cifar("test", 0, 5)[0].numpy()
    check_same_bits(graph, {name: images}, {name: images[:1]})


def test_resnet20_shrinks(resnet: tuple[taille.TorchModel, taille.QuantizedModel]) -> None:
    model, small = resnet
    assert small.size_bytes < 0.4 * model.size_bytes
    (step,) = small.metadata["recipe"]
    assert [step] == [
        {
            "step": "quantize", "precision": "int8", "calibrator": "mse", "calibration_samples": 500,
            "weight_clipping": "pairs" if _native.active_isa() == "avx2" else "mse", "bias_correction": True,
            "smooth": 0.5, "ignore": [], "never_slower": True, "faster_in_float32": [],
        }
    ]  # fmt: skip
    assert small.parent is model
    assert small.input_spec == model.input_spec
    assert small.output_spec == model.output_spec


def test_an_mlp_and_its_options() -> None:
    torch.manual_seed(0)
    data = Batches(torch.randn(300, 20), 64)
    model = taille.TorchModel(mlp(20, 128, 128, 5), (data.values[:2],), calibration_data=data)
    x = torch.randn(50, 20)
    for calibrator in ("minmax", "percentile"):
        small = taille.quantize_model(model, "int8", calibrator=calibrator)
        assert relative_error(small.predict(x), model.predict(x)) < 0.05
    left = taille.quantize_model(model, "int8", ignore=["layers.0", "*.2"])
    kept = {r.name for r in left.report if r.precision != "int8"}
    assert {"layers.0", "layers.2"} <= kept
    assert "layers.1" not in kept
    few = taille.quantize_model(model, "int8", calibration_samples=100)
    assert few.metadata["recipe"][0]["calibration_samples"] == 100
    assert data.iterations == 8  # each time for ranges and for biases; no channel stands out, so nothing is smoothed


def test_depthwise_convolutions() -> None:
    """Of the shapes of mobile networks: strides, a wide kernel, several images, few channels."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.ReLU6(),
        nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.ReLU6(), nn.Conv2d(24, 80, 1),
        nn.Conv2d(80, 80, 5, stride=2, padding=2, groups=80), nn.ReLU6(), nn.Conv2d(80, 16, 1),
        nn.Conv2d(16, 16, 3, padding=2, dilation=2, groups=16),
    ).eval()  # fmt: skip
    x = torch.randn(40, 3, 31, 27)
    model = taille.TorchModel(net, (x[:2],), calibration_data=Batches(x, 20))
    small = taille.quantize_model(model, "int8")
    assert relative_error(small.predict(x), model.predict(x)) < 0.1
    name = small.input_spec[0].name
    check_same_bits(small.graph, {name: x[:7].numpy()}, {name: x[:3].numpy()})


def test_batches_of_every_form() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(64, 20), torch.zeros(64, dtype=torch.long)
    forms: dict[str, Any] = {
        "tensors": [x], "arrays": [x.numpy()], "(x, y)": [(x, y)], "[x, y]": [[x, y]], "dicts": [{"x": x, "label": y}],
        "not contiguous": [x.t().contiguous().t()],
    }  # fmt: skip
    net, found = mlp(), {}
    for name, batches in forms.items():
        small = taille.quantize_model(taille.TorchModel(net, (x[:2],), calibration_data=batches))
        found[name] = small.predict(x.numpy())
    for name, given in found.items():
        np.testing.assert_array_equal(given, found["tensors"], err_msg=name)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (None, ValueError, r"calibration_data=batches.*x: float32\[batch, 20\]"),
        ([], ValueError, r"is empty; wanted batches of x: float32\[batch, 20\]"),
        ([torch.randn(2, 21)], ValueError, r"batch 0: input 'x' has shape \[2, 21\]; wanted \[batch, 20\]"),
        ([torch.randn(2, 20), torch.randn(2, 3, 20)], ValueError, r"batch 1: input 'x' has shape \[2, 3, 20\]"),
        ([torch.randn(2, 20).double()], TypeError, "batch 0: input 'x' is float64; wanted float32"),
        ([{"y": torch.randn(2, 20)}], ValueError, "batch 0 has no x"),
        ([()], ValueError, "batch 0 holds 0 arrays"),
        (["text"], TypeError, "batch 0: input 'x' is str"),
    ],
)
def test_bad_calibration_data(data: Any, error: type[Exception], message: str) -> None:
    model = taille.TorchModel(mlp(), (torch.randn(2, 20),), calibration_data=data)
    with pytest.raises(error, match=message):
        taille.quantize_model(model)


def test_bad_options() -> None:
    model = taille.TorchModel(mlp(), (torch.randn(2, 20),), calibration_data=[torch.randn(8, 20)])
    with pytest.raises(ValueError, match="unknown precision 'int7'; there are int8, float16, bfloat16, mixed"):
        taille.quantize_model(model, "int7")
    with pytest.raises(ValueError, match="unknown calibrator 'best'; there are minmax, percentile"):
        taille.quantize_model(model, calibrator="best")
    with pytest.raises(ValueError, match="calibration_samples is 0"):
        taille.quantize_model(model, calibration_samples=0)
    with pytest.raises(ValueError, match=r"no node is called 'layers\.9'; the nodes are layers\.0, "):
        taille.quantize_model(model, ignore=["layers.9"])
    with pytest.raises(TypeError, match="a sequence of names"):
        taille.quantize_model(model, ignore="layers.0")
    with pytest.raises(TypeError, match=r"(?s)bare nn\.Module.*TorchModel\("):
        taille.quantize_model(mlp())
    with pytest.raises(TypeError, match="takes a TorchModel, not CompiledModel"):
        taille.quantize_model(taille.compile_model(model))
