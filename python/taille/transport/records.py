"""The format of what is shipped: a head, and records that give an artefact's bytes one after the other.

    head     magic (8 bytes), version (uint32), bytes of the artefact (uint64) and their SHA-256; the same two of the
             base (zero where there is none); length (uint16) and UTF-8 text of the base's name. Little endian.
    record   kind, codec, bytes of an element, a zero (uint8 each); bytes of the artefact that it gives (uint32); bytes
             of its payload (uint32); where in the base (uint64); then the payload.

A literal's payload gives the bytes; a copy takes them from the base; a change gives what is added to the base's. A
container is records without a base, a delta with one; so one reader checks both.

The reader trusts nothing. Before anything is made, sizes are held against what is allowed and what is there; a literal
or change gives at most 4 MiB, and its payload is never larger; decompression ends at the declared size. At the end all
bytes are held against their SHA-256.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from taille.config import format_size
from taille.errors import ArtefactError
from taille.transport.encoding import CHUNK, DEFLATE_NEAR, ITEMS, STORED, add_back, decode

__all__ = [
    "CHANGE",
    "COPY",
    "LITERAL",
    "MAGIC",
    "MOST_COPY",
    "NEAR",
    "Head",
    "Record",
    "assemble",
    "near_bytes",
    "read",
    "read_head",
]

MAGIC = b"\x89taille\n"
VERSION = 1
HEAD = struct.Struct("<8sIQ32sQ32sH")
RECORD = struct.Struct("<BBBBIIQ")
MOST_NAME = 1024  # bytes
MOST_COPY = (1 << 32) - 1  # bytes
NEAR = 1 << 15  # bytes of the base that deflate can look back to

LITERAL, COPY, CHANGE = range(3)


@dataclass(frozen=True)
class Head:
    """What a file gives, and from which base; no base: it is a container.

    Attributes:
        size, digest: of the artefact: bytes, SHA-256.   base_size, base_digest, base_name: of the base.
    """

    size: int
    digest: bytes
    base_size: int = 0
    base_digest: bytes = bytes(32)
    base_name: str = ""

    @property
    def is_delta(self) -> bool:
        """Whether a base is needed."""
        return self.base_size > 0


@dataclass(frozen=True)
class Record:
    """A piece of the artefact.

    Attributes:
        kind: LITERAL, COPY or CHANGE.   size: bytes that it gives.   codec, payload, item: see `encoding`.
        offset: in the base.
    """

    kind: int
    size: int
    codec: int = STORED
    payload: bytes = b""
    item: int = 1
    offset: int = 0


def assemble(head: Head, records: Iterable[Record]) -> bytes:
    """The file."""
    name = head.base_name.encode()[:MOST_NAME]
    fields = (head.size, head.digest, head.base_size, head.base_digest, len(name))
    parts = [HEAD.pack(MAGIC, VERSION, *fields), name]
    for r in records:
        parts += [RECORD.pack(r.kind, r.codec, r.item, 0, r.size, len(r.payload), r.offset), r.payload]
    return b"".join(parts)


def read_head(file: bytes, name: str) -> tuple[Head, int]:
    """The head of a file and where its records begin.

    Args:
        file: its bytes.
        name: what to call it in messages.

    Raises:
        taille.ArtefactError: it is none, or of a newer version.
    """
    if file[: len(MAGIC)] != MAGIC:
        raise ArtefactError(f"{name} is neither a packed artefact nor a delta: it does not begin as these do")
    if len(file) < HEAD.size:
        raise ArtefactError(f"{name} is cut off in its head, after {len(file)} bytes")
    _, version, size, digest, base_size, base_digest, length = HEAD.unpack_from(file)
    if version != VERSION:
        raise ArtefactError(f"{name} has version {version} of the format; this taille reads version {VERSION}")
    text = file[HEAD.size : HEAD.size + length]
    if length > MOST_NAME or len(text) < length:
        raise ArtefactError(f"{name} is cut off or damaged in its head")
    base_name = "".join(c if c.isprintable() else "?" for c in text.decode(errors="replace"))
    return Head(size, digest, base_size, base_digest, base_name), HEAD.size + length


def read(file: bytes, name: str, base: bytes, max_size: int) -> bytes:
    """The artefact's bytes.

    Args:
        file: a container or a delta.
        name: what to call it in messages.
        base: what a delta was made from; b"" for a container. The caller has checked that it is the one.
        max_size: bytes that the artefact may have.

    Raises:
        taille.ArtefactError: the file is cut off, damaged or hostile, or the artefact would be too large.
    """
    head, at = read_head(file, name)
    if head.size > max_size:
        raise ArtefactError(f"{name} would give {format_size(head.size)}; max_size allows {format_size(max_size)}")
    found, number = bytearray(), 0
    while len(found) < head.size:
        number += 1
        where = f"{name}: record {number}"
        if len(file) - at < RECORD.size:
            raise ArtefactError(f"{where} is missing: the file is cut off after {len(found):,} of {head.size:,} bytes")
        kind, codec, item, zero, size, length, offset = RECORD.unpack_from(file, at)
        at += RECORD.size
        check_record(where, (kind, codec, item, zero, size, length, offset), head, head.size - len(found), len(base))
        if len(file) - at < length:
            raise ArtefactError(f"{where} is cut off: {len(file) - at:,} of {length:,} bytes are there")
        record = Record(kind, size, codec, file[at : at + length], item, offset)
        at += length
        try:
            found += given(record, base)
        except ValueError as error:
            raise ArtefactError(f"{where} is damaged: {error}") from None
    if at != len(file):
        raise ArtefactError(f"{name} has {len(file) - at:,} bytes after its end")
    if hashlib.sha256(found).digest() != head.digest:
        raise ArtefactError(f"{name} is damaged: what it gives has another SHA-256 than it says")
    return bytes(found)


def check_record(where: str, fields: tuple[int, ...], head: Head, left: int, base_size: int) -> None:
    """Raise an ArtefactError where a record's fields do not go together, or not with the file."""
    kind, codec, item, zero, size, length, offset = fields
    if kind > CHANGE or codec > DEFLATE_NEAR or item not in ITEMS or zero:
        raise ArtefactError(f"{where} is of no kind that there is")
    if not 0 < size <= left or size % item:
        raise ArtefactError(f"{where} gives {size:,} bytes; {left:,} are left")
    if length > 0 if kind == COPY else size > CHUNK or length > size:
        raise ArtefactError(f"{where} has {length:,} bytes for {size:,}")
    uses_base = kind != LITERAL or codec == DEFLATE_NEAR
    if uses_base and not head.is_delta:
        raise ArtefactError(f"{where} wants a base, and this file has none")
    if kind != LITERAL and offset + size > base_size:
        raise ArtefactError(f"{where} wants bytes up to {offset + size:,} of a base of {base_size:,}")
    if codec == DEFLATE_NEAR and offset >= base_size:
        raise ArtefactError(f"{where} wants bytes from {offset:,} of a base of {base_size:,}")


def near_bytes(base: bytes, offset: int) -> bytes:
    """The bytes of the base that a record of codec DEFLATE_NEAR is written with."""
    return base[offset : offset + NEAR]


def given(record: Record, base: bytes) -> bytes:
    """The bytes that a checked record gives; a ValueError where its payload is damaged."""
    if record.kind == COPY:
        return base[record.offset : record.offset + record.size]
    near = near_bytes(base, record.offset) if record.codec == DEFLATE_NEAR else b""
    data = decode(record.codec, record.payload, record.item, record.size, near)
    if record.kind == LITERAL:
        return data
    return add_back(data, base[record.offset : record.offset + record.size], record.item)
