"""CPU levels, the thread grant and the thread pool."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

import taille.errors
from support import missing, output_of, run_python
from taille import _native

LEVELS = ["portable", "avx2", "avx512", "avx512vnni", "avx512vbmi", "amx"]

# CPUID and XCR0 bits, from Intel's manual (volume 2, CPUID; volume 1, 13.3), not from the code under test.
FMA, OSXSAVE, AVX, F16C = 1 << 12, 1 << 27, 1 << 28, 1 << 29
AVX2, BMI2 = 1 << 5, 1 << 8
AVX512F, AVX512DQ, AVX512BW, AVX512VL = 1 << 16, 1 << 17, 1 << 30, 1 << 31
VNNI = 1 << 11
VBMI = 1 << 1
AMX = 1 << 24 | 1 << 25  # TILE, INT8
LEAF1, LEAF7_AVX2, LEAF7_AVX512 = FMA | OSXSAVE | AVX | F16C, AVX2 | BMI2, AVX512F | AVX512DQ | AVX512BW | AVX512VL
X87_SSE, YMM, ZMM, TILES = 0b11, 0b111, 0b11100111, 0b11 << 17 | 0b11100111


class TestIsa:
    def test_levels_are_ordered_and_supported_ones_come_first(self) -> None:
        assert _native.isa_levels() == LEVELS
        supported = _native.supported_isas()
        assert supported == LEVELS[: len(supported)]
        assert _native.detect_isa() == supported[-1]

    def test_agrees_with_the_kernel(self) -> None:
        flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
        has = set(flags.split())
        assert ("avx2" in _native.supported_isas()) == ({"avx2", "fma", "f16c", "bmi2"} <= has)
        assert ("avx512" in _native.supported_isas()) == (
            {"avx2", "fma", "f16c", "bmi2", "avx512f", "avx512bw", "avx512dq", "avx512vl"} <= has
        )

    @pytest.mark.parametrize(
        ("leaf1", "leaf7_ebx", "leaf7_ecx", "leaf7_edx", "xcr0", "level"),
        [
            (0, 0, 0, 0, 0, "portable"),
            (LEAF1, LEAF7_AVX2, 0, 0, YMM, "avx2"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, 0, 0, ZMM, "avx512"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI, 0, ZMM, "avx512vnni"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI | VBMI, 0, ZMM, "avx512vbmi"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VBMI, 0, ZMM, "avx512"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI | VBMI, AMX, TILES, "amx"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI | VBMI, AMX, ZMM, "avx512vbmi"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI | VBMI, 1 << 24, TILES, "avx512vbmi"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI, AMX, TILES, "avx512vnni"),
            # The OS does not save the registers.
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI, 0, YMM, "avx2"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI, 0, X87_SSE, "portable"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512, VNNI, 0, 0, "portable"),
            # One feature of a level is not there.
            (LEAF1 & ~FMA, LEAF7_AVX2, 0, 0, YMM, "portable"),
            (LEAF1 & ~F16C, LEAF7_AVX2, 0, 0, YMM, "portable"),
            (LEAF1, AVX2, 0, 0, YMM, "portable"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512 & ~AVX512VL, VNNI, 0, ZMM, "avx2"),
            (LEAF1, LEAF7_AVX2 | LEAF7_AVX512 & ~AVX512BW, VNNI, 0, ZMM, "avx2"),
        ],
    )
    def test_level_from_registers(
        self, leaf1: int, leaf7_ebx: int, leaf7_ecx: int, leaf7_edx: int, xcr0: int, level: str
    ) -> None:
        assert _native.isa_from_bits(leaf1, leaf7_ebx, leaf7_ecx, leaf7_edx, xcr0) == level

    @pytest.mark.parametrize("best", LEVELS)
    def test_forced_level(self, best: str) -> None:
        for forced in LEVELS:
            if LEVELS.index(forced) <= LEVELS.index(best):
                assert _native.choose_isa(forced, best) == forced
            else:
                with pytest.raises(taille.errors.IsaError, match=f"'{forced}' is more than this CPU has.*{best}"):
                    _native.choose_isa(forced, best)
        assert _native.choose_isa("", best) == best

    def test_require(self) -> None:
        for level in _native.supported_isas():
            _native.require_isa(level)
        for level in set(LEVELS) - set(_native.supported_isas()):
            with pytest.raises(taille.errors.IsaError):
                _native.require_isa(level)
        with pytest.raises(ValueError, match="'sse9' is not known; the known levels are portable, avx2"):
            _native.require_isa("sse9")

    def test_environment_forces_each_supported_level(self) -> None:
        code = "from taille import _native; print(_native.active_isa(), _native.detect_isa())"
        for level in _native.supported_isas():
            assert output_of(code, TAILLE_ISA=level) == f"{level} {_native.detect_isa()}"

    def test_environment_is_refused_loudly(self) -> None:
        done = run_python("from taille import _native; _native.active_isa()", TAILLE_ISA="avx9000")
        assert done.returncode != 0
        for part in ["IsaError", "TAILLE_ISA", "avx9000", "avx512vnni", "this CPU", _native.cpu_name()]:
            assert part in done.stderr

    def test_environment_above_the_cpu_is_refused(self) -> None:
        above = LEVELS[len(_native.supported_isas()) :]
        if not above:  # this CPU has all levels: the same rule is tested by test_forced_level
            return
        done = run_python("from taille import _native; _native.active_isa()", TAILLE_ISA=above[0])
        assert "IsaError" in done.stderr

    def test_cpu_name(self) -> None:
        assert _native.cpu_name().strip() == _native.cpu_name() != ""


def fake_cgroup(root: Path, proc: str, files: dict[str, str]) -> tuple[str, str]:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(proc)
    (root / "cgroup").mkdir()
    for name, text in files.items():
        (root / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "cgroup" / name).write_text(text)
    return str(root / "proc"), str(root / "cgroup")


CPUS = len(os.sched_getaffinity(0))


class TestGrant:
    @pytest.fixture(autouse=True)
    def without_omp(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    @pytest.mark.parametrize(
        ("proc", "files", "threads"),
        [
            pytest.param("0::/\n", {"cpu.max": "max 100000\n"}, CPUS, id="v2-unlimited"),
            pytest.param("0::/\n", {"cpu.max": "100000 100000\n"}, 1, id="v2-one"),
            pytest.param("0::/\n", {"cpu.max": "20000 100000\n"}, 1, id="v2-fifth"),
            pytest.param("0::/a/b\n", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1, id="v2-parent"),
            pytest.param("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "9900000 1"}, 1, id="v2-own"),
            pytest.param("0::/docker/1f\n", {"cpu.max": "90000 100000"}, 1, id="v2-only-root-visible"),
            pytest.param("0::/a\n", {"ab/cpu.max": "10000 100000"}, CPUS, id="v2-not-a-sibling"),
            pytest.param("0::/../../x\n", {"cpu.max": "100000 100000"}, 1, id="v2-outside-namespace"),
            pytest.param("0::/\n", {"cpu.max": "garbage"}, CPUS, id="v2-garbage"),
            pytest.param("0::/\n", {}, CPUS, id="no-files"),
            pytest.param("", {"cpu.max": "100000 100000"}, CPUS, id="no-cgroup"),
            pytest.param(
                "4:cpu,cpuacct:/box\n",
                {"cpu,cpuacct/box/cpu.cfs_quota_us": "100000", "cpu,cpuacct/box/cpu.cfs_period_us": "100000"},
                1,
                id="v1",
            ),
            pytest.param(
                "4:cpuacct,cpu:/box\n0::/\n",
                {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"},
                1,
                id="v1-parent-under-short-name",
            ),
            pytest.param(
                "3:cpuset:/\n4:cpu:/\n",
                {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"},
                CPUS,
                id="v1-unlimited",
            ),
        ],
    )
    def test_cgroup_quota(self, tmp_path: Path, proc: str, files: dict[str, str], threads: int) -> None:
        granted, reason = _native.granted_threads(*fake_cgroup(tmp_path, proc, files))
        assert granted == threads
        assert ("quota" in reason) == (threads < CPUS)

    def test_quota_is_rounded_up(self, tmp_path: Path) -> None:
        if CPUS < 2:
            pytest.skip("one CPU")
        roots = fake_cgroup(tmp_path, "0::/\n", {"cpu.max": "110000 100000\n"})
        assert _native.granted_threads(*roots)[0] == 2

    @pytest.mark.parametrize("text", ["1", "1,4", " 1 ", "1 , 2"])
    def test_omp_num_threads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        roots = fake_cgroup(tmp_path, "", {})
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        granted, reason = _native.granted_threads(*roots)
        assert granted == 1
        assert CPUS == 1 or "OMP_NUM_THREADS" in reason

    @pytest.mark.parametrize("text", ["", "0", "-3", "many", "1x", str(CPUS + 5), "9" * 30])
    def test_omp_num_threads_that_does_not_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert _native.granted_threads(*fake_cgroup(tmp_path, "", {}))[0] == CPUS

    def test_affinity(self) -> None:
        code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        code += "from taille import _native; print(_native.granted_threads()[0])"
        assert output_of(code) == "1"


class TestPool:
    @pytest.mark.parametrize("threads", [1, 2, 3, 4])
    def test_every_task_once(self, threads: int) -> None:
        pool = _native.ThreadPool(threads)
        assert pool.threads == threads
        for tasks in range(51):
            trace = pool.run(tasks)
            assert trace.times == [1] * tasks
            assert all(0 <= thread < threads for thread in trace.threads)
            assert trace.flushed == [True] * tasks

    def test_threads_take_contiguous_runs(self) -> None:
        pool = _native.ThreadPool(3)
        for _ in range(50):
            threads = pool.run(10, 1e-4).threads
            pieces = [threads[:4], threads[4:7], threads[7:]]
            # A share is done by its own thread or, where that one woke too late, by the caller; never by two.
            assert all(set(piece) in ({share}, {0}) for share, piece in enumerate(pieces))

    def test_workers_take_part(self) -> None:
        pool = _native.ThreadPool(2)
        assert any(1 in pool.run(2, 5e-3).threads for _ in range(20))

    @pytest.mark.parametrize("same", [True, False], ids=["same-pool", "other-pool"])
    def test_nested_runs_are_done_inline(self, same: bool) -> None:
        pool = _native.ThreadPool(3)
        inner_pool = pool if same else _native.ThreadPool(2)
        for _ in range(20):
            trace = pool.run_nested(inner_pool, 7, 5, 1e-5)
            assert trace.times == [1] * 35
            assert trace.threads == [0] * 35

    def test_concurrent_callers(self) -> None:
        pool = _native.ThreadPool(3)
        wrong: list[list[int]] = []

        def call() -> None:
            for _ in range(300):
                times = pool.run(29, 1e-6).times
                if times != [1] * 29:
                    wrong.append(times)

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert not wrong

    def test_many_pools_start_and_stop(self) -> None:
        for _ in range(200):
            assert _native.ThreadPool(4).run(8).times == [1] * 8

    @pytest.mark.parametrize("before", [True, False], ids=["used-before-fork", "fresh"])
    def test_forked_child(self, before: bool) -> None:
        code = f"""
import os, signal
from taille import _native
pool = _native.ThreadPool(3)
if {before}: assert pool.run(9, 1e-4).times == [1] * 9
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        ok = all(pool.run(9, 1e-5).times == [1] * 9 for _ in range(20))
        own = any(1 in pool.run(2, 5e-3).threads for _ in range(20))
        del pool  # the destructor must not wait for the parent's threads
        os._exit(0 if ok and own else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pool.run(9).times == [1] * 9
print("done")
"""
        assert output_of(code) == "done"

    def test_child_forked_while_the_pool_is_busy(self) -> None:
        code = """
import os, signal, threading, time
from taille import _native
pool = _native.ThreadPool(2)
busy = threading.Thread(target=lambda: pool.run(4, 0.1))
busy.start()
time.sleep(0.05)
child = os.fork()
if child == 0:
    signal.alarm(30)
    ok = pool.run(9, 1e-5).times == [1] * 9
    own = any(1 in pool.run(2, 5e-3).threads for _ in range(20))
    del pool
    os._exit(0 if ok and own else 1)
status = os.waitpid(child, 0)[1]
busy.join()
print(status)
"""
        assert output_of(code) == "0"

    def test_a_worker_leaves_the_callers_cpu(self) -> None:
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            missing("the test needs two CPUs")
        code = f"""
import os, time
from pathlib import Path
from taille import _native
both = {{{cpus[0]}, {cpus[1]}}}
before = set(os.listdir("/proc/self/task"))
os.sched_setaffinity(0, {{{cpus[0]}}})
pool = _native.ThreadPool(2)
pool.run(2, 1e-4)  # starts the worker, which inherits the one CPU
(worker,) = (int(t) for t in set(os.listdir("/proc/self/task")) - before)
os.sched_setaffinity(0, both)
for _ in range(100):
    time.sleep(2e-3)  # the worker goes to sleep
    pool.run(2, 1e-3)
    if len(left := os.sched_getaffinity(worker)) == 1 and left != {{{cpus[0]}}}:
        break
print(left)
"""
        assert output_of(code) == f"{{{cpus[1]}}}"

    def test_idle_pool_uses_no_cpu(self) -> None:
        code = """
import time
from taille import _native
pool = _native.ThreadPool(4)
for _ in range(100): pool.run(8, 1e-5)
start = time.process_time()
time.sleep(0.3)
print(time.process_time() - start)
"""
        assert float(output_of(code)) < 5e-3

    def test_callers_floating_point_mode_is_restored(self) -> None:
        pool = _native.ThreadPool(2)
        assert not _native.denormals_flushed()
        for tasks in (1, 2, 8):
            assert all(pool.run(tasks).flushed)
            assert not _native.denormals_flushed()
            assert np.float32(2e-38) * np.float32(0.25) != 0

    def test_workers_flush_denormals_whoever_starts_them(self) -> None:
        pool = _native.ThreadPool(2)
        pool.fork_join_seconds()  # starts the workers outside a run
        traces = [pool.run(2, 5e-3) for _ in range(20)]
        assert any(1 in trace.threads for trace in traces)
        assert all(all(trace.flushed) for trace in traces)

    def test_fork_join_cost(self) -> None:
        assert _native.ThreadPool(1).fork_join_seconds() == 0
        pool = _native.ThreadPool(2)
        cost = pool.fork_join_seconds()
        assert 0 < cost < 0.1
        assert pool.fork_join_seconds() == cost

    def test_needs_a_thread(self) -> None:
        with pytest.raises(ValueError, match="at least 1, got 0"):
            _native.ThreadPool(0)


def test_errors_are_one_family() -> None:
    for error in (taille.errors.ArtefactError, taille.errors.IsaError):
        assert issubclass(error, taille.errors.Error)
        assert issubclass(error, ValueError)
    assert issubclass(taille.errors.CaptureError, taille.errors.Error)
