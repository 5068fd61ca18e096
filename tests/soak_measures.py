"""What a process holds while it is at rest, and whether that grew: memory, descriptors, threads."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# glibc keeps freed memory for later, up to twice the largest block ever freed at the top of each of its arenas, eight
# for each CPU: some 60 MB here, which would hide a leak. A fixed threshold makes that the most, and as much padding.
TRIM_BYTES = 128 << 10
ARENAS = 16
KEPT_FREE = ARENAS * 2 * TRIM_BYTES
MALLOC = {"MALLOC_TRIM_THRESHOLD_": str(TRIM_BYTES), "MALLOC_ARENA_MAX": str(ARENAS)}  # for a process to be watched


class Mallinfo(ctypes.Structure):
    """struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Held:
    """What a process holds: resident bytes, open descriptors, threads, and what malloc gave (0: not known)."""

    resident: int
    descriptors: int
    threads: int
    allocated: int = 0

    @classmethod
    def by(cls, pid: int, allocated: int = 0) -> Held:
        """What the process of that number holds now."""
        proc = Path(f"/proc/{pid}")
        status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        descriptors = len(list((proc / "fd").iterdir())) - (pid == os.getpid())  # the listing itself is one
        return cls(int(status["VmRSS"].split()[0]) * 1024, descriptors, int(status["Threads"]), allocated)

    @classmethod
    def by_this(cls) -> Held:
        """What this process holds, once threads have gone, garbage too, and malloc gave back what it can."""
        pid, libc = os.getpid(), ctypes.CDLL(None)
        settle(lambda: cls.by(pid).threads)
        gc.collect()
        libc.malloc_trim(0)
        libc.mallinfo2.restype = Mallinfo
        info = libc.mallinfo2()
        return cls.by(pid, info.uordblks + info.hblkhd)

    def __str__(self) -> str:
        known = f" ({self.allocated / 1e6:.1f} MB allocated)" if self.allocated else ""
        return f"{self.resident / 1e6:.1f} MB resident{known}, {self.descriptors} descriptors, {self.threads} threads"


def settle(count: Callable[[], int]) -> None:
    """Wait until a count no longer changes: a thread that was joined leaves the process a moment later."""
    last, since = count(), time.monotonic()
    while time.monotonic() - since < 0.2:
        time.sleep(0.02)
        if (now := count()) != last:
            last, since = now, time.monotonic()


def growth(who: str, rests: list[Held], *, resident: int, allocated: int = 0, threads: int = 0) -> list[str]:
    """What is wrong with what a process held at rest: at first, after a warm-up, and at last.

    One object that outlives a peak keeps the memory around it, for a while: of resident bytes the least of the last
    third counts, beside the least of the first, as a leak raises them all.

    Args:
        who: the process, for the messages.
        rests: what it held, each time with everything closed.
        resident, allocated, threads: how many bytes and threads may be more at the end; descriptors may not.
    """
    third = max(1, len(rests) // 3)
    found = {
        what: (getattr(rests[0], what), getattr(rests[-1], what)) for what in ("descriptors", "threads", "allocated")
    }
    found["resident"] = min(r.resident for r in rests[:third]), min(r.resident for r in rests[-third:])
    bounds = {"resident": resident, "descriptors": 0, "threads": threads, "allocated": allocated}
    return [
        f"{who}: {what} was {first:,} at first and is {last:,}; at most {bounds[what]:,} more may be"
        for what, (first, last) in found.items()
        if last - first > bounds[what]
    ]
