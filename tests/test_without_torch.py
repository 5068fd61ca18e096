"""The wheel alone, in a fresh environment that holds numpy and nothing else, gives the same bits."""

import fcntl
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from taille import _native

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 2**20


def pip(python: Path, *args: str) -> None:
    done = subprocess.run([python, "-m", "pip", *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """TAILLE_WHEEL where that names one of these sources, else one that is built here, which takes minutes."""
    if given := os.environ.get("TAILLE_WHEEL"):
        return Path(given)
    folder = tmp_path_factory.getbasetemp().parent / "wheel"  # of all workers, who would build in one folder
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(folder.glob("taille-*.whl")):
            pip(Path(sys.executable), "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT))
    (path,) = folder.glob("taille-*.whl")
    return path


@pytest.fixture(scope="module")
def bare_python(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip(python, "install", "-q", str(wheel))
    return python


def artefact(folder: Path) -> Path:
    """A small int8 convolutional net."""
    rng = np.random.default_rng(0)
    g = _native.Graph()
    x = g.add_input("images", "float32", ["batch", 3, 8, 8])
    w = g.add_constant("w", rng.standard_normal((16, 3, 3, 3)).astype(np.float32))
    y = g.add_node("conv2d", [x, w], {"padding": [1, 1, 1, 1]}, "conv")
    y = g.add_node("clamp", [y], {"lo": 0.0}, "relu")
    y = g.add_node("mean", [y], {"axes": [2, 3]}, "pool")
    fc = g.add_constant("fc", rng.standard_normal((10, 16)).astype(np.float32))
    g.add_output("scores", g.add_node("linear", [y, fc], {}, "fc"))
    graph, _ = _native.optimize(g)
    calibrator = _native.Calibrator(graph)
    calibrator.run({"images": images()})
    graph, _ = _native.quantize(graph, calibrator.ranges())
    path = folder / "net.safetensors"
    _native.save_artefact(str(path), graph, "")
    return path


def images() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((5, 3, 8, 8)).astype(np.float32)


RUN = """
import json, sys
import numpy, taille
model = taille.load(sys.argv[1], threads=1)
scores = model.predict(numpy.load(sys.argv[2]))
others = sorted(m for m in sys.modules if m.split(".")[0] in ("torch", "typer", "rich", "scipy", "safetensors"))
print(json.dumps([scores.view("uint32").tolist(), others, taille.__file__]))
"""


def test_same_bits_from_the_wheel_alone(bare_python, tmp_path):
    path = artefact(tmp_path)
    np.save(tmp_path / "x.npy", images())
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [bare_python, "-c", RUN, str(path), str(tmp_path / "x.npy")],
        capture_output=True, text=True, check=False, env=env, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores, others, where = json.loads(done.stdout)
    graph, _ = _native.load_artefact(str(path))
    here = _native.Model(graph, 2).run({"images": images()})[0]
    assert scores == here.view(np.uint32).tolist()
    assert others == []
    assert str(bare_python.parents[1]) in where


def test_what_needs_torch_says_how_to_get_it(bare_python, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [bare_python, "-c", "import taille; taille.TorchModel(None, ())"],
        capture_output=True, text=True, check=False, env=env, cwd=tmp_path,
    )  # fmt: skip
    assert "ImportError" in done.stderr
    assert "taille[torch]" in done.stderr


def test_the_command_line_says_how_to_get_it(bare_python, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [bare_python.parent / "taille", "doctor"], capture_output=True, text=True, check=False, env=env, cwd=tmp_path
    )
    assert done.returncode != 0
    assert "taille[cli]" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheel_is_small(wheel):
    assert wheel.stat().st_size < 10 * MEGABYTE
