"""What the commands share: printing, tables, clear failures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

__all__ = [
    "clear_errors",
    "err",
    "fail",
    "out",
    "print_json",
    "print_table",
    "progress_bars",
    "progress_hook",
    "require",
]

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print one JSON object to stdout."""
    typer.echo(json.dumps(value))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are aligned right where they look like numbers."""
    table = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(row[i][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def progress_bars(*, transient: bool) -> Progress:
    """Bars on stderr, one per task; as a context they are drawn, and transient ones wiped at the end."""
    columns = (TextColumn("{task.description:<24}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=err, transient=transient)


def progress_hook(bars: Progress) -> Callable[[str, int, int], None]:
    """What the library's functions take as `progress`: a bar per stage."""
    tasks: dict[str, TaskID] = {}

    def hook(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    return hook


def fail(message: str) -> typer.Exit:
    """Say what went wrong on stderr; raising what this gives ends the command with status 1."""
    err.print(f"error: {message}", markup=False)
    return typer.Exit(1)


def require(extra: str, *modules: str) -> None:
    """End the command with the pip line where one of the modules is not installed."""
    from importlib.util import find_spec

    absent = [m for m in modules if find_spec(m) is None]
    if absent:
        raise fail(f"this command needs {', '.join(absent)}: pip install 'taille[{extra}]'")


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn the library's errors into one message and status 1."""
    from taille.errors import Error

    try:
        yield
    except (Error, ValueError, TypeError, OSError, ImportError) as error:
        raise fail(str(error)) from None
