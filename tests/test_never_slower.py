"""A layer stays float32 where int8 is measured to be slower; what is clearly faster is not touched."""

import numpy as np
import pytest
import torch
from torch import nn

import taille
from taille import _native
from taille.quantization import never_slower


@pytest.fixture(autouse=True)
def as_users_have_it(monkeypatch) -> None:
    """Undoes what conftest.py does for all other tests."""
    monkeypatch.setattr(never_slower, "SURE", 0.8)
    monkeypatch.setattr(never_slower, "ROUNDS", (5, 25))


class Uneven(nn.Module):
    """A layer for int8, and one whose input is so much larger than its work that the conversion is all that shows."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(1024, 1024)
        self.thin = nn.Conv2d(1, 1, 1)

    def forward(self, x: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.wide(x), self.thin(image * 2.0)


def uneven() -> taille.TorchModel:
    torch.manual_seed(0)
    batches = [(torch.randn(4, 1024), torch.randn(4, 1, 256, 256)) for _ in range(2)]
    return taille.TorchModel(Uneven().eval(), batches[0], calibration_data=batches)


def precisions(model) -> dict[str, str]:
    return {row.name: row.precision for row in model.report}


def test_what_is_faster_in_float32_stays_so_and_says_why(tmp_path) -> None:
    model = uneven()
    everything = taille.quantize_model(model, "int8", never_slower=False)
    assert precisions(everything)["thin"] == precisions(everything)["wide"] == "int8"
    small = taille.quantize_model(model, "int8")
    assert precisions(small)["wide"] == "int8"
    assert precisions(small)["thin"] == "float32"
    assert small.metadata["recipe"][-1]["faster_in_float32"] == ["thin"]
    small.save(tmp_path / "a.safetensors")
    why = {node["name"]: node["why"] for node in taille.load(tmp_path / "a.safetensors").nodes()}
    assert "float32 is faster" in why["thin"]
    assert "times as fast as float32" in why["wide"]


def test_mixed_times_what_it_leaves_int8() -> None:
    small = taille.quantize_model(uneven(), "mixed", max_accuracy_drop=0.5)
    assert precisions(small)["wide"] == "int8"
    assert precisions(small)["thin"] == "float32"


def graphs_with(monkeypatch, seconds: dict[str, float]):
    """Time by a table: seconds by (name, precision); what is not in it takes none."""

    def measure(graphs, sample):
        keys = [never_slower.node_keys(graph) for graph in graphs]
        return [{key: seconds.get(f"{name}:{key[2][0]}", 0.0) for name, key in found.items()} for found in keys]

    monkeypatch.setattr(never_slower, "measure", measure)


def chain(layers: int) -> tuple[_native.Graph, dict]:
    """Linear layers in a row, and ranges of all their values."""
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 8])
    ranges = {"x": (-1.0, 1.0)}
    for i in range(layers):
        w = g.add_constant(f"w{i}", np.eye(8, dtype=np.float32))
        x = g.add_node("linear", [x, w], {}, f"l{i}")
        ranges[g.value(x)[0]] = (-1.0, 1.0)
    g.add_output("y", x)
    return g, ranges


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [
        # The conversion before the first layer costs more than int8 saves there; it costs less before the second.
        ({"l0:float32": 10, "l1:float32": 30, "l2:float32": 30, "x.quantize:float32": 8, "l0:uint8": 9, "l1:uint8": 9,
          "l2:uint8": 9, "l0.quantize:float32": 4}, ["l0"]),
        # It costs as much before the second.
        ({"l0:float32": 10, "l1:float32": 30, "l2:float32": 30, "x.quantize:float32": 8, "l0:uint8": 9, "l1:uint8": 9,
          "l2:uint8": 9, "l0.quantize:float32": 8}, []),
        # Clearly faster: not even tried.
        ({"l0:float32": 10, "l1:float32": 10, "l2:float32": 10, "l0:uint8": 3, "l1:uint8": 3, "l2:uint8": 3}, []),
        # Each alone would bring a conversion; together they take all away.
        ({"l0:float32": 10, "l1:float32": 10, "l2:float32": 10, "l0:uint8": 11, "l1:uint8": 11, "l2:uint8": 11,
          "x.quantize:float32": 1, "l0.quantize:float32": 50, "l1.quantize:float32": 50}, ["l0", "l1", "l2"]),
        # Slower by less than the noise: left in int8.
        ({"l0:float32": 10, "l1:float32": 10, "l2:float32": 10, "l0:uint8": 10.1, "l1:uint8": 3, "l2:uint8": 3,
          "l0.quantize:float32": 0.01}, []),
    ],
)  # fmt: skip
def test_trials_decide_with_their_conversions(monkeypatch, seconds, kept) -> None:
    exact, ranges = chain(3)
    graphs_with(monkeypatch, {name: s * 1e-3 for name, s in seconds.items()})

    def quantize(more):
        return _native.quantize(exact, ranges, sorted(more))[0]

    found = never_slower.time_layers(["l0", "l1", "l2"], exact, quantize, {})
    assert found.kept == kept
    assert set(found.why) == {"l0", "l1", "l2"}


def test_nothing_is_tried_that_cannot_save_anything(monkeypatch) -> None:
    exact, ranges = chain(3)
    seconds = {"l0:float32": 10, "l1:float32": 10, "l2:float32": 10, "l0:uint8": 9, "l1:uint8": 9, "l2:uint8": 9}
    graphs_with(monkeypatch, {name: s * 1e-3 for name, s in seconds.items()})
    built = []

    def quantize(more):
        built.append(list(more))
        return _native.quantize(exact, ranges, sorted(more))[0]

    found = never_slower.time_layers(["l0", "l1", "l2"], exact, quantize, {})
    assert built == [[]]
    assert found.why["l0"] == "1.1 times as fast as float32, conversions included"
