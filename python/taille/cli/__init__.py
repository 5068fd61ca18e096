"""The command line.

`taille demo | optimize | compile | quantize | prune | bench | inspect | profile | report | tune | serve`
`taille pack | unpack | delta | patch | doctor`
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; says what to install where typer and rich are missing."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError:
        sys.stderr.write("The command line needs typer and rich: pip install 'taille[cli]'\n")
        raise SystemExit(1) from None
    from taille.cli.app import app

    app()
