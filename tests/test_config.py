"""Configuration: the defaults, where a setting comes from, and what each mistake is told."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import taille
from support import output_of
from taille.config import (
    InferenceConfig,
    PerformanceConfig,
    ResourceConfig,
    format_size,
    parse_size,
    resolve,
    short_size,
)
from taille.config.sections import Pruning, Quantization, checks

DEFAULTS = {  # as the documentation promises them
    "PERFORMANCE_CONFIG": {
        "pruning": {"target_sparsity": 0.5, "method": "magnitude", "schedule": "polynomial"},
        "quantization": {"precision": "int8", "calibration_samples": 1000},
        "distillation": {"temperature": 3.0, "alpha": 0.1},
    },
    "RESOURCE_CONFIG": {
        "memory": {"max_usage": "2GB", "buffer_size": "256MB", "cleanup_interval": 300},
        "compute": {"max_threads": 4, "batch_size": 32, "gpu_memory": "1GB"},
    },
    "INFERENCE_CONFIG": {
        "cache": {"size": "1GB", "ttl": 3600, "strategy": "lru"},
        "batch": {"size": 64, "timeout": 0.1, "max_latency": 0.2},
    },
}
KINDS = {"pruning": PerformanceConfig, "memory": ResourceConfig, "compute": ResourceConfig}
KINDS |= {"quantization": PerformanceConfig, "distillation": PerformanceConfig}
KINDS |= {"cache": InferenceConfig, "batch": InferenceConfig}


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults(name: str) -> None:
    config = getattr(taille, name)
    assert config == DEFAULTS[name]
    assert config.as_dict() == DEFAULTS[name]
    assert json.loads(json.dumps(config.as_dict())) == DEFAULTS[name]
    assert pickle.loads(pickle.dumps(config)) == config
    assert resolve(type(config), environ={}) == config


def test_reads_as_a_mapping_and_by_attribute() -> None:
    assert taille.PERFORMANCE_CONFIG["pruning"]["target_sparsity"] == 0.5
    assert taille.PERFORMANCE_CONFIG.pruning.target_sparsity == 0.5
    assert list(taille.PERFORMANCE_CONFIG) == ["pruning", "quantization", "distillation"]
    assert {**taille.PERFORMANCE_CONFIG["distillation"]} == {"temperature": 3.0, "alpha": 0.1}
    with pytest.raises(KeyError, match="method"):
        taille.PERFORMANCE_CONFIG["pruning"]["metod"]


def test_cannot_be_changed_for_everyone() -> None:
    with pytest.raises(TypeError):
        taille.PERFORMANCE_CONFIG["pruning"]["target_sparsity"] = 0.9
    with pytest.raises(AttributeError):
        taille.PERFORMANCE_CONFIG.pruning.target_sparsity = 0.9
    mine = taille.PERFORMANCE_CONFIG.as_dict()
    mine["pruning"]["target_sparsity"] = 0.9
    assert resolve(PerformanceConfig, mine, environ={}).pruning.target_sparsity == 0.9
    assert taille.PERFORMANCE_CONFIG["pruning"]["target_sparsity"] == 0.5


def test_argument_over_file_over_environment_over_default(tmp_path: Path) -> None:
    file = tmp_path / "taille.toml"
    file.write_text("[pruning]\ntarget_sparsity = 0.6\nmethod = 'structured'\n[cache]\nttl = 5\n")
    environ = {
        "TAILLE_PRUNING_TARGET_SPARSITY": "0.7",
        "TAILLE_PRUNING_METHOD": "sensitivity",
        "TAILLE_PRUNING_SCHEDULE": "oneshot",
        "TAILLE_CONFIG": str(tmp_path / "another.toml"),  # an argument names the file, so this one is not read
    }
    found = resolve(PerformanceConfig, {"pruning": {"target_sparsity": 0.8}}, file=file, environ=environ).pruning
    assert found == {"target_sparsity": 0.8, "method": "structured", "schedule": "oneshot"}
    assert resolve(InferenceConfig, environ={"TAILLE_CONFIG": str(file)}).cache.ttl == 5
    assert resolve(PerformanceConfig, environ=environ | {"TAILLE_CONFIG": ""}).pruning.method == "sensitivity"


def test_the_default_handed_on_is_no_argument() -> None:
    environ = {"TAILLE_PRUNING_TARGET_SPARSITY": "0.7", "TAILLE_DISTILLATION_ALPHA": "0.3"}
    assert resolve(PerformanceConfig, taille.PERFORMANCE_CONFIG, environ=environ).pruning.target_sparsity == 0.7
    mixed = {**taille.PERFORMANCE_CONFIG, "distillation": {"alpha": 0.2}}
    found = resolve(PerformanceConfig, mixed, environ=environ)
    assert (found.pruning.target_sparsity, found.distillation.alpha) == (0.7, 0.2)
    copied = taille.PERFORMANCE_CONFIG.as_dict()
    assert resolve(PerformanceConfig, copied, environ=environ).pruning.target_sparsity == 0.5


def test_the_process_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILLE_COMPUTE_MAX_THREADS", "2")
    monkeypatch.setenv("TAILLE_COMPUTE_BATCH_SIZE", "")
    monkeypatch.setenv("TAILLE_MEMORY_MAX_USAGE", " 1.5GiB ")
    found = resolve(ResourceConfig)
    assert (found.compute.max_threads, found.compute.batch_size) == (2, 32)
    assert parse_size(found.memory.max_usage) == 3 * 2**29


@pytest.mark.parametrize(
    ("section", "key", "value", "error", "wanted"),
    [
        ("pruning", "target_sparsity", 1.0, ValueError, "0 to below 1"),
        ("pruning", "target_sparsity", float("nan"), ValueError, "0 to below 1"),
        ("pruning", "target_sparsity", "0.5", TypeError, "0 to below 1"),
        ("pruning", "target_sparsity", True, TypeError, "0 to below 1"),
        ("pruning", "method", "random", ValueError, "structured"),
        ("pruning", "method", None, TypeError, "structured"),
        ("pruning", "schedule", "linear", ValueError, "polynomial"),
        ("quantization", "precision", "int4", ValueError, "int8"),
        ("quantization", "calibration_samples", 0, ValueError, "at least 1"),
        ("quantization", "calibration_samples", 10.0, TypeError, "whole"),
        ("distillation", "temperature", 0, ValueError, "above 0"),
        ("distillation", "alpha", 1.5, ValueError, "0 to 1"),
        ("memory", "max_usage", "2 parsecs", ValueError, "GiB"),
        ("memory", "buffer_size", "256Mb", ValueError, "MB"),
        ("memory", "cleanup_interval", "5min", TypeError, "seconds"),
        ("compute", "max_threads", 0, ValueError, "at least 1"),
        ("compute", "batch_size", 1.5, TypeError, "whole"),
        ("compute", "gpu_memory", -1, ValueError, "at least 1 byte"),
        ("cache", "size", "", ValueError, "2GB"),
        ("cache", "ttl", -1, ValueError, "above 0"),
        ("cache", "strategy", "fifo", ValueError, "lru"),
        ("batch", "size", "64", TypeError, "whole"),
        ("batch", "timeout", -0.1, ValueError, "at least 0"),
        ("batch", "max_latency", float("inf"), ValueError, "above 0"),
    ],
)
def test_a_wrong_value_names_key_given_and_wanted(
    section: str, key: str, value: Any, error: type[Exception], wanted: str
) -> None:
    with pytest.raises(error) as raised:
        resolve(KINDS[section], {section: {key: value}}, environ={})
    text = str(raised.value)
    assert text.startswith(f"{section}.{key} is {value!r}")
    assert wanted in text.split("; wanted ")[1]


@pytest.mark.parametrize(
    ("given", "error", "parts"),
    [
        ({"prunning": {}}, ValueError, ["prunning", "did you mean pruning", "distillation"]),
        ({"pruning": {"target_sparsty": 0.5}}, ValueError, ["pruning.target_sparsty", "pruning.target_sparsity"]),
        ({"memory": {}}, ValueError, ["memory", "quantization"]),  # of another kind
        ({"pruning": 0.5}, TypeError, ["pruning is 0.5", "target_sparsity"]),
        ({"pruning": taille.RESOURCE_CONFIG["memory"]}, ValueError, ["pruning.max_usage"]),
        ([("pruning", {})], TypeError, ["config is", "list", "pruning"]),
        (taille.RESOURCE_CONFIG, ValueError, ["memory", "pruning"]),
    ],
)
def test_a_wrong_argument(given: Any, error: type[Exception], parts: list[str]) -> None:
    with pytest.raises(error) as raised:
        resolve(PerformanceConfig, given, environ={})
    assert all(part in str(raised.value) for part in parts), raised.value


@pytest.mark.parametrize(
    ("variable", "value", "part"),
    [
        ("TAILLE_PRUNING_TARGET_SPARSITY", "half", "pruning.target_sparsity (from TAILLE_PRUNING_TARGET_SPARSITY)"),
        ("TAILLE_PRUNING_TARGET_SPARSITY", "1.5", "0 to below 1"),
        ("TAILLE_QUANTIZATION_CALIBRATION_SAMPLES", "1e3", "whole number"),
        ("TAILLE_PRUNING_METHOD", "Magnitude", "structured"),
        ("TAILLE_PRUNING_TARGET_SPARSTY", "0.5", "did you mean TAILLE_PRUNING_TARGET_SPARSITY"),
    ],
)
def test_a_wrong_variable(variable: str, value: str, part: str) -> None:
    with pytest.raises(ValueError) as raised:
        resolve(PerformanceConfig, environ={variable: value})
    assert variable in str(raised.value)
    assert part in str(raised.value)


def test_variables_of_other_purposes_are_let_be() -> None:
    environ = {"TAILLE_ISA": "avx2", "TAILLE_DATA": "x", "TAILLE_CACHE_TTL": "wrong, but of another kind"}
    assert resolve(PerformanceConfig, environ=environ) == taille.PERFORMANCE_CONFIG


@pytest.mark.parametrize(
    ("text", "error", "parts"),
    [
        ("[pruning\n", ValueError, ["not TOML"]),
        ("[prun]\n", ValueError, ["prun", "did you mean pruning"]),
        ("pruning = 1\n", TypeError, ["pruning is 1"]),
        ("[pruning]\nmethod = 'x'\n", ValueError, ["pruning.method is 'x'", "structured"]),
        ("[cache]\nttl = '1h'\n", TypeError, ["cache.ttl is '1h'", "seconds"]),  # of another kind, but wrong
        ("[pruning]\nmetod = 'magnitude'\n", ValueError, ["pruning.metod", "pruning.method"]),
    ],
)
def test_a_wrong_file(text: str, error: type[Exception], parts: list[str], tmp_path: Path) -> None:
    file = tmp_path / "taille.toml"
    file.write_text(text)
    with pytest.raises(error) as raised:
        resolve(PerformanceConfig, file=file, environ={})
    assert all(part in str(raised.value) for part in [str(file), *parts]), raised.value


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="TAILLE_CONFIG"):
        resolve(PerformanceConfig, environ={"TAILLE_CONFIG": str(tmp_path / "none.toml")})


def test_sections_check_themselves() -> None:
    with pytest.raises(ValueError, match=r"pruning\.target_sparsity is 2"):
        Pruning(target_sparsity=2)
    with pytest.raises(TypeError, match="pruning is"):
        PerformanceConfig(pruning={"target_sparsity": 0.5})  # type: ignore[arg-type]
    assert isinstance(Quantization(calibration_samples=np.int64(3)).calibration_samples, int)


def test_words_are_those_of_the_functions() -> None:
    from taille.pruning.options import METHODS, SCHEDULES
    from taille.quantization.options import PRECISIONS

    assert set(checks(Pruning)["method"].words) == set(METHODS)
    assert set(checks(Pruning)["schedule"].words) == set(SCHEDULES)
    assert set(checks(Quantization)["precision"].words) == set(PRECISIONS)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("2GB", 2_000_000_000), ("256MB", 256_000_000), ("5 MB", 5_000_000), ("1.5MiB", 1_572_864), ("1GiB", 2**30),
        ("4kB", 4000), ("4KB", 4000), ("4KiB", 4096), ("1TB", 10**12), ("1TiB", 2**40), ("12B", 12), ("12", 12),
        (12, 12), (5e6, 5_000_000), (np.int64(7), 7), ("0.1GiB", 107_374_182), ("1.9999B", 1),
    ],
)  # fmt: skip
def test_sizes(given: Any, size: int) -> None:
    assert parse_size(given) == size


@pytest.mark.parametrize("given", ["-1MB", "1,5MB", "1e3", "MB", "0.5B", "0", "9" * 40, "9999999TB", 1.5, float("nan")])
def test_wrong_sizes(given: Any) -> None:
    with pytest.raises(ValueError, match="max_size is "):
        parse_size(given, "max_size")


@given(st.integers(1, 2**63 - 1))
def test_a_size_in_bytes_is_exact(size: int) -> None:
    assert parse_size(size) == parse_size(str(size)) == parse_size(f"{size}B") == size
    assert format_size(size).startswith(f"{size:,} bytes")
    assert parse_size(short_size(size).replace(",", "")) == pytest.approx(size, rel=5e-3)  # by the same rule


def test_config_needs_no_numpy() -> None:
    code = """
import sys
import taille
taille.PERFORMANCE_CONFIG, taille.RESOURCE_CONFIG, taille.INFERENCE_CONFIG
print(*sorted({"numpy", "torch"} & set(sys.modules)))
"""
    assert output_of(code) == ""
