"""The torch path on a GPU: the choice among forms, and what is missing where there is none; with one, all of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from optimize_case import HELD_OUT, LABELS, case
from taille.models import BaseMLModel
from taille.resources import ResourceOptimizer, gpu
from taille.resources.gpu import Form, GpuModel, Trial, choose, forms_for

CPU = torch.device("cpu")
SECONDS = {"float32": 4.0, "float16": 2.0, "bfloat16": 1.9, "float16 compiled": 1.5, "float16 2:4 compiled": 1.0}
FORMS = [Form("float32"), Form("float16"), Form("bfloat16"), Form("float16", True), Form("float16", True, True)]


def trials(**changed: Trial) -> Any:
    """What an injected clock says of each form; by the form's key, with _ for what no name may hold."""

    def attempt(form: Form) -> Trial:
        name = form.key.replace(" ", "_").replace(":", "")
        return changed.get(name, Trial(SECONDS[form.key], 1000, 0.9))

    return attempt


def chosen(target: float = 10.0, memory: int = 1000, deadline: float = math.inf, **changed: Trial) -> str:
    return choose(FORMS, trials(**changed), target, memory, deadline)[0].key


def test_the_fastest_within_the_bounds_is_chosen() -> None:
    assert chosen() == "float16 2:4 compiled"
    assert chosen(float16_24_compiled=Trial(1.0, 1000, 0.889)) == "float16 compiled"  # 0.011 are lost
    assert chosen(float16_24_compiled=Trial(1.0, 1000, 0.89)) == "float16 2:4 compiled"
    assert chosen(float16_24_compiled=Trial(1.0, 1001, 0.9)) == "float16 compiled"
    assert chosen(float16_24_compiled=Trial(error="RuntimeError: no kernel")) == "float16 compiled"
    assert chosen(float16_24_compiled=Trial(1.7, 1000, 0.9)) == "float16 compiled"  # not where it is slower
    assert chosen(deadline=0.0) == "float32"  # one is always tried


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"target": 0.5}, "target_latency is 0.5 s; the fastest form on the GPU, float16 2:4 compiled, takes 1 s"),
        ({"memory": 999}, "compute.gpu_memory is 999 bytes; float32, which needs least, takes 1,000 bytes"),
    ],
)
def test_bounds_that_nothing_keeps(bounds: Any, message: str) -> None:
    with pytest.raises(taille.ConstraintError, match=message) as caught:
        chosen(**bounds)
    assert [row["key"] for row in caught.value.front] == [*SECONDS]


def test_nothing_runs() -> None:
    with pytest.raises(taille.ConstraintError, match="no form could be run on the GPU; float32: OutOfMemoryError: x"):
        choose(FORMS, lambda _: Trial(error="OutOfMemoryError: x"), 1, 1, math.inf)


def test_weights_only_go_where_their_loss_is_noticed() -> None:
    model = case()
    keys = [form.key for form in forms_for(model, bfloat16=True)]
    assert keys[0] == "float32"
    assert {"bfloat16 compiled", "float16 2:4", "bfloat16 2:4 compiled"} < set(keys)
    assert not any("bfloat16" in form.key for form in forms_for(model, bfloat16=False))
    model.eval_fn = None
    assert not any(form.sparse for form in forms_for(model, bfloat16=True))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def call() -> BaseMLModel:
        return ResourceOptimizer().optimize_compute(case(), 1.0, device="cuda")

    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(RuntimeError, match=r"needs a build of torch with CUDA; torch \d.* has none"):
        call()
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="needs an NVIDIA GPU and its driver"):
        call()
    with pytest.raises(TypeError, match="takes a TorchModel, not CompiledModel"):
        ResourceOptimizer().optimize_compute(taille.compile_model(case()), 1.0, device="cuda")


class Pair(nn.Module):
    """Two inputs, one of them whole numbers; outputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layer = nn.Embedding(9, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": self.layer(x) + self.words(ids), "ids": ids + 1}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_form_takes_and_gives_what_every_model_does(dtype: str, tmp_path: Any) -> None:
    source = taille.TorchModel(Pair().eval(), (torch.randn(2, 8), torch.arange(2)))
    model = GpuModel(source, Form(dtype), CPU, {"search": {"chosen": dtype}})
    x, ids = torch.randn(5, 8), torch.arange(5)
    given, wanted = model.predict((x, ids)), source.predict((x, ids))
    bound = 0 if dtype == "float32" else 0.05
    assert given["sum"].dtype == torch.float32
    torch.testing.assert_close(given["sum"], wanted["sum"], atol=bound, rtol=bound)
    arrays = model.predict({"ids": ids.numpy(), "x": x.numpy()})
    np.testing.assert_array_equal(arrays["sum"], given["sum"].numpy())
    np.testing.assert_array_equal(arrays["ids"], ids.numpy() + 1)
    assert source.module.layer.weight.dtype == torch.float32  # the user's module is left alone
    assert model.metadata["form"] == {"dtype": dtype, "compiled": False, "sparse": False}
    assert model.metadata["search"] == {"chosen": dtype}
    assert model.save(tmp_path / "m") == model.size_bytes
    with pytest.raises(TypeError, match="mix"):
        model.predict((x, ids.numpy()))
    with pytest.raises(ValueError, match="'x'"):
        model.predict((x[:, :4], ids))


def test_two_of_four_is_told() -> None:
    weight = torch.tensor([[1.0, 0, 2, 0, 0, 0, 3, 4]])
    assert gpu.is_two_of_four(weight)
    assert not gpu.is_two_of_four(weight + torch.tensor([0, 1.0, 0, 0, 0, 0, 0, 0]))
    assert not gpu.is_two_of_four(torch.zeros(2, 6))
    with pytest.raises(ValueError, match="no linear layer has a 2:4 weight"):
        gpu.to_semi_structured(nn.Sequential(nn.Linear(8, 8)))
    pruned = gpu.two_of_four(case(), {})
    layers = [m for m in pruned.module.modules() if isinstance(m, nn.Linear)]
    assert any(gpu.is_two_of_four(layer.weight) for layer in layers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
def test_on_a_gpu() -> None:
    settings = {"compute": {"batch_size": 64, "gpu_memory": "200MB"}}
    found = ResourceOptimizer(settings).optimize_compute(case(), 1.0, device="cuda")
    search = found.metadata["search"]
    kept = {k: t for k, t in search["candidates"].items() if not t["error"]}
    assert {"float32", "float16", "float16 compiled"} <= set(kept)
    assert search["chosen"] in kept
    assert all(t["memory_bytes"] > 0 for t in kept.values())
    quality = float((np.asarray(found.predict(HELD_OUT)).argmax(1) == LABELS).mean())
    assert quality >= kept["float32"]["accuracy"] - 0.01
    with pytest.raises(taille.ConstraintError, match="gpu_memory is 1,000 bytes"):
        ResourceOptimizer({"compute": {"gpu_memory": "1kB"}}).optimize_compute(case(), 1.0, device="cuda")
