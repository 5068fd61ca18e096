"""Every setting: its name, its default and what it may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

from taille.config.checks import Check, Choice, Count, Number, Size

__all__ = [
    "Batch",
    "Cache",
    "Compute",
    "Config",
    "Distillation",
    "InferenceConfig",
    "Memory",
    "PerformanceConfig",
    "Pruning",
    "Quantization",
    "ResourceConfig",
    "Section",
    "checks",
]

T = TypeVar("T")


class Fields(Mapping[str, Any]):
    """A frozen dataclass that is a mapping of its fields, so that `config["pruning"]["method"]` reads it too."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # of the subclasses, which are dataclasses

    def __getitem__(self, key: str) -> Any:
        if key not in self.__dataclass_fields__:
            raise KeyError(f"{key!r}; there are {', '.join(self.__dataclass_fields__)}")
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.__dataclass_fields__)

    def as_dict(self) -> dict[str, Any]:
        """A plain dict, sections included: JSON-compatible, and free to be changed."""
        return {key: value.as_dict() if isinstance(value, Fields) else value for key, value in self.items()}


class Section(Fields):
    """A group of settings, checked when it is made.

    Raises:
        TypeError, ValueError: a setting of another type, unit or range; the message names it as `section.key`.
    """

    NAME: ClassVar[str]

    def __post_init__(self) -> None:
        for key, check in checks(type(self)).items():
            object.__setattr__(self, key, check.check(f"{self.NAME}.{key}", self[key]))


class Config(Fields):
    """A whole configuration: one section per key. `taille.config.resolve` makes one of plain mappings."""

    def __post_init__(self) -> None:
        for key, value in self.items():
            section = self.__dataclass_fields__[key].default_factory
            if not isinstance(value, section):
                raise TypeError(f"{key} is {value!r}, of type {type(value).__name__}; wanted {section.__name__}(...)")


def setting(default: T, check: Check) -> T:
    """A field with its default and its check."""
    value: T = field(default=default, metadata={"check": check})
    return value


def checks(section: type[Section]) -> dict[str, Check]:
    """The check of each setting of a section."""
    return {f.name: f.metadata["check"] for f in fields(section)}


SECONDS = Number("a number of seconds above 0", least=0, open_least=True)


@dataclass(frozen=True, eq=False)
class Pruning(Section):
    """How models are pruned.

    Attributes:
        target_sparsity: share of the prunable weights that goes; `prune_model` takes what remains, 1 minus this.
        method: as `prune_model` takes it.   schedule: as `prune_model` takes it.
    """

    NAME = "pruning"
    target_sparsity: float = setting(0.5, Number("a share from 0 to below 1", least=0, most=1, open_most=True))
    method: str = setting("magnitude", Choice(("magnitude", "structured", "sensitivity")))
    schedule: str = setting("polynomial", Choice(("oneshot", "polynomial")))


@dataclass(frozen=True, eq=False)
class Quantization(Section):
    """How models are quantised.

    Attributes:
        precision: as `quantize_model` takes it.   calibration_samples: most samples that ranges are taken from.
    """

    NAME = "quantization"
    precision: str = setting("int8", Choice(("int8", "float16", "bfloat16", "mixed")))
    calibration_samples: int = setting(1000, Count())


@dataclass(frozen=True, eq=False)
class Distillation(Section):
    """How students learn.

    Attributes:
        temperature: that logits are divided by.   alpha: weight of the hard loss; the soft loss has the rest.
    """

    NAME = "distillation"
    temperature: float = setting(3.0, Number("a number above 0", least=0, open_least=True))
    alpha: float = setting(0.1, Number("a share from 0 to 1", least=0, most=1))


@dataclass(frozen=True, eq=False)
class Memory(Section):
    """Bounds on memory.

    Attributes:
        max_usage: most resident bytes.   buffer_size: most bytes of buffers.   cleanup_interval: seconds.
    """

    NAME = "memory"
    max_usage: str | int = setting("2GB", Size())
    buffer_size: str | int = setting("256MB", Size())
    cleanup_interval: float = setting(300, SECONDS)


@dataclass(frozen=True, eq=False)
class Compute(Section):
    """Bounds on computing.

    Attributes:
        max_threads: of one model.   batch_size: samples per call.   gpu_memory: most bytes on the GPU.
    """

    NAME = "compute"
    max_threads: int = setting(4, Count())
    batch_size: int = setting(32, Count())
    gpu_memory: str | int = setting("1GB", Size())


@dataclass(frozen=True, eq=False)
class Cache(Section):
    """The cache of responses.

    Attributes:
        size: most bytes.   ttl: seconds that a response stays valid.   strategy: which one goes first.
    """

    NAME = "cache"
    size: str | int = setting("1GB", Size())
    ttl: float = setting(3600, SECONDS)
    strategy: str = setting("lru", Choice(("lru",)))


@dataclass(frozen=True, eq=False)
class Batch(Section):
    """How requests are put together.

    Attributes:
        size: most samples.   timeout: seconds that a batch waits for more.   max_latency: seconds that a request takes.
    """

    NAME = "batch"
    size: int = setting(64, Count())
    timeout: float = setting(0.1, Number("a number of seconds of at least 0", least=0))
    max_latency: float = setting(0.2, SECONDS)


@dataclass(frozen=True, eq=False)
class PerformanceConfig(Config):
    """The configuration of `taille.ModelOptimizer`."""

    pruning: Pruning = field(default_factory=Pruning)
    quantization: Quantization = field(default_factory=Quantization)
    distillation: Distillation = field(default_factory=Distillation)


@dataclass(frozen=True, eq=False)
class ResourceConfig(Config):
    """The configuration of `taille.ResourceOptimizer`."""

    memory: Memory = field(default_factory=Memory)
    compute: Compute = field(default_factory=Compute)


@dataclass(frozen=True, eq=False)
class InferenceConfig(Config):
    """The configuration of `taille.InferenceOptimizer`."""

    cache: Cache = field(default_factory=Cache)
    batch: Batch = field(default_factory=Batch)
