"""libtaille from C and C++: built by CMake against the package as it is installed; the bits are those of Python."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from plain_models import echo
from support import missing
from taille import _native
from taille.runner_choice import KEY, RunnerChoice, this_cpu, with_choice

ROOT = Path(__file__).resolve().parents[1]
F32 = np.float32
CODES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 4, "int64": 5, "bool": 6}
Arrays = dict[str, np.ndarray[Any, Any]]


def readme_examples() -> dict[str, str]:
    """The C and C++ programs of the README, by the file names that they get."""
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(c|cpp)\n(.*?)```", text, re.DOTALL)
    return {f"readme_{language}.{language}": code for language, code in blocks}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the programs of tests/embed and of the README, built as a user builds."""
    tools = {name: str(beside) if (beside := Path(sys.executable).parent / name).exists() else shutil.which(name)
             for name in ("cmake", "ninja")}  # fmt: skip
    if not all(tools.values()) or not shutil.which("c++"):
        missing("cmake, ninja and a compiler are not all installed")
    try:
        cmake_dir = taille.get_cmake_dir()
    except FileNotFoundError as error:
        missing(str(error))
    folder = tmp_path_factory.mktemp("embed")
    for name, code in readme_examples().items():
        (folder / name).write_text(code)
    examples = ";".join(str(folder / name) for name in readme_examples())
    version = ".".join(taille.__version__.split(".")[:2])
    for command in (
        [tools["cmake"], "-S", str(ROOT / "tests" / "embed"), "-B", str(folder), "-G", "Ninja",
         f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}", f"-Dtaille_DIR={cmake_dir}", f"-DTAILLE_WANTED={version}",
         f"-DEXAMPLES={examples}"],
        [tools["cmake"], "--build", str(folder)],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pair(metadata: dict[str, Any]) -> taille.CompiledModel:
    """Two inputs that share their batch, two outputs."""
    rng = np.random.default_rng(0)
    g = _native.Graph()
    ids = g.add_input("ids", "int64", ["batch"])
    x = g.add_input("x", "float32", ["batch", 4])
    table = g.add_constant("table", rng.standard_normal((10, 4), F32))
    weight = g.add_constant("weight", rng.standard_normal((3, 4), F32))
    y = g.add_node("add", [g.add_node("embedding", [table, ids], {}, "look"), x], {}, "sum")
    g.add_output("y", g.add_node("linear", [y, weight], {}, "linear"))
    g.add_output("mean", g.add_node("mean", [y], {"axes": [1]}, "mean"))
    g.output_structure = "tuple"
    return taille.CompiledModel(_native.optimize(g)[0], metadata, threads=1)


def convolution() -> taille.CompiledModel:
    """A small int8 convolutional net."""
    rng = np.random.default_rng(0)
    g = _native.Graph()
    x = g.add_input("images", "float32", ["batch", 3, 8, 8])
    y = g.add_node(
        "conv2d", [x, g.add_constant("w", rng.standard_normal((16, 3, 3, 3), F32))], {"padding": [1, 1, 1, 1]}, "conv"
    )
    y = g.add_node("mean", [g.add_node("clamp", [y], {"lo": 0.0}, "relu")], {"axes": [2, 3]}, "pool")
    g.add_output(
        "scores", g.add_node("linear", [y, g.add_constant("fc", rng.standard_normal((10, 16), F32))], {}, "fc")
    )
    graph, _ = _native.optimize(g)
    calibrator = _native.Calibrator(graph)
    calibrator.run({"images": rng.standard_normal((5, 3, 8, 8), F32)})
    graph, _ = _native.quantize(graph, calibrator.ranges())
    return taille.CompiledModel(graph, {}, threads=1)


def write_arrays(path: Path, arrays: Arrays) -> None:
    path.write_bytes(b"".join(
        np.array([a.ndim, *a.shape], np.int64).tobytes() + np.ascontiguousarray(a).tobytes() for a in arrays.values()
    ))  # fmt: skip


def read_arrays(path: Path, specs: tuple[taille.TensorSpec, ...]) -> Arrays:
    data, out = path.read_bytes(), {}
    for spec in specs:
        rank = int(np.frombuffer(data[:8], np.int64)[0])
        dims = np.frombuffer(data[8 : 8 * (rank + 1)], np.int64)
        count = int(dims.prod()) * np.dtype(spec.dtype).itemsize
        body, data = data[8 * (rank + 1) :][:count], data[8 * (rank + 1) + count :]
        out[spec.name] = np.frombuffer(body, spec.dtype).reshape(dims)
    assert data == b""
    return out


def told(model: taille.CompiledModel) -> list[str]:
    """The lines in which the programs describe this model."""
    return [
        " ".join([what, s.name, str(CODES[s.dtype]), *(f"{d}={d if isinstance(d, int) else -1}" for d in s.shape)])
        for what, specs in (("input", model.input_spec), ("output", model.output_spec))
        for s in specs
    ]


def cases() -> dict[str, tuple[taille.CompiledModel, Arrays]]:
    rng = np.random.default_rng(1)
    two = {"ids": rng.integers(0, 10, 7), "x": rng.standard_normal((7, 4), F32)}
    return {"two inputs": (pair({}), two), "int8": (convolution(), {"images": rng.standard_normal((5, 3, 8, 8), F32)})}


@pytest.mark.parametrize("program", ["run_c", "run_cpp"])
@pytest.mark.parametrize("case", ["two inputs", "int8"])
def test_same_bits_as_python(programs: Path, tmp_path: Path, program: str, case: str) -> None:
    model, inputs = cases()[case]
    model.save(tmp_path / "model.safetensors")
    write_arrays(tmp_path / "in", inputs)
    for threads in (1, 2):
        done = subprocess.run(
            [programs / program, tmp_path / "model.safetensors", str(threads), tmp_path / "in", tmp_path / "out"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == told(model)
        wanted = model.predict(inputs)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        for given, array in zip(read_arrays(tmp_path / "out", model.output_spec).values(), wanted, strict=True):
            np.testing.assert_array_equal(given.view(np.uint32), array.view(np.uint32))
        (tmp_path / "out").unlink()


def averages() -> taille.CompiledModel:
    """Images of the README's size to 2 numbers."""
    g = _native.Graph()
    y = g.add_node("mean", [g.add_input("images", "float32", ["batch", 3, 32, 32])], {"axes": [2, 3]}, "pool")
    fc = g.add_constant("fc", np.array([[1, 2, 3], [4, 5, 6]], F32))
    bias = g.add_constant("bias", np.array([0.25, 0.5], F32))
    g.add_output("scores", g.add_node("linear", [y, fc, bias], {}, "fc"))
    return taille.CompiledModel(_native.optimize(g)[0], {}, threads=1)


@pytest.mark.parametrize(("program", "pixel", "before"), [("readme_c", 0.0, ""), ("readme_cpp", 0.5, "scores: ")])
def test_the_examples_of_the_readme(programs: Path, tmp_path: Path, program: str, pixel: float, before: str) -> None:
    model = averages()
    model.save(tmp_path / "model.safetensors")
    done = subprocess.run(
        [programs / program, tmp_path / "model.safetensors"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    wanted = model.predict(np.full((1, 3, 32, 32), pixel, F32))[0, 0]
    assert done.stdout == f"{before}{wanted:g}\n"
    failed = subprocess.run([programs / program, tmp_path / "none"], capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "cannot be opened" in failed.stderr


def test_bad_arguments_from_c(programs: Path, tmp_path: Path) -> None:
    pair({"limits": {"batch": [None, 64]}}).save(tmp_path / "model.safetensors")
    seed = random.randrange(2**32)
    done = subprocess.run(
        [programs / "bad_arguments", tmp_path / "model.safetensors", str(seed)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0), f"seed {seed}\n{done.stdout}{done.stderr}"


def test_requests_in_flight_from_c(programs: Path, tmp_path: Path) -> None:
    pair({"limits": {"batch": [None, 4]}}).save(tmp_path / "model.safetensors")
    seed = random.randrange(2**32)
    done = subprocess.run(
        [programs / "in_flight", tmp_path / "model.safetensors", str(seed)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0), f"seed {seed}\n{done.stdout}{done.stderr}"


def test_requests_in_flight_from_cpp(programs: Path, tmp_path: Path) -> None:
    convolution().save(tmp_path / "model.safetensors")
    done = subprocess.run(
        [programs / "runner_cpp", tmp_path / "model.safetensors"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def told_of_a_runner(programs: Path, path: Path, threads: int) -> tuple[list[float], str]:
    done = subprocess.run(
        [programs / "runner_choice", path, str(threads)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    options, batches = done.stdout.splitlines()
    return [float(x) for x in options.split()], batches


def test_a_runner_in_c_runs_as_the_artefact_says_for_this_cpu(programs: Path, tmp_path: Path) -> None:
    path, granted = tmp_path / "m.safetensors", _native.granted_threads()[0]
    choice = RunnerChoice(streams=1, threads=granted, max_batch=1, timeout=0.03, max_latency=7)
    plain = [1, 0, 64, 0.1, 0.2]
    with_choice(echo(), choice, {}).save(path)
    assert told_of_a_runner(programs, path, 0) == ([1, granted, 1, 0.03, 7], "200 one by one")
    assert told_of_a_runner(programs, path, 1) == ([1, 0, 1, 0.03, 7], "200 one by one")
    other = {"another CPU": choice.options()}
    nonsense: list[Any] = [3, {}, [choice.options()], choice.options() | {"max_latency": 0.0}]
    nonsense += [choice.options() | {"streams": granted + 1}, choice.options() | {"max_batch": 0.5}]
    for kept in (other, [other], *({this_cpu(): one} for one in nonsense)):
        echo(metadata={KEY: kept}).save(path)
        assert told_of_a_runner(programs, path, 0) == (plain, "200 together"), kept


@pytest.mark.parametrize("limits", [[1], {"batch": 3}, {"batch": [1, 2.5]}, "x"])
def test_damaged_limits_are_refused(programs: Path, tmp_path: Path, limits: Any) -> None:
    path = tmp_path / "model.safetensors"
    _native.save_artefact(str(path), pair({}).graph, json.dumps({"limits": limits}))
    done = subprocess.run([programs / "run_c", path, "1", "-", "-"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "artefact error: taille_model_open: " in done.stderr
    assert "the metadata's limits are not [least, most] by dimension" in done.stderr


def test_only_the_api_is_visible(programs: Path) -> None:
    library = Path(taille.get_cmake_dir()).parents[1] / "libtaille.so"
    if not shutil.which("nm"):
        missing("nm (binutils) is not installed")
    lines = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    names = {line.split()[-1] for line in lines.splitlines()}
    header = (Path(taille.get_include()) / "taille" / "taille.h").read_text()
    assert names == set(re.findall(r"TAILLE_API [\w* ]*?(taille_\w+)\(", header))


def test_the_library_needs_what_every_linux_has(programs: Path) -> None:
    library = Path(taille.get_cmake_dir()).parents[1] / "libtaille.so"
    done = subprocess.run(["objdump", "-p", library], capture_output=True, text=True, check=True)
    needed = set(re.findall(r"NEEDED +(\S+?)\.so", done.stdout))
    assert needed <= {"libc", "libm", "libpthread", "libstdc++", "libgcc_s", "ld-linux-x86-64", "ld-linux-aarch64"}
