"""Where the models come from: artefacts named on the command line, and repositories of them.

    model.safetensors              model "model", version 1
    resnet=some/file.safetensors   model "resnet", version 1
    resnet:3=some/file.safetensors model "resnet", version 3
    models/                        a repository: models/NAME/VERSION/any.safetensors, or models/NAME.safetensors

What a network request names is only ever looked up among these, never opened as a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MOST_VERSION", "NAME", "Source", "candidates", "find_sources", "read_version"]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
VERSION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
MOST_VERSION = 10**18 - 1
GIVEN = re.compile(r"(?P<name>[^=:/]+)(?::(?P<version>[^=:/]*))?=(?P<path>.+)")
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Source:
    """One argument: an artefact with its name and version, or (name is empty) the root of a repository."""

    path: Path
    name: str = ""
    version: int = 1


def read_version(text: str) -> int | None:
    """The number of a version, or None where the text is none."""
    return int(text) if VERSION.fullmatch(text) else None


def find_sources(arguments: Iterable[str | Path]) -> list[Source]:
    """Read the arguments of `taille serve`.

    Raises:
        ValueError: a name or version of another form, or two artefacts for the same version.
        FileNotFoundError: there is no such file.
    """
    sources = [read_source(argument) for argument in arguments]
    taken: dict[tuple[str, int], Path] = {}
    for source in sources:
        other = taken.setdefault((source.name, source.version), source.path)
        if source.name and other is not source.path:
            raise ValueError(
                f"{source.path} and {other} are both version {source.version} of '{source.name}'; say "
                f"{source.name}:{source.version + 1}={source.path} for another version"
            )
    return sources


def read_source(argument: str | Path) -> Source:
    """One argument."""
    given = GIVEN.fullmatch(str(argument)) if isinstance(argument, str) and not Path(argument).exists() else None
    path = Path(given["path"] if given else argument)
    if not path.exists():
        raise FileNotFoundError(f"no artefact or repository at {path}")
    if path.is_dir():
        if given:
            raise ValueError(f"{argument}: {path} is a repository, whose folders give the names")
        return Source(path)
    name = given["name"] if given else path.name.removesuffix(SUFFIX)
    if not NAME.fullmatch(name):
        raise ValueError(f"'{name}' cannot be a model's name; wanted letters, digits, _ . and -: NAME={path}")
    version = read_version(given["version"]) if given and given["version"] is not None else 1
    if version is None:
        raise ValueError(f"{argument}: the version is '{given and given['version']}'; wanted a number of at least 1")
    return Source(path, name, version)


def candidates(sources: Iterable[Source]) -> dict[str, dict[int, Path]]:
    """Every artefact that can be loaded now, by name and version; what a source says first stays."""
    found: dict[str, dict[int, Path]] = {}
    for source in sources:
        for name, version, path in listed(source):
            found.setdefault(name, {}).setdefault(version, path)
    return found


def listed(source: Source) -> Iterator[tuple[str, int, Path]]:
    """The artefacts of one source, in order."""
    if source.name:
        if source.path.is_file():
            yield source.name, source.version, source.path
        return
    for entry in sorted(source.path.iterdir()) if source.path.is_dir() else ():
        if entry.is_file() and entry.name.endswith(SUFFIX) and NAME.fullmatch(entry.name.removesuffix(SUFFIX)):
            yield entry.name.removesuffix(SUFFIX), 1, entry
        elif entry.is_dir() and NAME.fullmatch(entry.name):
            yield from versions(entry)


def versions(folder: Path) -> Iterator[tuple[str, int, Path]]:
    """The versions in a model's folder: NAME/VERSION/any.safetensors, the first by name."""
    for entry in sorted(folder.iterdir()):
        version = read_version(entry.name)
        files = sorted(entry.glob(f"*{SUFFIX}")) if version is not None and entry.is_dir() else []
        if version is not None and files:
            yield folder.name, version, files[0]
