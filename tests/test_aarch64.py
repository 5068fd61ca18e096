"""AArch64: the kernels, cross-compiled and run under emulation, give the reference's bits and those of x86-64.

`tests/native/check_kernels.cpp` is one program for all architectures. What emulation cannot tell is speed.
"""

from __future__ import annotations

import fcntl
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from objects import newest_build, objects, weak_symbols
from support import missing
from taille import _native

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "aarch64-check"
# Only what FEAT_DotProd adds; FEAT_I8MM and SVE would be above every level.
DOT, NEVER = re.compile(r"[su]dot$"), re.compile(r"usdot|sudot|u?s?mmla|bfdot|ptrue|whilelo")


def finished(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def program() -> Path:
    """check_kernels for AArch64."""
    tools = {name: shutil.which(name) for name in ("aarch64-linux-gnu-g++", "qemu-aarch64")}
    for name in ("cmake", "ninja"):
        beside = Path(sys.executable).parent / name
        tools[name] = str(beside) if beside.exists() else shutil.which(name)
    lacking = [name for name, path in tools.items() if path is None]
    if lacking:
        missing(f"there is no {', '.join(lacking)} (g++-aarch64-linux-gnu, qemu-user; pip), so AArch64 is not tested")
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:  # of pytest's workers one builds
        fcntl.flock(lock, fcntl.LOCK_EX)
        finished(tools["cmake"], "--preset", "aarch64-check", f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}")
        finished(tools["cmake"], "--build", "--preset", "aarch64-check", "--parallel", "2")
    return BUILD / "tests" / "native" / "check_kernels"


def digests(output: str) -> dict[str, str]:
    return dict(re.findall(r"^digest (\S+) (\S+)$", output, re.MULTILINE))


def calls(output: str) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for op, variant in re.findall(r"^(\S+) (\S+): [1-9]\d* calls$", output, re.MULTILINE):
        out.setdefault(op, set()).add(variant)
    return out


def test_every_variant_gives_the_reference_s_bits(program: Path, tmp_path: Path) -> None:
    # Of QEMU's CPUs, `max` has the dot products and this one, as a Raspberry Pi 3 has it, does not.
    with_dot = finished("qemu-aarch64", "-cpu", "max", program, "neondot")
    without = finished("qemu-aarch64", "-cpu", "cortex-a53", program, "neon")
    assert calls(with_dot)["gemm_s8"] == {"neondot", "portable"}
    assert calls(without)["gemm_s8"] == {"portable"}
    for output in (with_dot, without):
        assert {"neon"} <= calls(output)["gemm_f32"] & calls(output)["unary"] & calls(output)["quantize"]
    assert digests(with_dot) == digests(without)

    if platform.machine() == "x86_64":
        assert digests(with_dot) == digests(native_output(tmp_path))


def native_output(tmp_path: Path) -> str:
    """The same program, of this machine's own kernels."""
    build = newest_build()
    if build is None:
        missing("there is no release build below build/ (nor TAILLE_BUILD_DIR) whose kernels could be linked")
    out, source = tmp_path / "check_kernels", tmp_path / "all.cpp"
    source.write_text("".join(f'#include "{file}"\n' for file in sorted((ROOT / "tests" / "native").glob("*.cpp"))))
    libraries = [build / "cpp" / layer / f"libtaille_{layer}.a" for layer in ("kernels", "base")]
    finished("c++", "-std=c++20", "-O1", "-ffp-contract=off", "-Icpp", source, *libraries, "-pthread", "-o", out)
    return finished(out, _native.detect_isa())


def test_libtaille_gives_the_bits_of_this_machine(tmp_path: Path) -> None:
    library = ROOT / "build" / "aarch64" / "cpp" / "runtime" / "libtaille.so"
    if not library.exists():  # CI has not the minutes for it
        pytest.skip("libtaille is not built for AArch64 (cmake --preset aarch64 && cmake --build --preset aarch64)")
    run = tmp_path / "run_c"
    finished(
        "aarch64-linux-gnu-gcc", "-Icpp/include", "tests/embed/run_c.c", library, "-o", run,
        f"-Wl,-rpath,{library.parent}",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for file in sorted((ROOT / "tests" / "golden").glob("*.safetensors")):
        model = taille.load(file, threads=1)
        named = {spec.name: example(rng, spec) for spec in model.input_spec}
        wanted, inputs = arrays(model.predict(named)), list(named.values())
        (tmp_path / "in").write_bytes(b"".join(np.int64([x.ndim, *x.shape]).tobytes() + x.tobytes() for x in inputs))
        for cpu in ("max", "cortex-a53"):
            finished("qemu-aarch64", "-cpu", cpu, "-L", "/usr/aarch64-linux-gnu", run, file, 2, tmp_path / "in",
                     tmp_path / "out")  # fmt: skip
            data = (tmp_path / "out").read_bytes()
            for y in wanted:
                head = np.int64([y.ndim, *y.shape]).tobytes()
                assert data[: len(head)] == head, file.name
                assert data[len(head) :][: y.nbytes] == y.tobytes(), (file.name, cpu)
                data = data[len(head) + y.nbytes :]
            assert data == b""


def arrays(outputs: Any) -> list[np.ndarray]:
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def example(rng: np.random.Generator, spec: taille.TensorSpec) -> np.ndarray:
    shape = [dim if isinstance(dim, int) else 3 for dim in spec.shape]
    if spec.dtype == "int64":
        return rng.integers(0, 2, shape)
    return rng.standard_normal(shape, np.float32)


def test_a_level_that_is_not_there_is_told(program: Path) -> None:
    done = subprocess.run(
        ["qemu-aarch64", "-cpu", "cortex-a53", str(program), "neondot"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "WRONG level: wanted 'neondot'"


def test_objects_hold_no_instruction_above_their_level(program: Path) -> None:
    files = [file for file in objects(BUILD) if "kernels" in file.parts]
    assert {"gemm_s8_neondot.cpp.o", "gemm_f32_neon.cpp.o", "gemm_s8_ref.cpp.o"} <= {file.name for file in files}
    for file in files:
        found = {line.split()[0] for line in re.findall(r"^ +[0-9a-f]+:\t(.*)", disassembly(file), re.MULTILINE)}
        assert not any(map(NEVER.match, found)), file.name
        dot = any(map(DOT.match, found))
        assert dot == file.name.endswith("_neondot.cpp.o"), file.name
        if "_neon" in file.name:
            assert weak_symbols(file) == [], file.name


def disassembly(file: Path) -> str:
    return finished("aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", file)
