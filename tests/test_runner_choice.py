"""What a runner does without options: what the artefact holds for this CPU, else the batch settings in force."""

from __future__ import annotations

import json
import logging
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from plain_models import echo
from runner_models import held, int8_mlp
from serve_process import ServeProcess, floats
from support import output_of
from taille import Runner, _native, runner_choice
from taille.runner_choice import KEY, RunnerChoice, stored_choice, this_cpu, with_choice
from taille.serve.model_host import ModelHost
from taille.serve.settings import Settings

CHOICE = RunnerChoice(streams=1, threads=1, max_batch=5, timeout=0.03, max_latency=0.07)


def in_force(runner: Runner) -> RunnerChoice:
    return RunnerChoice(runner.streams, runner.threads, runner.max_batch, runner.timeout, runner.max_latency)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with_choice(echo(), CHOICE, {"when": "today"}).save(tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def test_it_is_used_where_nothing_is_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = taille.load(path)
    assert stored_choice(model) == CHOICE
    monkeypatch.setenv("TAILLE_BATCH_SIZE", "9")  # what was measured for the model goes before
    with Runner(model) as runner:
        assert runner.choice == in_force(runner) == CHOICE
        with pickle.loads(pickle.dumps(runner)) as other:
            assert in_force(other) == CHOICE
        with held(runner, np.zeros((1, 3), np.float32)):
            futures = [runner.submit(np.full((1, 3), i, np.float32)) for i in range(10)]
        assert [f.result()[0, 0] for f in futures] == list(range(10))
        assert max(runner.stats()["batch_sizes"]) == 5


def test_what_is_given_goes_before(path: Path) -> None:
    with Runner(taille.load(path), max_batch=7, timeout=0.0, max_latency=1.0) as runner:
        assert in_force(runner) == replace(CHOICE, max_batch=7, timeout=0.0, max_latency=1.0)
    with Runner(taille.load(path), streams=2) as runner:
        assert in_force(runner) == replace(CHOICE, streams=2, threads=max(1, _native.granted_threads()[0] // 2))
    with Runner(taille.load(path), threads=3) as runner:
        assert runner.threads == 3
    fixed = taille.load(path, threads=2)
    with Runner(fixed) as runner:
        assert in_force(runner) == replace(CHOICE, threads=2)
        with pickle.loads(pickle.dumps(runner)) as other:
            assert in_force(other) == replace(CHOICE, threads=2)


def test_without_one_the_settings_in_force_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    batch = taille.INFERENCE_CONFIG.batch
    with Runner(echo()) as runner:
        assert (runner.choice, runner.streams) == (None, 1)
        assert (runner.max_batch, runner.timeout, runner.max_latency) == (batch.size, batch.timeout, batch.max_latency)
    file = tmp_path / "taille.toml"
    file.write_text("[batch]\nsize = 3\nmax_latency = 0.5\n")
    monkeypatch.setenv("TAILLE_CONFIG", str(file))
    monkeypatch.setenv("TAILLE_BATCH_TIMEOUT", "0.25")
    with Runner(echo()) as runner:
        assert (runner.max_batch, runner.timeout, runner.max_latency) == (3, 0.25, 0.5)
        with held(runner, np.zeros((1, 3), np.float32)):
            futures = [runner.submit(np.zeros((1, 3), np.float32)) for _ in range(9)]
        assert all(f.result() is not None for f in futures)
        assert max(runner.stats()["batch_sizes"]) == 3
    monkeypatch.setenv("TAILLE_BATCH_TIMEOUT", "soon")
    with pytest.raises(ValueError, match=r"batch.timeout \(from TAILLE_BATCH_TIMEOUT\)"):
        Runner(echo())


def test_entries_are_by_cpu_level_and_threads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_cpu()
    assert _native.cpu_name() in here
    code = (
        f"import taille\nfrom taille.runner_choice import *\nprint(this_cpu())\n"
        f"print(stored_choice(taille.load({str(path)!r})))"
    )
    name, found = output_of(code, TAILLE_ISA="portable").splitlines()
    assert (name != here, "portable" in name, found) == (True, True, "None")
    monkeypatch.setattr(runner_choice, "this_cpu", lambda: "another CPU")
    both = with_choice(taille.load(path), replace(CHOICE, max_batch=6), {})
    assert stored_choice(both) == replace(CHOICE, max_batch=6)
    monkeypatch.undo()
    assert stored_choice(both) == CHOICE
    assert both.metadata[KEY][here]["when"] == "today"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ([1], "it is a list"),
        ({"streams": 10**6}, "streams is 1000000"),
        ({"streams": None}, "streams is None"),
        ({"threads": True}, "threads is True"),
        ({"max_batch": 2.0}, "max_batch is 2.0"),
        ({"max_batch": 2**40}, "max_batch is 1099511627776"),
        ({"timeout": -1}, "timeout is -1"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"timeout": 1e9}, "timeout is 1000000000.0"),
        ({"max_latency": 0}, "max_latency is 0"),
        ({"max_latency": "0.1"}, "max_latency is '0.1'"),
        ({"streams": _native.granted_threads()[0], "threads": 2}, "more than|threads is 2"),
    ],
)
def test_nonsense_is_not_used(entry: Any, why: str, caplog: pytest.LogCaptureFixture) -> None:
    whole = entry if isinstance(entry, list) else CHOICE.options() | entry
    model = echo(metadata={"name": "echo", KEY: {this_cpu(): whole}})
    with caplog.at_level(logging.WARNING, "taille"):
        assert stored_choice(model) is None
    assert [r for r in caplog.records if re.search(why, r.getMessage())]
    with Runner(model) as runner:
        assert runner.max_batch == taille.INFERENCE_CONFIG.batch.size
    for odd in (3, ["x"], {"other": 1}):
        assert stored_choice(echo(metadata={KEY: odd})) is None
        assert set(with_choice(echo(metadata={KEY: odd}), CHOICE, {}).metadata[KEY]) >= {this_cpu()}


def test_serving_uses_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    int8_mlp().save(path.with_name("other.safetensors"))
    batch = taille.INFERENCE_CONFIG.batch
    for settings, file, most, wanted in (
        (Settings(), path, batch.size, (5, 0.03)),
        (Settings(max_batch=8, batch_timeout=0.5), path, 8, (8, 0.5)),
        (Settings(), path.with_name("other.safetensors"), batch.size, (batch.size, batch.timeout)),
    ):
        host = ModelHost("m", 1, file, settings)
        assert (host._most, host._runner.max_batch, host._runner.timeout) == (most, *wanted)
        host.close()
    with ServeProcess(path, TAILLE_BATCH_SIZE="6") as server:
        answers = [
            server.ask("/v2/models/m/infer", {"inputs": [floats([[1.0, 2.0, 3.0]] * rows)]})[0] for rows in (6, 7)
        ]
    assert answers == [200, 400]  # 6 is more than the 5 of the choice, and runs by itself


def test_inspect_shows_it(path: Path) -> None:
    from typer.testing import CliRunner

    from taille.cli.app import app

    for file, wanted in ((path, str(CHOICE)), (path.with_name("e.safetensors"), "nothing is stored for this CPU")):
        if file != path:
            echo(metadata={"name": "echo", KEY: {"another CPU": {}}}).save(file)
            wanted += "; 1 for other CPUs"
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["inspect", str(file)])
        assert shown.exit_code == 0
        assert json.loads(CliRunner().invoke(app, ["inspect", str(file), "--json"]).output)["runner"] == wanted
        assert "runner" in shown.output
