"""The commands, one file each."""

from __future__ import annotations

import typer

from taille.cli.bench import bench
from taille.cli.compile import compile_command
from taille.cli.demo import demo
from taille.cli.doctor import doctor
from taille.cli.inspect import inspect
from taille.cli.optimize import optimize
from taille.cli.profile import profile
from taille.cli.prune import prune
from taille.cli.quantize import quantize
from taille.cli.report import report
from taille.cli.serve import serve
from taille.cli.transport import delta, pack, patch, unpack
from taille.cli.tune import tune

__all__ = ["app"]

app = typer.Typer(
    name="taille",
    help="Makes PyTorch models smaller and faster on CPUs, and runs them without torch.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(optimize)
app.command("compile")(compile_command)
app.command()(quantize)
app.command()(prune)
app.command()(bench)
app.command()(inspect)
app.command()(profile)
app.command()(report)
app.command()(tune)
app.command()(serve)
app.command()(pack)
app.command()(unpack)
app.command()(delta)
app.command()(patch)
app.command()(doctor)
