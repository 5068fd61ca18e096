"""Where the header and the tensors of an artefact lie in its bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["HEADER", "Section", "header_of", "model_name", "sections", "stored_bytes"]

HEADER = ""  # the name of the section that holds no tensor
LENGTH = struct.Struct("<Q")
# Of safetensors' names.
ELEMENT_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
MOST_NAME = 200  # characters


@dataclass(frozen=True)
class Section:
    """Bytes of an artefact that belong together.

    Attributes:
        name: of the tensor; "" of the header.   start, end: in the file.   item: bytes of an element.
        kind: dtype and shape, as the header has them.
    """

    name: str
    start: int
    end: int
    item: int
    kind: str = ""


def header_of(artefact: bytes) -> tuple[dict[str, Any], int]:
    """The header's JSON object, and where the data begins, of an artefact that the loader has accepted."""
    (length,) = LENGTH.unpack_from(artefact)
    found = json.loads(artefact[LENGTH.size : LENGTH.size + length])
    assert isinstance(found, dict)
    return found, LENGTH.size + length


def sections(artefact: bytes) -> list[Section]:
    """Header and tensors, one after the other: together they are the file.

    Args:
        artefact: the bytes of an artefact that the loader has accepted.
    """
    header, data = header_of(artefact)
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    found = [Section(HEADER, 0, data, 1)]
    for name, entry in sorted(tensors.items(), key=lambda pair: pair[1]["data_offsets"]):
        start, end = (data + int(offset) for offset in entry["data_offsets"])
        if start < end:
            item = ELEMENT_BYTES.get(entry["dtype"], 1)
            found.append(Section(name, start, end, item, f"{entry['dtype']} {entry['shape']}"))
    return found


def stored_bytes(artefact: bytes) -> dict[str, int]:
    """The bytes of each tensor in the file, by name."""
    return {section.name: section.end - section.start for section in sections(artefact) if section.name != HEADER}


def model_name(artefact: bytes) -> str:
    """What the model in an artefact is called; "model" where it does not say."""
    header, _ = header_of(artefact)
    stored = header.get("__metadata__")
    try:
        own = json.loads(stored["taille.metadata"]) if isinstance(stored, Mapping) else {}
    except (KeyError, TypeError, ValueError, RecursionError):
        own = {}
    name = own.get("name") if isinstance(own, Mapping) else None
    return name[:MOST_NAME] if isinstance(name, str) and name else "model"
