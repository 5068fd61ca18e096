"""CompiledModel: what goes in and comes out, bad input one by one, threads, profile, save and load."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import taille
from support import output_of as output_of_script
from taille import _native
from zoo import mlp

F32 = np.float32


class Pair(nn.Module):
    """Two inputs that share their batch, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)
        self.linear = nn.Linear(4, 3)

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.table(ids) + x
        return self.linear(y), y.mean(-1)


@pytest.fixture(scope="module")
def pair() -> tuple[taille.TorchModel, taille.CompiledModel]:
    torch.manual_seed(0)
    model = taille.TorchModel(Pair().eval(), (torch.randint(0, 10, (2,)), torch.randn(2, 4)))
    return model, taille.compile_model(model, threads=1)


def inputs(batch: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(batch)
    return rng.integers(0, 10, batch), rng.standard_normal((batch, 4), dtype=F32)


def test_same_kind_in_and_out(pair: tuple[taille.TorchModel, taille.CompiledModel]) -> None:
    model, native = pair
    ids, x = inputs(5)
    for which in (model, native):
        out = which.predict((ids, x))
        assert isinstance(out, tuple)
        assert all(type(o) is np.ndarray and o.dtype == F32 for o in out)
        by_name = which.predict({"x": x, "ids": ids})
        tensors = which.predict((torch.from_numpy(ids), torch.from_numpy(x)))
        for a, b, t in zip(out, by_name, tensors, strict=True):
            np.testing.assert_array_equal(a, b)
            assert isinstance(t, torch.Tensor)
            np.testing.assert_array_equal(a, t.numpy())
    for given, wanted in zip(native.predict((ids, x)), model.predict((ids, x)), strict=True):
        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-6)


def test_arrays_that_are_not_contiguous_are_copied(pair: tuple[taille.TorchModel, taille.CompiledModel]) -> None:
    _, native = pair
    ids, x = inputs(6)
    wanted = native.predict((ids, x))
    strided = (np.repeat(ids, 2)[::2], np.asfortranarray(x))
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:].view()
    misaligned = np.ndarray(x.shape, F32, buffer=raw.data, offset=0)
    misaligned[...] = x
    for given in (strided, (ids, misaligned), (torch.from_numpy(ids), torch.from_numpy(x.T.copy()).T)):
        for a, b in zip(native.predict(given), wanted, strict=True):
            np.testing.assert_array_equal(np.asarray(a), b)


BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "float64": (
        (inputs(2)[0], np.zeros((2, 4))),
        TypeError,
        r"'x' is float64; wanted float32: .*astype\(numpy\.float32\)",
    ),
    "int32": ((inputs(2)[0].astype(np.int32), inputs(2)[1]), TypeError, "'ids' is int32; wanted int64"),
    "big endian": ((inputs(2)[0], inputs(2)[1].astype(">f4")), TypeError, "'x' is >f4; wanted float32"),
    "bfloat16": ((torch.zeros(2).long(), torch.zeros(2, 4).bfloat16()), TypeError, "'x' is bfloat16"),
    "a list": ((inputs(2)[0], [[1.0] * 4] * 2), TypeError, "'x' is list; wanted a numpy array or a torch tensor"),
    "None": (None, ValueError, "inputs given: 1; wanted 2: ids, x"),
    "mixed": ((inputs(2)[0], torch.zeros(2, 4)), TypeError, "mix numpy arrays and torch tensors"),
    "too few": ((inputs(2)[0],), ValueError, "inputs given: 1; wanted 2: ids, x"),
    "too many": ((*inputs(2), 3), ValueError, "inputs given: 3; wanted 2: ids, x"),
    "missing name": ({"x": inputs(2)[1]}, ValueError, "inputs given: x; wanted: ids, x .missing: ids"),
    "unknown name": (dict(zip(("ids", "y"), inputs(2), strict=True)), ValueError, "unknown: y"),
    "rank": ((inputs(2)[0], np.zeros((2, 4, 1), F32)), ValueError, r"'x' has shape \[2, 4, 1\]; wanted \[batch, 4\]"),
    "scalar": ((inputs(2)[0], np.ones((), F32)), ValueError, r"'x' has shape \[\]"),
    "size": ((inputs(2)[0], np.zeros((2, 5), F32)), ValueError, r"wanted \[batch, 4\]: dimension 1 is 5, not 4"),
    "batches differ": ((inputs(3)[0], inputs(2)[1]), ValueError, "'batch' is 3 in input 'ids'"),
    "empty batch": ((inputs(0)[0], inputs(0)[1]), ValueError, "'batch' is at least 1"),
    "id too large": ((np.array([1, 10]), inputs(2)[1]), ValueError, "10"),
    "id negative": ((np.array([1, -1]), inputs(2)[1]), ValueError, "-1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(pair: tuple[taille.TorchModel, taille.CompiledModel], case: str) -> None:
    given, error, message = BAD[case]
    with pytest.raises(error, match=message):
        pair[1].predict(given)
    pair[1].predict(inputs(2))  # a refused call leaves the model usable


def test_threads_argument() -> None:
    model = taille.TorchModel(mlp(), (torch.randn(2, 20),))
    assert taille.compile_model(model, threads=2).threads == 2
    assert taille.compile_model(model).threads >= 1
    for bad, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="threads is"):
            taille.compile_model(model, threads=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="streams is 2; only 1"):
        taille.compile_model(model, streams=2)


def test_several_threads_may_call_one_model() -> None:
    model = taille.TorchModel(mlp(20, 256, 5), (torch.randn(2, 20),))
    native = taille.compile_model(model, threads=2)
    cases = [np.random.default_rng(i).standard_normal((1 + i % 7, 20), dtype=F32) for i in range(40)]
    wanted = [native.predict(x) for x in cases]
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(200):
            case = (start + i) % len(cases)
            if not np.array_equal(native.predict(cases[case]), wanted[case]):
                wrong.append(case)

    workers = [threading.Thread(target=work, args=(7 * i,)) for i in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_specs_and_counts(pair: tuple[taille.TorchModel, taille.CompiledModel]) -> None:
    model, native = pair
    assert native.input_spec == model.input_spec
    assert native.output_spec == model.output_spec
    assert [str(s) for s in native.input_spec] == ["ids: int64[batch]", "x: float32[batch, 4]"]
    assert native.parameter_count == model.parameter_count == 10 * 4 + 4 * 3 + 3
    assert model.sparsity == native.sparsity == 0.0
    assert native.metadata["name"] == "Pair"
    native.metadata["name"] = "changed"
    assert native.metadata["name"] == "Pair"


def test_sparsity_is_counted() -> None:
    net = mlp(20, 10, 5)
    with torch.no_grad():
        net.layers[0].weight[:5] = 0
    assert taille.TorchModel(net, (torch.randn(1, 20),)).sparsity == pytest.approx(100 / 250)


def test_profile_and_summary(pair: tuple[taille.TorchModel, taille.CompiledModel]) -> None:
    _, native = pair
    profile = native.profile(inputs(3))
    assert [r.name for r in profile.rows] == [n["name"] for n in native.nodes()]
    assert profile.seconds > 0
    assert "linear" in profile.table
    assert "total" in str(profile)
    parsed = json.loads(profile.to_json())
    assert parsed["seconds"] == profile.seconds
    assert parsed["nodes"][0]["precision"] == "float32"
    summary = native.summary()
    for part in ("ids: int64[batch]", "linear", "float32", f"{native.size_bytes:,} bytes"):
        assert part in summary
    assert "linear" in native.dump()


def test_save_and_load(pair: tuple[taille.TorchModel, taille.CompiledModel], tmp_path: Path) -> None:
    model, native = pair
    path = tmp_path / "pair.safetensors"
    written = native.save(path)
    assert written == path.stat().st_size == native.size_bytes
    again = taille.load(path, threads=1)
    assert again.input_spec == native.input_spec
    assert again.metadata == native.metadata
    for a, b in zip(again.predict(inputs(4)), native.predict(inputs(4)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [p.name for p in tmp_path.iterdir()] == ["pair.safetensors"]  # nothing left beside
    model.save(path)
    assert taille.load(str(path)).predict(inputs(2))[0].shape == (2, 3)
    from safetensors.numpy import load_file

    assert "table.weight" in load_file(path)


def test_load_refuses(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no artefact at"):
        taille.load(tmp_path / "absent")
    bad = tmp_path / "bad"
    bad.write_bytes(b"not an artefact at all, but long enough")
    with pytest.raises(taille.ArtefactError, match="bad"):
        taille.load(bad)
    with pytest.raises((taille.ArtefactError, OSError)):
        taille.load(tmp_path)
    with pytest.raises(ValueError, match="threads is 0"):
        taille.load(bad, threads=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "not a JSON object"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"limits": [1]}', "limits"),
        ('{"limits": {"batch": ["a", 2]}}', "limits"),
        ('{"why": 3}', "the metadata's why"),
        ('{"sparsity": "much"}', "sparsity"),
    ],
)
def test_load_refuses_hostile_metadata(
    pair: tuple[taille.TorchModel, taille.CompiledModel], tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "m.safetensors"
    taille._native.save_artefact(str(path), pair[1].graph, text)
    with pytest.raises(taille.ArtefactError, match=message):
        taille.load(path)


def test_a_level_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    taille.TorchModel(mlp(), (torch.randn(2, 20),)).save(path)
    code = f"import taille\ntry: taille.load({str(path)!r})\nexcept taille.IsaError as e: print('IsaError:', e)"
    assert "avx9" in output_of_script(code, TAILLE_ISA="avx9")


def test_import_brings_numpy_at_most() -> None:
    code = (
        "import sys, taille; dir(taille); taille.load, taille.CompiledModel, taille.quantize_model\n"
        "print(sorted(m for m in ('torch', 'typer', 'rich', 'scipy', 'sympy', 'safetensors') if m in sys.modules))"
    )
    assert output_of_script(code) == "[]"


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        taille.optimise  # noqa: B018
    assert set(taille.__all__) <= set(dir(taille))
    for name in taille.__all__:
        assert getattr(taille, name) is not None


def test_version_is_that_of_the_project() -> None:
    pyproject = Path(__file__).resolve().parents[1] / "pyproject.toml"
    assert f'version = "{taille.__version__}"' in pyproject.read_text()


def test_without_torch_the_message_is_the_pip_line() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\nimport taille\n"
        "try: taille.TorchModel\nexcept ImportError as e: print(e)"
    )
    assert "pip install 'taille[torch]'" in output_of_script(code)


def test_running_never_imports_torch(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    taille.TorchModel(mlp(), (torch.randn(2, 20),)).save(path)
    code = (
        f"import sys, numpy, taille; m = taille.load({str(path)!r}); m.predict(numpy.zeros((3, 20), 'float32'))\n"
        "m.summary(); m.profile(numpy.zeros((3, 20), 'float32')); print('torch' in sys.modules)"
    )
    assert output_of_script(code) == "False"


def test_the_quick_way_takes_only_what_ran_before() -> None:
    g = _native.Graph()
    a, b = (g.add_input(name, "float32", ["batch", 3]) for name in "ab")
    g.add_output("y", g.add_node("sub", [a, b], {}, "y"))
    model = _native.Model(g, 1)
    one, two = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    assert model.run_again({"a": one, "b": two}) is None  # no plan yet
    model.run({"a": one, "b": two})
    for again in ({"a": one, "b": two}, {"b": two, "a": one}, (one, two)):
        (y,) = model.run_again(again)
        np.testing.assert_array_equal(y, one - two)
    odd = [
        (one,), (one, two, two), one, {"a": one}, {"a": one, "c": two}, {"a": one, "b": None}, None, "ab", [one, two],
        (one[:1], two[:1]), (one, two.astype(np.float64)), (one, two.astype(np.int32)), (one, two.astype(">f4")),
        (one, two.astype(np.complex64)), (one, np.asfortranarray(two)), (one, torch.ones(2, 3)),
    ]  # fmt: skip
    assert [model.run_again(other) for other in odd] == [None] * len(odd)
