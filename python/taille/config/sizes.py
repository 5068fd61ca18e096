"""Sizes in bytes as people write them: 5_000_000, "5MB", "1.5MiB".

One rule, in what is read and in every message, table and report: kB, MB, GB and TB are powers of 1000. Powers of 1024
are called KiB, MiB, GiB and TiB; they are read, and never written.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from numbers import Integral
from typing import Any

__all__ = ["format_size", "parse_size", "short_size"]

UNITS = {
    "B": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
MOST = 2**63 - 1  # what the native engine counts with
# The digits are limited, since a number of a million digits takes minutes to read.
FORM = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*([A-Za-z]*)", re.ASCII)
WANTED = 'a size such as "2GB", "1.5MiB" or a number of bytes'


def parse_size(value: Any, name: str = "size") -> int:
    """The bytes of a size.

    kB, MB, GB and TB are powers of 1000, as on a disk's label; KiB, MiB, GiB and TiB are powers of 1024. Units are
    case-sensitive, as "Mb" is a megabit elsewhere ("KB" is taken for "kB"). What is not whole is rounded down.

    Args:
        value: text of a number and a unit, with or without a space between; or an int of bytes (or a float that is
            whole, as 5e6). Text without a unit is bytes.
        name: what the value is of, for messages.

    Raises:
        TypeError: `value` is neither.
        ValueError: no such unit, no such number, less than one byte, or more than 2**63 - 1.
    """
    given = f"{name} is {value!r}"
    if isinstance(value, str):
        match = FORM.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"{given}; wanted {WANTED}")
        number, unit = match.groups()
        if unit and unit not in UNITS:
            raise ValueError(f"{given}, in the unit {unit!r}; wanted one of {', '.join(UNITS)}")
        size = int(Fraction(number) * UNITS[unit or "B"])
    elif isinstance(value, bool) or not isinstance(value, (Integral, float)):
        raise TypeError(f"{given}, of type {type(value).__name__}; wanted {WANTED}")
    elif isinstance(value, float) and not value.is_integer():  # NaN and infinities are not whole either
        raise ValueError(f"{given}; wanted {WANTED}")
    else:
        size = int(value)
    if not 1 <= size <= MOST:
        raise ValueError(f"{given}; wanted at least 1 byte and at most 2**63 - 1")
    return size


def short_size(size: float) -> str:
    """Bytes as text for tables: "1.23 MB", with three digits; "999 B" below a kB."""
    for unit in ("TB", "GB", "MB", "kB"):
        if abs(size) >= UNITS[unit]:
            value = size / UNITS[unit]
            return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f} {unit}"
    return f"{size:,.0f} B"


def format_size(size: int) -> str:
    """Bytes as text for messages: "1,234,567 bytes (1.23 MB)"."""
    text = f"{size:,} bytes"
    return f"{text} ({short_size(size)})" if abs(size) >= UNITS["kB"] else text
