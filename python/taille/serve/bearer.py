"""The bearer token that whatever changes the server wants."""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from taille.serve.refusals import Forbidden, Unauthenticated

__all__ = ["VARIABLE", "check_token", "read_token"]

VARIABLE = "TAILLE_SERVE_TOKEN"
PREFIX = b"bearer "


def read_token(file: Path | None) -> str | None:
    """The token of a file (its first line), else that of the variable TAILLE_SERVE_TOKEN, else None.

    It is no argument of the command, as other users of the machine could read it there.

    Raises:
        ValueError: the file is empty.   OSError: it cannot be read.
    """
    if file is None:
        return os.environ.get(VARIABLE) or None
    lines = file.read_text(encoding="utf-8").splitlines()
    if not lines or not lines[0].strip():
        raise ValueError(f"{file} holds no token in its first line")
    return lines[0].strip()


def check_token(token: str | None, authorization: bytes) -> None:
    """Raise unless a request may change the server.

    Args:
        token: the server's; None: it is read-only.
        authorization: the request's header of that name, or nothing.
    """
    if token is None:
        raise Forbidden("this server is read-only; it loads and unloads only when started with a token")
    given = authorization[len(PREFIX) :].strip() if authorization[: len(PREFIX)].lower() == PREFIX else b""
    if not hmac.compare_digest(given, token.encode()):  # takes as long for every wrong token
        raise Unauthenticated("load and unload want the header Authorization: Bearer TOKEN, with the server's token")
