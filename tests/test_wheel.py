"""tools/wheel.py repairs, checks and runs the wheel, and refuses one that is not fit; what cibuildwheel would build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from support import missing

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")


@pytest.fixture(scope="module")
def wheel() -> Path:
    if not (given := os.environ.get("TAILLE_WHEEL")):
        missing("TAILLE_WHEEL does not name a wheel of these sources")
    return Path(given)


def check(wheel: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, ROOT / "tools" / "wheel.py", "--wheel", wheel, "--out", out, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=out.parent, timeout=300)


def doctored(wheel: Path, folder: Path, leave_out: str = "", add: dict[str, bytes] | None = None) -> Path:
    """The wheel without the files whose names match, and with others."""
    path, add = folder / wheel.name, add or {}
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(path, "w") as new:
        files = {name: old.read(name) for name in old.namelist() if not leave_out or not re.search(leave_out, name)}
        (record,) = (name for name in files if name.endswith(".dist-info/RECORD"))
        lines = [line for line in files[record].decode().splitlines() if line.split(",")[0] in files]
        files[record] = "\n".join([*lines, *(f"{name},," for name in add), ""]).encode()
        for name, data in (files | add).items():
            new.writestr(name, data)
    return path


def failures(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 1, done.stdout + done.stderr
    return [line.removeprefix("FAILED ") for line in done.stderr.splitlines() if line.startswith("FAILED ")]


def test_the_wheel_is_fit_to_be_given_away(wheel: Path, tmp_path: Path) -> None:
    done = check(wheel, tmp_path / "dist")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "dist").iterdir()
    assert re.fullmatch(r"taille-\S+-manylinux_2_\d+_\w+\.whl", path.name)
    assert f"{len(list(GOLDEN.glob('*.safetensors')))} artefacts give the stored outputs" in done.stdout
    (needs,) = re.findall(r"\ntaille/lib/libtaille\.so: [\d,]+ bytes; needs (.*\n(?:  .*\n)+)", done.stdout)
    assert re.match(r".*libc\.so\.6.*\n(  .*\n)*  GLIBC_2\.\d+: \w+", needs)


def test_all_that_is_wrong_with_a_wheel_is_told(wheel: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(10_000_000)
    bad = doctored(wheel, tmp_path, r"taille\.hpp$|lib/cmake/", {"taille/noise.bin": noise})
    policy, size, *contents = failures(check(bad, tmp_path / "dist", "--glibc", "2.16"))
    assert re.fullmatch(r"policy: it needs systems like those with glibc 2\.\d+; wanted those with 2\.16", policy)
    assert re.fullmatch(r"size: 1\d,\d{3},\d{3} bytes; wanted fewer than 10,000,000", size)
    assert contents == [
        f"contents: taille/{part} is not in the wheel"
        for part in ("include/taille/taille.hpp", "lib/cmake/taille/taille-config.cmake",
                     "lib/cmake/taille/taille-config-version.cmake")
    ]  # fmt: skip
    assert not (tmp_path / "dist").exists()


def test_a_library_that_manylinux_does_not_promise_is_told(wheel: Path, tmp_path: Path) -> None:
    if not shutil.which("cc"):
        missing("there is no C compiler")
    (tmp_path / "other.c").write_text("int other(void) { return 1; }\n")
    (tmp_path / "user.c").write_text("int other(void);\nint user(void) { return other(); }\n")
    build = ["cc", "-shared", "-fPIC", f"-L{tmp_path}", f"-Wl,-rpath,{tmp_path}", "-o"]
    subprocess.run([*build, tmp_path / "libother.so", tmp_path / "other.c"], check=True)
    subprocess.run([*build, tmp_path / "user.so", tmp_path / "user.c", "-lother"], check=True)
    bad = doctored(wheel, tmp_path, add={"taille/user.so": (tmp_path / "user.so").read_bytes()})
    wrong = failures(check(bad, tmp_path / "dist"))
    assert [w for w in wrong if re.fullmatch(r"libraries: taille/user\.so needs libother\S*\.so, which .*", w)], wrong
    assert [w for w in wrong if re.fullmatch(r"libraries: auditwheel had to put a copy of libother.*", w)], wrong


def test_a_wheel_that_does_not_run_is_told(wheel: Path, tmp_path: Path) -> None:
    bad = doctored(wheel, tmp_path, r"^taille/arrays\.py$")
    (wrong,) = failures(check(bad, tmp_path / "dist"))
    assert wrong.startswith("running: tools/run_artefacts.py ended with 1")


def test_what_is_no_wheel_is_told(tmp_path: Path) -> None:
    done = check(tmp_path / "none.whl", tmp_path / "dist")
    assert done.returncode == 2
    assert f"--wheel: there is no file {tmp_path / 'none.whl'}" in done.stderr
    bad = tmp_path / "taille-0.1.0-cp311-cp311-linux_x86_64.whl"
    bad.write_bytes(b"PK")
    done = check(bad, tmp_path / "dist")
    assert done.returncode == 2
    assert done.stderr.startswith("wheel: auditwheel repair ended with 1:")


# ---- What runs artefacts, here and under cibuildwheel ----


def run_artefacts(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"import runpy, sys; sys.argv[1:] = [{str(folder)!r}]; {before}\n"
    code += f"runpy.run_path({str(ROOT / 'tools' / 'run_artefacts.py')!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_every_golden_artefact_has_its_outputs_stored() -> None:
    assert {f.stem for f in GOLDEN.glob("*.npz")} == {f.stem for f in GOLDEN.glob("*.safetensors")}


def test_another_output_is_told(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "mlp_v1.safetensors", tmp_path)
    with np.load(GOLDEN / "mlp_v1.npz") as file:
        arrays = dict(file)
    arrays["scores"][1, 0] = np.nextafter(arrays["scores"][1, 0], np.float32(np.inf))  # by one bit
    np.savez(tmp_path / "mlp_v1.npz", **arrays)
    done = run_artefacts(tmp_path)
    assert done.returncode == 1
    for threads in (1, 2):
        assert f"mlp_v1.safetensors: scores, {threads} threads: element 3 is " in done.stdout


def test_no_artefact_is_a_mistake(tmp_path: Path) -> None:
    done = run_artefacts(tmp_path)
    assert done.returncode == 1
    assert f"there is no artefact in {tmp_path}" in done.stdout


def test_more_imported_than_numpy_is_told(tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text("")
    done = run_artefacts(GOLDEN, f"sys.path.append({str(tmp_path)!r}); sys.modules.pop('numpy', None)")
    assert done.returncode == 0, done.stdout + done.stderr
    spy = "import builtins; real = builtins.__import__; "
    spy += "builtins.__import__ = lambda n, *a, **k: (n == 'taille' and real('greedy'), real(n, *a, **k))[1]"
    done = run_artefacts(GOLDEN, f"sys.path.append({str(tmp_path)!r}); {spy}")
    assert done.returncode == 1
    assert "to run artefacts imported greedy; wanted numpy alone" in done.stdout


# ---- cibuildwheel ----


@pytest.mark.parametrize(
    ("platform", "wanted"),
    [("linux", {"manylinux_x86_64", "manylinux_aarch64"}), ("macos", {"macosx_arm64"}), ("windows", set())],
)
def test_cibuildwheel_would_build(platform: str, wanted: set[str]) -> None:
    if sys.version_info < (3, 11):
        missing("cibuildwheel needs Python 3.11")
    command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform]
    env = {k: v for k, v in os.environ.items() if not k.startswith("CIBW_")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {f"cp31{minor}-{tag}" for minor in range(5) for tag in wanted}
