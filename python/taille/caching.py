"""`setup_caching`: answers to inputs that came before are copied, not computed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from taille.compiled import CompiledModel
from taille.config import InferenceConfig, parse_size, resolve
from taille.models import BaseMLModel, check_model

__all__ = ["setup_caching"]

log = logging.getLogger(__name__)


def setup_caching(model: BaseMLModel, cache_config: Mapping[str, Any] | None = None) -> None:
    """Give a compiled model a response cache, in place of one that it has.

    An answer is kept by the shapes, dtypes and every byte of its inputs, so `predict` gives what it would give without
    the cache. Requests that are equal and at the same time are computed once. Where hits save less than lookups cost
    (both measured, over 4096 requests) the cache switches itself off for a while, which is logged and counted in
    `CompiledModel.cache_statistics`. `cleanup_resources` empties it.

    Args:
        model: a `CompiledModel`.
        cache_config: any of `size` (most bytes of all that is kept: "1GB" or a number), `ttl` (seconds that an answer
            counts) and `strategy` ("lru": what was used least recently goes first). What is not given is that of the
            TOML file, the environment (`TAILLE_CACHE_SIZE`) or `INFERENCE_CONFIG`.

    Raises:
        TypeError: `model` is not compiled.
        TypeError, ValueError: an unknown key, or a value of another type, unit or range; the message names the key.
    """
    check_model(model, "setup_caching")
    if not isinstance(model, CompiledModel):
        raise TypeError(
            f"setup_caching takes a CompiledModel, not a {type(model).__name__}; compile it first: "
            f"taille.compile_model(model)"
        )
    if cache_config is not None and not isinstance(cache_config, Mapping):
        raise TypeError(f"cache_config is {cache_config!r}, of type {type(cache_config).__name__}; wanted a mapping")
    from taille import _native

    config = resolve(InferenceConfig, None if cache_config is None else {"cache": cache_config}).cache
    name = str(model.metadata.get("name") or "model")

    def told(on: bool, why: str) -> None:
        log.log(
            logging.INFO if on else logging.WARNING, "response cache of %s is %s: %s", name, "on" if on else "off", why
        )

    size = parse_size(config.size, "cache.size")
    model.set_cache(_native.ResponseCache(size, float(config.ttl), on_switch=told))  # LRU is what it does
