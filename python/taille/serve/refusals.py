"""Why a request is refused: each reason with the status that HTTP and gRPC give it."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

from taille.errors import Error
from taille.hints import did_you_mean

__all__ = [
    "Forbidden",
    "Internal",
    "Invalid",
    "Late",
    "NotFound",
    "Overloaded",
    "Refusal",
    "TooLarge",
    "Unauthenticated",
    "hint",
    "shown",
]

MOST_SHOWN = 100  # characters of a client's text that are said back
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = MOST_SHOWN
SHORT.maxlist = 32
MOST_MESSAGE = 1000  # gRPC carries messages in headers, which are limited


class Refusal(Error):  # noqa: N818 - a word for what happens
    """A request that is not answered; the message goes to the client.

    Attributes:
        status: of HTTP.   code: the name of gRPC's.   reason: one word, for the metrics.
        unread: whether some of the request was not read, so that its connection cannot go on.
    """

    status = 500
    code = "INTERNAL"
    reason = "internal"
    unread = False

    @property
    def message(self) -> str:
        """What the client is told."""
        text = str(self)
        return text if len(text) <= MOST_MESSAGE else text[:MOST_MESSAGE] + "..."


class Internal(Refusal):
    """Something of the server's own failed; the log has it."""


class Invalid(Refusal):
    """The request is malformed, or does not fit the model."""

    status, code, reason = 400, "INVALID_ARGUMENT", "invalid"


class Unauthenticated(Refusal):
    """It wants the bearer token."""

    status, code, reason = 401, "UNAUTHENTICATED", "unauthenticated"


class Forbidden(Refusal):
    """The server is read-only."""

    status, code, reason = 403, "PERMISSION_DENIED", "forbidden"


class NotFound(Refusal):
    """No such model or version."""

    status, code, reason = 404, "NOT_FOUND", "not_found"


class TooLarge(Refusal):
    """More bytes than the server takes."""

    status, code, reason = 413, "RESOURCE_EXHAUSTED", "too_large"


class Overloaded(Refusal):
    """The queue is full, or the server is ending; another try may succeed."""

    status, code, reason = 503, "UNAVAILABLE", "overloaded"


class Late(Refusal):
    """The answer is not there in time."""

    status, code, reason = 504, "DEADLINE_EXCEEDED", "late"


def shown(value: object) -> str:
    """A client's value as a message says it back, shortened; what is long is not read to its end."""
    return SHORT.repr(value)


def hint(name: str, known: Iterable[str]) -> str:
    """`did_you_mean`, but for names so long that comparing them would take time."""
    return did_you_mean(name, known) if len(name) <= MOST_SHOWN else ""
