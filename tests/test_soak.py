"""The soak (`benchmarks/soak.py`) for a short time, and that it sees what it is there to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

import soak_load
from soak_load import Artefacts, Faults, RunnerLoad, streams_of, together
from soak_measures import Held, growth
from taille import Runner

SECONDS = float(os.environ.get("TAILLE_SOAK_SECONDS", "20"))
SOAK = Path(__file__).resolve().parents[1] / "benchmarks" / "soak.py"


def test_soak():
    done = subprocess.run(
        [sys.executable, str(SOAK), "--minutes", str(SECONDS / 60), "--json"],
        capture_output=True, text=True, check=False, timeout=SECONDS + 240,
    )  # fmt: skip
    said = f"{done.stdout}\n{done.stderr}"  # which has the seed
    assert done.returncode == 0, said
    found = json.loads(done.stdout)
    assert found["faults"] == 0, said
    for what in (
        "completed", "cancelled", "expired", "failed", "refused as bad", "runner swaps", "cache swaps", "HTTP 200",
        "from a model with a cache", "version swaps", "HTTP refused as bad", "given up", "HTTP 504",
    ):  # fmt: skip
        assert found["done"].get(what, 0) > 0, said  # all of it happened


def faults_of(tmp_path, seconds=1.0):
    faults = Faults()
    load = RunnerLoad(Artefacts(tmp_path, 0), faults, streams_of(0))
    together(load.callers, seconds)
    load.close()
    return faults


class Swapping(Runner):
    """Gives a caller the future of another's request now and then, for an input of the same kind."""

    def submit(self, inputs, **options):
        future = super().submit(inputs, **options)
        other, self.last = getattr(self, "last", None), future
        return future if other is None or other.done() or len(inputs) > 1 else other


class Losing(Runner):
    """Never answers one request in 50."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.count = 0

    def submit(self, inputs, **options):
        self.count += 1
        future = super().submit(inputs, **options)
        return soak_load.taille.RunnerFuture(self, None) if self.count % 50 == 0 else future


@pytest.mark.parametrize(("runner", "seen"), [(Swapping, "another answer"), (Losing, "no answer in")])
def test_it_sees_answers_that_are_wrong_or_lost(tmp_path, monkeypatch, runner, seen):
    monkeypatch.setattr(soak_load, "Runner", runner)
    monkeypatch.setattr(soak_load, "PATIENCE", 0.3)
    faults = faults_of(tmp_path)
    assert any(seen in text for text in faults.texts), faults.texts


def test_it_sees_what_is_left_behind():
    before = Held.by_this()
    assert growth("it", [before, Held.by_this()], resident=1 << 20, allocated=1 << 16) == []
    stay = threading.Event()
    thread = threading.Thread(target=stay.wait)
    thread.start()
    kept = bytearray(os.urandom(1 << 17)) * 32
    with Path(os.devnull).open() as _:
        found = growth("it", [before, Held.by_this()], resident=1 << 20, allocated=1 << 16)
    stay.set()
    thread.join()
    del kept
    whats = Counter(text.split()[1] for text in found)
    assert whats == dict.fromkeys(["resident", "descriptors", "threads", "allocated"], 1), found
