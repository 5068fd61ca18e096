"""What several test modules share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip, as this machine lacks what the test needs; fail instead where TAILLE_REQUIRE=all says it must be there."""
    if os.environ.get("TAILLE_REQUIRE") == "all":
        pytest.fail(f"TAILLE_REQUIRE=all, but {reason}")
    pytest.skip(reason, allow_module_level=True)


def invoked(*args: object, cwd: Path | None = None) -> Any:
    """How a command of the command line ends (`exit_code`, `stdout`, `stderr`), run in this process.

    A process of its own would import torch again, which takes longer than most commands. An exception that is not
    caught, which would be a traceback, is raised here.
    """
    from typer.testing import CliRunner

    from taille.cli.app import app
    from taille.cli.output import err, out

    out.width = err.width = 200
    with contextlib.chdir(cwd or Path()):
        return CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(a) for a in args], catch_exceptions=False)


def mistake(*args: object, cwd: Path | None = None) -> str:
    """What the command line says, on both streams, as it ends with a failure."""
    done = invoked(*args, cwd=cwd)
    assert done.exit_code != 0
    return done.output + done.stderr


def printed(*args: object, cwd: Path | None = None) -> str:
    """What a command prints to stdout as it ends well."""
    done = invoked(*args, cwd=cwd)
    assert done.exit_code == 0, done.stdout + done.stderr
    return done.stdout


def run_python(code: str, *, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter of this environment, with these variables on top of the current ones."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **env},
        check=False,
    )


def output_of(code: str, *, timeout: float = 120, **env: str) -> str:
    """What the code prints in a fresh interpreter; fails with its traceback if it raises."""
    done = run_python(code, timeout=timeout, **env)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()
