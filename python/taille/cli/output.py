"""What the commands share: printing, tables, clear failures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

__all__ = ["clear_errors", "err", "fail", "human_bytes", "out", "print_json", "print_table", "require"]

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


def human_bytes(count: int) -> str:
    """Bytes for people: 1,558,540 B as "1.49 MB"."""
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024 or unit == "GB":
            break
        size /= 1024
    return f"{count} B" if unit == "B" else f"{size:.2f} {unit}"
