"""Mixed load for as long as you like: no answer lost or wrong, memory flat, no descriptor or thread left behind.

    python benchmarks/soak.py --minutes 60           # needs taille[test]; the seed is printed, --seed runs it again

Runners, response caches and a server (`taille serve`, in a process of its own) are asked from many threads and an event
loop, with random cancels, deadlines too near, priorities and bad inputs, while their models are swapped, emptied and
unloaded. Every answer is compared with the one it must be, and what each runner counts with what its callers saw. The
time is divided into stretches. After each everything is closed, and what the processes hold is noted; the first is the
warm-up. The exit status is 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from soak_load import Artefacts, Faults, RunnerLoad, streams_of, together
from soak_measures import ARENAS, KEPT_FREE, TRIM_BYTES, Held, growth
from soak_server import ServerLoad

STRETCHES = 6
LONGEST = 300.0  # seconds of a stretch
# mallopt(3)
M_TRIM_THRESHOLD, M_ARENA_MAX = -1, -8
# asyncio.to_thread starts threads as it needs them, up to as many as there are CPUs and 4.
SERVER_THREADS = 6


def soak(seconds: float, seed: int) -> dict[str, object]:
    """Load for that long.

    Returns:
        `faults` (how many), `texts` of the first of them, counts of what was `done`, and what was `held`: lines.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(M_TRIM_THRESHOLD, TRIM_BYTES)
    libc.mallopt(M_ARENA_MAX, ARENAS)
    faults, done, ours, theirs = Faults(), Counter[str](), [Held.by_this()], []
    stretches = max(STRETCHES, round(seconds / LONGEST))
    rngs = streams_of(seed)
    with tempfile.TemporaryDirectory() as folder:
        artefacts = Artefacts(Path(folder), seed)
        server = ServerLoad(Path(folder))
        try:
            for stretch in range(stretches):
                runners = RunnerLoad(artefacts, faults, rngs)
                callers = runners.callers + server.callers(faults, rngs)
                together(callers, seconds / stretches)
                runners.close()
                done += sum((caller.done for caller in callers), Counter())
                del runners, callers
                ours.append(Held.by_this())
                theirs.append(server.at_rest())
                print(f"{stretch + 1} of {stretches}: {ours[-1]}; the server: {theirs[-1]}", file=sys.stderr)
        finally:
            ending = server.close()
    # Half a model of the smallest kind for each swap would be a leak.
    allocated = min(KEPT_FREE, done["runner swaps"] * artefacts.smallest // 2)
    for text in (
        *ending,
        *growth("this process", ours[1:], resident=KEPT_FREE, allocated=allocated),
        *growth("the server", theirs, resident=KEPT_FREE, threads=SERVER_THREADS),
    ):
        faults.add(text)
    held = [f"{mine}; the server: {its}" for mine, its in zip(ours[1:], theirs, strict=True)]
    return {"seed": seed, "faults": faults.count, "texts": faults.texts, "done": done, "held": held}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    started = time.monotonic()
    found = soak(60 * options.minutes, options.seed)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{time.monotonic() - started:.0f} s: {json.dumps(found['done'])}")
        print(*found["texts"], f"{found['faults']} faults", sep="\n")
    sys.exit(1 if found["faults"] else 0)


if __name__ == "__main__":
    main()
