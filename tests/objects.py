"""Reads the compiled objects: which instructions, symbols and spills each has.

A file's suffix (`_avx2`, `_avx512`, `_avx512vnni`, `_avx512vbmi`, `_amx`) names the CPU level it is built for. Were one
instruction above that level in it, or one function that the linker may share with other files, the library would crash
on older CPUs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEVELS = ["portable", "avx2", "avx512", "avx512vnni", "avx512vbmi", "amx"]

VNNI = re.compile(r"vpdp(busds?|wssds?)$")
VBMI = re.compile(r"vperm(b|[it]2b)$|vpmultishiftqb")
AMX = re.compile(r"tile(loadd|stored|zero|release)$|ldtilecfg|tdpbusd")
# AVX-512 beyond F, BW, DQ, VL, VNNI and VBMI: VBMI2, IFMA, BITALG, VPOPCNTDQ, BF16, CD, FP16, GFNI, AVX-VNNI-INT8;
# AMX beyond TILE and INT8.
NEVER = re.compile(
    r"vp(compress|expand)[bw]$|vpsh[lr]d|vpmadd52|vpshufbitqmb|vpopcnt|vdpbf16ps"
    r"|vcvtne|vpconflict|vplzcnt|v?gf2p8|tdp(bf16|fp16)|vpdp(b(ss|uu|su)|w(su|us|uu))ds?$"
    r"|v(?!cvtps2ph$|cvtph2ps$)\w+(ph|sh)$"
)
MULTIPLY_ADD = re.compile(r"vfn?m(add|sub)\w*ps|vpdp|vpmadd(wd|ubsw)|vpmulld")
MULTIPLY_ADD_S8 = re.compile(r"vpdp|vpmadd(wd|ubsw)|vpmulld")  # float ones there are the epilogue's


@dataclass(frozen=True)
class Instruction:
    address: int
    opcode: int  # the first byte after legacy prefixes: 0x62 is EVEX, 0xc4 and 0xc5 are VEX, in 64-bit code always
    mnemonic: str
    operands: str

    @property
    def jump_target(self) -> int | None:
        target = re.match(r"([0-9a-f]+) <", self.operands) if self.mnemonic.startswith("j") else None
        return int(target[1], 16) if target else None


def is_release(build: Path) -> bool:
    file = build / "CMakeCache.txt"
    text = file.read_text() if file.exists() else ""
    if "CMAKE_TOOLCHAIN_FILE" in text:  # for another architecture
        return False
    return "TAILLE_SANITIZE:STRING=\n" in text and "CMAKE_BUILD_TYPE:STRING=Release\n" in text


def newest_build() -> Path | None:
    """TAILLE_BUILD_DIR, or the release build below build/ that was linked last."""
    if named := os.environ.get("TAILLE_BUILD_DIR"):
        return Path(named)
    builds = {
        max(file.stat().st_mtime for file in modules): folder
        for folder in (ROOT / "build").glob("*")
        if is_release(folder) and (modules := list(folder.rglob("libtaille_base.a")))
    }
    return builds[max(builds)] if builds else None


def objects(build: Path) -> list[Path]:
    """The objects of the current sources, which a build folder may hold beside some of sources that are gone."""
    entries = json.loads((build / "compile_commands.json").read_text())
    names = [re.search(r" -o (\S+\.o) ", entry["command"]) for entry in entries]
    return [file for name in names if name and (file := build / name[1]).exists()]


def level_of(file: Path) -> str:
    suffix = file.name.split(".")[0].rpartition("_")[2]
    return suffix if suffix in LEVELS else "portable"


def have_tools() -> bool:
    return all(shutil.which(tool) for tool in ("objdump", "nm"))


def tool(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def weak_symbols(file: Path) -> list[str]:
    """Symbols that the linker may take from any object that has them, whatever that was compiled for."""
    lines = tool("nm", "--demangle", str(file)).splitlines()
    found = [re.match(r"[0-9a-f ]+ [WVu] (.*)", line) for line in lines]
    return [match[1] for match in found if match and not match[1].startswith("DW.ref.")]


@cache
def functions(file: Path) -> dict[str, list[Instruction]]:
    """The disassembly, by section and function."""
    out: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in tool("objdump", "-d", "--demangle", "--wide", str(file)).splitlines():
        if start := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            current = out.setdefault(start[1], [])
        elif found := re.match(
            r" *([0-9a-f]+):\t([0-9a-f ]+)\t(?:(?:rep|repz|lock|notrack|bnd|data16) )*(\S+) *(.*)", line
        ):
            code = [int(byte, 16) for byte in found[2].split()]
            opcode = next((byte for byte in code if byte not in (0x64, 0x65, 0x66, 0x67, 0x2E, 0xF2, 0xF3, 0xF0)), 0x66)
            current.append(Instruction(int(found[1], 16), opcode, found[3], found[4].split("#")[0]))
    return out


def is_above(level: str, one: Instruction) -> bool:
    vex, evex = one.opcode in (0xC4, 0xC5), one.opcode == 0x62
    if level == "portable":
        return vex or evex
    if NEVER.match(one.mnemonic):
        return True
    for needed, family in (("avx512vnni", VNNI), ("avx512vbmi", VBMI), ("amx", AMX)):
        if family.match(one.mnemonic) and LEVELS.index(level) < LEVELS.index(needed):
            return True
    return level == "avx2" and (evex or re.search(r"%k[0-7]", one.operands) is not None)


def instructions_above(file: Path, level: str) -> list[str]:
    return [
        f"{name}: {one.mnemonic} {one.operands}"
        for name, body in functions(file).items()
        for one in body
        if is_above(level, one)
    ]


def innermost_loops(body: list[Instruction]) -> Iterator[list[Instruction]]:
    loops = [(target, one.address) for one in body if (target := one.jump_target) is not None and target <= one.address]
    for first, last in loops:
        if not any((a, b) != (first, last) and first <= a and b <= last for a, b in loops):
            yield [one for one in body if first <= one.address <= last]


def spills(file: Path) -> dict[str, list[str]]:
    """Vector registers read from or written to the stack in the innermost loops that multiply and add, by function."""
    out: dict[str, list[str]] = {}
    multiply_add = MULTIPLY_ADD_S8 if "_s8" in file.name else MULTIPLY_ADD
    for name, body in functions(file).items():
        framed = any(one.mnemonic == "mov" and one.operands == "%rsp,%rbp" for one in body)
        stack = re.compile(r"\(%r[sb]p" if framed else r"\(%rsp")
        for loop in innermost_loops(body):
            on_stack = [one for one in loop if re.search(r"%[yz]mm", one.operands) and stack.search(one.operands)]
            if on_stack and sum(bool(multiply_add.match(one.mnemonic)) for one in loop) >= 4:
                out.setdefault(name, []).extend(f"{one.mnemonic} {one.operands}" for one in on_stack)
    return out
