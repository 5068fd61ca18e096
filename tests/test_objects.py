"""No object holds an instruction above its CPU level, shares code across levels, or spills its accumulators."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from objects import (
    functions,
    have_tools,
    innermost_loops,
    instructions_above,
    level_of,
    newest_build,
    objects,
    spills,
    weak_symbols,
)
from support import missing
from taille import _native

if platform.machine() not in ("x86_64", "AMD64"):
    pytest.skip("the CPU levels are x86-64's", allow_module_level=True)
if not have_tools():
    missing("objdump and nm (binutils) are not installed")
BUILD = newest_build()
if BUILD is None:
    missing("there is no release build below build/ (nor TAILLE_BUILD_DIR) whose objects could be read")

OBJECTS = objects(BUILD)
IDS = [file.name for file in OBJECTS]


def test_finds_objects() -> None:
    assert {"isa.cpp.o", "thread_pool.cpp.o", "kernel_table.cpp.o"} <= {file.name for file in OBJECTS}


@pytest.mark.parametrize("file", OBJECTS, ids=IDS)
def test_no_instruction_above_the_level(file: Path) -> None:
    assert instructions_above(file, level_of(file)) == []


@pytest.mark.parametrize("file", [file for file in OBJECTS if level_of(file) != "portable"], ids=lambda file: file.name)
def test_level_objects_share_no_code(file: Path) -> None:
    assert weak_symbols(file) == []


@pytest.mark.parametrize(
    "file",
    [file for file in OBJECTS if level_of(file) != "portable" and file.name.startswith(("gemm", "conv", "depthwise"))],
    ids=lambda file: file.name,
)
def test_multiply_add_loops_do_not_spill(file: Path) -> None:
    # 16 registers hold a 4x2 tile with its operands but for one: a load and a store per 16 products and more, off the
    # critical path. 32 registers leave no excuse.
    allowed = 2 if level_of(file) == "avx2" else 0
    assert {loop: found for loop, found in spills(file).items() if len(found) > allowed} == {}


SAMPLE = r"""
#include <immintrin.h>
inline __attribute__((noinline)) int shared_by_all(int x) { return x * 3; }
extern "C" int use(int x) { return shared_by_all(x); }
extern "C" void scale(float* x, long n) { for (long i = 0; i < n; ++i) x[i] *= 2; }
#ifdef __AVX512F__
extern "C" __m512i many(const __m512i* a, const __m512i* b, long n) {
  __m512i s[40] = {};
  for (long p = 0; p < n; ++p)
#pragma GCC unroll 40
    for (int i = 0; i < 40; ++i)
      s[i] = _mm512_add_epi32(s[i], _mm512_madd_epi16(a[p * 40 + i], b[p]));
  for (int i = 1; i < 40; ++i) s[0] = _mm512_xor_si512(s[0], s[i]);
  return s[0];
}
#endif
#ifdef __AVX512VNNI__
extern "C" __m512i dot(__m512i s, __m512i a, __m512i b) { return _mm512_dpbusd_epi32(s, a, b); }
#endif
#ifdef __AVX512VBMI__
extern "C" __m512i bytes(__m512i a, __m512i b) { return _mm512_permutexvar_epi8(a, b); }
#endif
#ifdef __AMX_INT8__
extern "C" void tiles() { _tile_dpbusd(0, 1, 2); }
#endif
"""


def compiled(folder: Path, name: str, *flags: str) -> Path:
    source, out = folder / f"{name}.cpp", folder / f"{name}.cpp.o"
    source.write_text(SAMPLE)
    done = subprocess.run(["c++", "-std=c++20", "-O3", *flags, "-c", str(source), "-o", str(out)], check=False)
    if done.returncode != 0:
        missing("the C++ compiler cannot compile the sample")
    return out


def test_the_checks_see_what_is_wrong(tmp_path: Path) -> None:
    avx512 = ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512")
    portable = compiled(tmp_path, "sample")
    avx2 = compiled(tmp_path, "sample_avx2", "-mavx2")
    wide = compiled(tmp_path, "sample_avx512", *avx512)
    vnni = compiled(tmp_path, "sample_avx512vnni", *avx512, "-mavx512vnni")
    vbmi = compiled(tmp_path, "sample_avx512vbmi", *avx512, "-mavx512vnni", "-mavx512vbmi")
    tiles = compiled(tmp_path, "sample_amx", *avx512, "-mavx512vnni", "-mavx512vbmi", "-mamx-tile", "-mamx-int8")
    clean = {portable: "portable", avx2: "avx2", wide: "avx512", vnni: "avx512vnni", vbmi: "avx512vbmi", tiles: "amx"}
    for file, level in clean.items():
        assert level_of(file) == level
        assert instructions_above(file, level) == []
        assert weak_symbols(file) == ["shared_by_all(int)"]
    for file, level in [
        (avx2, "portable"),
        (wide, "avx2"),
        (vnni, "avx512"),
        (vbmi, "avx512vnni"),
        (tiles, "avx512vbmi"),
    ]:
        assert instructions_above(file, level)
    assert any(list(innermost_loops(body)) for body in functions(portable).values())
    assert spills(avx2) == {}
    assert len(spills(wide)["many"]) >= 8


def test_the_extension_shows_its_entry_alone() -> None:
    # Else what is linked into it, such as a static libstdc++, mixes with that of other libraries in the process.
    shown = subprocess.run(["nm", "-D", "--defined-only", _native.__file__], capture_output=True, text=True, check=True)
    assert [line.split()[-1] for line in shown.stdout.splitlines()] == ["PyInit__native"]
