"""Where a setting comes from: the argument, else the file, else the environment, else its default."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from taille.config.sections import Config, InferenceConfig, PerformanceConfig, ResourceConfig, Section, checks
from taille.hints import did_you_mean

__all__ = ["INFERENCE_CONFIG", "PERFORMANCE_CONFIG", "RESOURCE_CONFIG", "resolve"]

PERFORMANCE_CONFIG = PerformanceConfig()
RESOURCE_CONFIG = ResourceConfig()
INFERENCE_CONFIG = InferenceConfig()

DEFAULTS: tuple[Config, ...] = (PERFORMANCE_CONFIG, RESOURCE_CONFIG, INFERENCE_CONFIG)
PREFIX = "TAILLE"
FILE_VARIABLE = "TAILLE_CONFIG"

C = TypeVar("C", bound=Config)
Values = dict[str, dict[str, Any]]  # section -> key -> value


def resolve(
    kind: type[C],
    given: Mapping[str, Any] | None = None,
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> C:
    """The configuration in force. Each setting is that of the argument, else the file, else the environment.

    Args:
        kind: `PerformanceConfig`, `ResourceConfig` or `InferenceConfig`.
        given: the argument: what differs, by section, as {"pruning": {"target_sparsity": 0.7}}. The default
            configuration itself (`PERFORMANCE_CONFIG`) and its sections count as not given, so that an optimiser made
            without an argument still obeys the file and the environment; a copy of them is an argument.
        file: a TOML file with a table per section; one file may hold the sections of all kinds. None: the file that
            the variable TAILLE_CONFIG names, if any.
        environ: the environment; None: this process's. A setting is TAILLE_<SECTION>_<KEY>, as
            TAILLE_PRUNING_TARGET_SPARSITY; an empty variable counts as not set.

    Raises:
        TypeError, ValueError: an unknown section or key, or a value of another type, unit or range; the message names
            the key, what was given and where, and what is wanted. All sources are checked, overridden values too.
        FileNotFoundError: the file is not there.
    """
    environ = os.environ if environ is None else environ
    path = file or environ.get(FILE_VARIABLE)
    sources = [
        from_environment(kind, environ),
        from_file(kind, Path(path)) if path else {},
        from_argument(kind, given),
    ]
    sections = {name: section_type(kind, name) for name in names(kind)}
    return kind(
        **{
            name: section(**{key: value for source in sources for key, value in source.get(name, {}).items()})
            for name, section in sections.items()
        }
    )


def names(kind: type[Config]) -> list[str]:
    """The sections of a configuration."""
    return list(kind.__dataclass_fields__)


def section_type(kind: type[Config], name: str) -> type[Section]:
    """The class of one of its sections."""
    section: type[Section] = kind.__dataclass_fields__[name].default_factory
    return section


def from_argument(kind: type[Config], given: Mapping[str, Any] | None) -> Values:
    """What the caller gave, checked. The default, handed on, says nothing; an equal one of the caller's own does."""
    default = next(config for config in DEFAULTS if type(config) is kind)
    if given is None or given is default:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"config is {given!r}, of type {type(given).__name__}; wanted a mapping of {', '.join(names(kind))}"
        )
    values: Values = {}
    for name, settings in given.items():
        check_name("section", str(name), names(kind), "config")
        if settings is not default[name]:
            values[name] = check_section(section_type(kind, name), settings, "")
    return values


def from_file(kind: type[Config], path: Path) -> Values:
    """The settings of a TOML file for this kind, all of the file's sections checked."""
    if not path.is_file():
        raise FileNotFoundError(f"no configuration file at {path} (of an argument or of {FILE_VARIABLE})")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of TOML, and of UTF-8
        raise ValueError(f"{path} is not TOML: {error}") from None
    known = {name: section_type(type(config), name) for config in DEFAULTS for name in names(type(config))}
    values: Values = {}
    for name, settings in tables.items():
        check_name("section", name, known, str(path))
        values[name] = check_section(known[name], settings, f"{path}: ")
    return {name: values[name] for name in names(kind) if name in values}


def from_environment(kind: type[Config], environ: Mapping[str, str]) -> Values:
    """The settings that environment variables give, checked."""
    values: Values = {}
    for name in names(kind):
        prefix = f"{PREFIX}_{name.upper()}_"
        known = checks(section_type(kind, name))
        for variable in sorted(environ):
            text = environ[variable].strip()
            if not variable.startswith(prefix) or not text:
                continue
            key = variable[len(prefix) :].lower()
            check_name("setting", variable, [f"{prefix}{k.upper()}" for k in known], "the environment")
            values.setdefault(name, {})[key] = known[key].read(f"{name}.{key} (from {variable})", text)
    return values


def check_section(section: type[Section], settings: Any, where: str) -> dict[str, Any]:
    """The settings of one section of an argument or a file, checked."""
    if not isinstance(settings, Mapping):
        raise TypeError(
            f"{where}{section.NAME} is {settings!r}, of type {type(settings).__name__}; wanted a mapping of "
            f"{', '.join(checks(section))}"
        )
    known = checks(section)
    values = {}
    for key, value in settings.items():
        check_name("setting", f"{section.NAME}.{key}", [f"{section.NAME}.{k}" for k in known], where[:-2] or "config")
        values[key] = known[key].check(f"{where}{section.NAME}.{key}", value)
    return values


def check_name(what: str, name: str, known: Iterable[str], where: str) -> None:
    """Raise a ValueError, with the nearest name there is, unless the section or setting exists."""
    known = list(known)
    if name not in known:
        raise ValueError(f"unknown {what} {name} in {where}; {did_you_mean(name, known)}there are {', '.join(known)}")
