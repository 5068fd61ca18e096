"""Files of channel-pruned modules: they reload into a freshly built dense module, and hostile ones are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import taille
from channel_nets import NETS, Encoder, SelfAttention, model_of
from taille import files
from taille.pruning import shape_manifest
from taille.pruning.channels import prune_channels
from taille.pruning.shape_manifest import load_pruned, save_pruned


@pytest.mark.parametrize("name", ["bottleneck", "flatten", "encoder", "packed"])
def test_reloads_into_a_dense_module(name: str, tmp_path: Path) -> None:
    small = prune_channels(model_of(name), 0.5)
    written = save_pruned(small, tmp_path / "small.safetensors")
    assert written == (tmp_path / "small.safetensors").stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["small.safetensors"]
    dense = NETS[name][0]().eval()
    loaded = load_pruned(dense, tmp_path / "small.safetensors")
    x = next(iter(small.examples.values()))
    assert torch.equal(loaded(x), small.module(x))
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in small.module.state_dict().items())
    assert str(loaded) == str(small.module)  # what layers say of their sizes
    assert not loaded.training
    assert dense(x).shape == loaded(x).shape  # the dense module stays as it was
    assert load_pruned(NETS[name][0], tmp_path / "small.safetensors").training
    if name == "packed":
        native = taille.compile_model(taille.TorchModel(loaded, (x,)))
        torch.testing.assert_close(native.predict(x), small.module(x).detach(), rtol=1e-4, atol=1e-5)


def test_what_is_pruned_twice_reloads(tmp_path: Path) -> None:
    model = taille.TorchModel(nn.Sequential(Encoder(SelfAttention(16, 4), 16, 24), nn.Linear(16, 3)).eval(),
                              (torch.randn(2, 5, 16),))  # fmt: skip
    once = prune_channels(model, 0.8)
    twice = prune_channels(once, 0.6)
    assert twice.parameter_count < once.parameter_count < model.parameter_count
    assert len(twice.metadata["recipe"]) == 2
    save_pruned(twice, tmp_path / "twice.safetensors")
    x = model.examples["input"]
    assert torch.equal(load_pruned(model.module, tmp_path / "twice.safetensors")(x), twice.module(x))


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 16)
            self.last.weight = self.second.weight
            self.head = nn.Linear(16, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.second(torch.relu(self.first(x))))
            return self.head(torch.relu(self.last(y)))

    small = prune_channels(taille.TorchModel(Tied().eval(), (torch.randn(4, 8),)), 0.6)
    module: Any = small.module
    assert module.last.weight is module.second.weight
    assert module.last.weight.shape[0] == module.last.out_features < 16
    save_pruned(small, tmp_path / "tied.safetensors")
    loaded: Any = load_pruned(Tied, tmp_path / "tied.safetensors").eval()
    assert loaded.last.weight is loaded.second.weight
    x = torch.randn(4, 8)
    assert torch.equal(loaded(x), module(x))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = prune_channels(model_of("mlp"), 0.5)
    path = tmp_path / "small.safetensors"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_pruned(small, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["small.safetensors"]


def test_saving_needs_a_torch_model(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="TorchModel"):
        save_pruned(nn.Linear(2, 2), tmp_path / "x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="CompiledModel"):
        save_pruned(taille.compile_model(model_of("mlp")), tmp_path / "x")


# Hostile and mistaken files ------------------------------------------------------------------------------------------

Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]


def drop(tensors: dict[str, torch.Tensor], manifest: dict[str, Any]) -> None:
    del tensors["attention.out.weight"], manifest["shapes"]["attention.out.weight"]


def rename(tensors: dict[str, torch.Tensor], manifest: dict[str, Any]) -> None:
    tensors["evil"] = torch.zeros(1)
    manifest["shapes"]["evil"] = [1]


def put(name: str, tensor: torch.Tensor) -> Change:
    def change(tensors: dict[str, torch.Tensor], manifest: dict[str, Any]) -> None:
        tensors[name] = tensor
        manifest["shapes"][name] = list(tensor.shape)

    return change


def attribute(layer: str, name: str, value: Any) -> Change:
    return lambda _, manifest: manifest["attributes"].setdefault(layer, {}).update({name: value})


HOSTILE: dict[str, tuple[Change, str]] = {
    "a tensor is missing": (drop, "lack 'attention.out.weight'"),
    "a tensor too many": (rename, "hold 'evil'"),
    "the manifest alone lacks one": (lambda t, m: m["shapes"].pop("up.bias"), "shape manifest lack 'up.bias'"),
    "another shape in the manifest": (lambda t, m: m["shapes"].update({"up.bias": [1]}), "'up.bias' has shape"),
    "true for a size": (lambda t, m: m["shapes"].update({"up.bias": True}), "'up.bias' has shape"),
    "larger than the dense module's": (put("up.bias", torch.zeros(25)), "is the most it may be"),
    "another rank": (put("up.bias", torch.zeros(2, 2)), "is the most it may be"),
    "an empty tensor": (put("up.bias", torch.zeros(0)), "is the most it may be"),
    "another dtype": (put("up.bias", torch.zeros(3, dtype=torch.float64)), "is F64; the dense module's is F32"),
    "a bias of another length": (put("up.bias", torch.zeros(3)), r"'up.bias' has shape \[3\]; its layer has"),
    "a norm of another length": (put("norm1.bias", torch.zeros(3)), r"'norm1.bias' has shape \[3\]; its layer has"),
    "an unknown module": (attribute("nothing", "num_heads", 2), "no module 'nothing'"),
    "an unknown attribute": (attribute("attention", "evil", 2), "'attention.evil' is 2"),
    "a private attribute": (attribute("attention", "_parameters", 2), "'attention._parameters' is 2"),
    "a method": (attribute("attention", "forward", 2), "'attention.forward' is 2"),
    "the training flag": (attribute("attention", "training", 1), "'attention.training' is 1"),
    "an attribute of a layer that is no size of it": (attribute("norm1", "eps", 1), "'norm1.eps' is 1"),
    "more heads than there were": (attribute("attention", "num_heads", 5), "'attention.num_heads' is 5"),
    "no heads": (attribute("attention", "num_heads", 0), "'attention.num_heads' is 0"),
    "heads in words": (attribute("attention", "num_heads", "2"), "'attention.num_heads' is 2"),
    "a size the tensors do not have": (attribute("up", "out_features", 1), "'up.out_features' is 1; its tensors have"),
    "a list where a number is": (attribute("up", "out_features", [3]), r"'up.out_features' is \[3\]"),
    "attributes of no object": (lambda t, m: m["attributes"].update(up=3), "attributes of 'up' must be an object"),
    "a newer format": (lambda t, m: m.update(format=2), "newer version"),
    "a format of no number": (lambda t, m: m.update(format=True), "has format True"),
    "no shapes": (lambda t, m: m.pop("shapes"), "object of format, shapes and attributes"),
    "shapes of no object": (lambda t, m: m.update(shapes=[1]), "'shapes' of its shape manifest must be an object"),
}


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "encoder.safetensors"
    save_pruned(prune_channels(model_of("encoder"), 0.5), path)
    return path


@pytest.mark.parametrize("case", HOSTILE)
def test_refuses_hostile_files(case: str, encoder_file: Path, tmp_path: Path) -> None:
    change, message = HOSTILE[case]
    tensors = load_file(encoder_file)
    with safe_open(encoder_file, framework="pt") as file:
        manifest = json.loads(file.metadata()["taille.shapes"])
    change(tensors, manifest)
    bad = tmp_path / "bad.safetensors"
    save_file(tensors, bad, {"taille.shapes": json.dumps(manifest)})
    with pytest.raises(taille.ArtefactError, match=message):
        load_pruned(NETS["encoder"][0], bad)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1", '"x"', "null"])
def test_refuses_manifests_that_are_none(text: str, encoder_file: Path, tmp_path: Path) -> None:
    save_file(load_file(encoder_file), tmp_path / "bad", {"taille.shapes": text})
    with pytest.raises(taille.ArtefactError, match="shape manifest"):
        load_pruned(NETS["encoder"][0], tmp_path / "bad")


def test_refuses_long_manifests(encoder_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape_manifest, "MAX_JSON", 100)
    with pytest.raises(taille.ArtefactError, match="at most 100 are read"):
        load_pruned(NETS["encoder"][0], encoder_file)


def test_refuses_damaged_files(encoder_file: Path, tmp_path: Path) -> None:
    data = encoder_file.read_bytes()
    (tmp_path / "plain").write_bytes(b"x" * 100)
    (tmp_path / "cut").write_bytes(data[:-1])
    (tmp_path / "empty").write_bytes(b"")
    for name in ("plain", "cut", "empty"):
        with pytest.raises(taille.ArtefactError, match="not a whole safetensors file"):
            load_pruned(NETS["encoder"][0], tmp_path / name)
    save_file(load_file(encoder_file), tmp_path / "bare")
    with pytest.raises(taille.ArtefactError, match="no shape manifest"):
        load_pruned(NETS["encoder"][0], tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match="absent"):
        load_pruned(NETS["encoder"][0], tmp_path / "absent")


def test_refuses_another_module(encoder_file: Path) -> None:
    with pytest.raises(taille.ArtefactError, match="lack"):
        load_pruned(NETS["mlp"][0], encoder_file)
    with pytest.raises(TypeError, match="builds one"):
        load_pruned(lambda: 3, encoder_file)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="builds one"):
        load_pruned(3, encoder_file)  # type: ignore[arg-type]
