"""Packing artefacts, and deltas between them, on files."""

from __future__ import annotations

import hashlib
import json
import logging
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taille.compiled import CompiledModel
from taille.config import parse_size
from taille.errors import ArtefactError
from taille.files import write_atomically
from taille.transport.encoding import CHUNK, encode, subtract
from taille.transport.layout import HEADER, Section, model_name, sections
from taille.transport.records import (
    CHANGE,
    COPY,
    LITERAL,
    MOST_COPY,
    NEAR,
    Head,
    Record,
    assemble,
    near_bytes,
    read,
    read_head,
)

__all__ = ["MAX_SIZE", "Delta", "Packed", "apply_delta", "make_delta", "pack", "unpack"]

log = logging.getLogger(__name__)

MAX_SIZE = "2GB"
LOADS = 3  # that times are medians of
HEADER_CHUNK = NEAR // 2  # of a header, so that what is alike in the base's lies within deflate's reach


@dataclass(frozen=True)
class Packed:
    """A container that was written.

    Attributes:
        size_bytes: of the artefact.   packed_bytes: of the container.
        load_seconds: from the artefact's file to a model that is ready to run, on this machine, the file in its cache.
        packed_load_seconds: the same from the container.
    """

    size_bytes: int
    packed_bytes: int
    load_seconds: float
    packed_load_seconds: float


@dataclass(frozen=True)
class Delta:
    """A delta that was written.

    Attributes:
        size_bytes: of the new artefact.   delta_bytes: of the file.
        unchanged_bytes: of the new artefact, that lie in the base.   changed: names of the tensors that differ, or are
            new.
    """

    size_bytes: int
    delta_bytes: int
    unchanged_bytes: int
    changed: tuple[str, ...]


def pack(artefact: str | Path, path: str | Path) -> Packed:
    """Write an artefact in fewer bytes, and measure how long loading takes with and without.

    Args:
        artefact: a file that `save` wrote. It is checked as `taille.load` checks it.
        path: where the container goes; written whole or not at all.

    Raises:
        taille.ArtefactError: the file is no artefact.   FileNotFoundError: it is not there.
    """
    data = read_artefact(artefact)
    records = [r for section in sections(data) for r in literals(data, section)]
    packed = assemble(Head(len(data), hashlib.sha256(data).digest()), records)
    write_atomically(Path(path), packed)
    plain, unpacked = load_times(Path(artefact), Path(path), len(data))
    log.info("packed %s: %d of %d bytes", artefact, len(packed), len(data))
    return Packed(len(data), len(packed), plain, unpacked)


def unpack(path: str | Path, artefact: str | Path, *, max_size: int | str = MAX_SIZE) -> int:
    """Write the artefact that a container holds, bit for bit.

    Args:
        path: a file that `pack` wrote.
        artefact: where it goes; written whole or not at all.
        max_size: most bytes that it may have, as "2GB": no more is ever unpacked.

    Returns:
        The bytes written.

    Raises:
        taille.ArtefactError: the file is none, cut off, damaged or hostile, or the artefact would be too large.
    """
    data = unpacked_bytes(read_file(path), str(path), parse_size(max_size, "max_size"))
    write_atomically(Path(artefact), data)
    return len(data)


def make_delta(base: str | Path, artefact: str | Path, path: str | Path) -> Delta:
    """Write what turns one artefact into another: what must be shipped where the first is there already.

    Tensors that did not change are taken from the base; of the others each piece is sent as its difference from the
    base's, or whole, whichever is smaller.

    Args:
        base: the artefact that is there.
        artefact: the new one.
        path: where the delta goes; written whole or not at all.

    Raises:
        taille.ArtefactError: one of the files is no artefact.   FileNotFoundError: it is not there.
    """
    old, new = read_artefact(base), read_artefact(artefact)
    there = {section.name: section for section in sections(old)}
    records: list[Record] = []
    changed = []
    for section in sections(new):
        twin = there.get(section.name)
        own = [*pieces(new, section, old, twin)]
        records += own
        if section.name != HEADER and any(r.kind != COPY for r in own):
            changed.append(section.name)
    records = [*merged(records)]
    head = Head(len(new), hashlib.sha256(new).digest(), len(old), hashlib.sha256(old).digest(), model_name(old))
    data = assemble(head, records)
    write_atomically(Path(path), data)
    unchanged = sum(r.size for r in records if r.kind == COPY)
    log.info("delta from %s to %s: %d of %d bytes", base, artefact, len(data), len(new))
    return Delta(len(new), len(data), unchanged, tuple(changed))


def apply_delta(base: str | Path, delta: str | Path, artefact: str | Path, *, max_size: int | str = MAX_SIZE) -> int:
    """Write the new artefact, bit for bit.

    Args:
        base: the artefact that the delta was made from.
        delta: a file that `make_delta` wrote.
        artefact: where the new one goes; written whole or not at all. It may be the base itself.
        max_size: most bytes that it may have, as "2GB".

    Returns:
        The bytes written.

    Raises:
        taille.ArtefactError: `base` is another artefact than the delta was made from, or the delta is none, cut off,
            damaged or hostile, or the artefact would be too large.
    """
    most, file, old = parse_size(max_size, "max_size"), read_file(delta), read_file(base)
    head, _ = read_head(file, str(delta))
    if not head.is_delta:
        raise ArtefactError(f"{delta} is a packed artefact, which needs no base; wanted a delta")
    digest = hashlib.sha256(old).digest()
    if (len(old), digest) != (head.base_size, head.base_digest):
        raise ArtefactError(
            f"{delta} goes with the base '{head.base_name}', {head.base_size:,} bytes with SHA-256 "
            f"{head.base_digest.hex()[:16]}...; {base} has {len(old):,} bytes with SHA-256 {digest.hex()[:16]}..."
        )
    data = read(file, str(delta), old, most)
    write_atomically(Path(artefact), data)
    return len(data)


def read_file(path: str | Path) -> bytes:
    """The bytes of a file; what is none, such as a device, is refused."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no file at {path}")
    return Path(path).read_bytes()


def read_artefact(path: str | Path) -> bytes:
    """The bytes of an artefact, checked by the loader."""
    from taille import _native

    data = read_file(path)
    _native.deserialize(data, str(path))
    return data


def unpacked_bytes(file: bytes, name: str, max_size: int) -> bytes:
    """The artefact in a container."""
    head, _ = read_head(file, name)
    if head.is_delta:
        raise ArtefactError(f"{name} is a delta from the base '{head.base_name}'; wanted a packed artefact")
    return read(file, name, b"", max_size)


def literals(data: bytes, section: Section) -> Iterator[Record]:
    """A section in pieces that stand for themselves."""
    for start in range(section.start, section.end, CHUNK):
        piece = data[start : min(start + CHUNK, section.end)]
        codec, payload = encode(piece, section.item)
        yield Record(LITERAL, len(piece), codec, payload, section.item)


def pieces(new: bytes, section: Section, old: bytes, twin: Section | None) -> Iterator[Record]:
    """A section as what is left to say where the base is known; `twin` is the base's section of that name."""
    if section.name == HEADER and twin is not None:
        yield from header_pieces(new, section, old, twin)
        return
    if twin is None or twin.kind != section.kind or twin.end - twin.start != section.end - section.start:
        yield from literals(new, section)
        return
    for start in range(section.start, section.end, CHUNK):
        at = twin.start + start - section.start
        piece = new[start : min(start + CHUNK, section.end)]
        before = old[at : at + len(piece)]
        if piece == before:
            yield Record(COPY, len(piece), offset=at)
            continue
        whole, change = encode(piece, section.item), encode(subtract(piece, before, section.item), section.item)
        kind, (codec, payload) = min(((LITERAL, whole), (CHANGE, change)), key=lambda found: len(found[1][1]))
        yield Record(kind, len(piece), codec, payload, section.item, at if kind == CHANGE else 0)


def header_pieces(new: bytes, section: Section, old: bytes, twin: Section) -> Iterator[Record]:
    """A header, written beside what lies about there in the base's: names and attributes are mostly the same."""
    scale = (twin.end - twin.start) / (section.end - section.start)
    for start in range(section.start, section.end, HEADER_CHUNK):
        piece = new[start : min(start + HEADER_CHUNK, section.end)]
        at = max(0, min(int(start * scale) - HEADER_CHUNK // 2, twin.end - NEAR))
        codec, payload = encode(piece, 1, near_bytes(old, at))
        yield Record(LITERAL, len(piece), codec, payload, 1, at)


def merged(records: list[Record]) -> Iterator[Record]:
    """The records, copies that follow each other in both artefacts as one."""
    held: Record | None = None
    for record in records:
        if held is not None and follows(held, record):
            held = Record(COPY, held.size + record.size, offset=held.offset)
            continue
        if held is not None:
            yield held
        held = record
    if held is not None:
        yield held


def follows(first: Record, second: Record) -> bool:
    """Whether two records are one copy."""
    both = first.kind == second.kind == COPY
    return both and first.offset + first.size == second.offset and first.size + second.size <= MOST_COPY


def load_times(artefact: Path, container: Path, size: int) -> tuple[float, float]:
    """Median seconds to a model that is ready to run: from the artefact, and from the container, in turns."""
    times: list[list[float]] = [[], []]
    for _ in range(LOADS):
        for own, path in zip(times, (artefact, container), strict=True):
            start = time.perf_counter()
            data = path.read_bytes()
            ready(data if path is artefact else unpacked_bytes(data, str(path), size))
            own.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def ready(data: bytes) -> CompiledModel:
    """A model from an artefact's bytes."""
    from taille import _native

    graph, text = _native.deserialize(data)
    return CompiledModel(graph, json.loads(text) if text else {})
