"""setup_caching and cleanup_resources on real models: same answers, fewer runs, memory given back."""

from __future__ import annotations

import contextlib
import gc
import logging
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import taille
from plain_models import echo, wide
from taille import _native
from taille.quantized import QuantizedModel

F32 = np.float32


def batches(count: int, width: int = 3) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1 + i % 3, width), F32) for i in range(count)]


def counts(model: taille.CompiledModel) -> dict[str, Any]:
    got = model.cache_statistics
    assert got is not None
    return got


def test_answers_are_those_of_the_model_and_the_callers_own() -> None:
    model, plain = wide(20, 64, threads=2), wide(20, 64)
    assert model.cache_statistics is None
    taille.setup_caching(model)
    for _ in range(3):
        for x in batches(9, 20):
            answer = model.predict(x)
            np.testing.assert_array_equal(answer, plain.predict(x))
            answer[...] = np.nan  # the next caller does not see this
    assert (counts(model)["misses"], counts(model)["hits"]) == (9, 18)


def test_shapes_and_signs_of_zeros_count() -> None:
    g = _native.Graph()
    x = g.add_input("x", "float32", ["rows", "columns"])
    g.add_output("y", g.add_node("mean", [x], {"axes": [1]}, "mean"))
    model = taille.CompiledModel(_native.optimize(g)[0], {}, threads=1)
    taille.setup_caching(model)
    numbers = np.arange(12, dtype=F32)
    for shape in ((2, 6), (3, 4), (6, 2), (2, 6)):
        np.testing.assert_allclose(model.predict(numbers.reshape(shape)), numbers.reshape(shape).mean(1), rtol=1e-6)
    for zero in (0.0, -0.0):
        model.predict(np.full((1, 1), zero, F32))
    assert (counts(model)["misses"], counts(model)["hits"]) == (5, 1)


def test_refused_inputs_are_refused_as_without_it() -> None:
    g = _native.Graph()
    ids = g.add_input("ids", "int64", ["batch"])
    table = g.add_constant("table", np.ones((4, 2), F32))
    g.add_output("y", g.add_node("embedding", [table, ids], {}, "look"))
    model = taille.CompiledModel(_native.optimize(g)[0], {}, threads=1)
    taille.setup_caching(model)
    for _ in range(2):
        with pytest.raises(ValueError, match="4"):
            model.predict(np.array([4]))
    assert counts(model)["entries"] == 0


def test_threads_share_a_model_with_a_cache() -> None:
    model, plain = wide(20, 64, threads=2), wide(20, 64)
    taille.setup_caching(model, {"size": "20kB"})
    xs = batches(40, 20)
    wanted = [plain.predict(x) for x in xs]
    wrong = []

    def work(own: int) -> None:
        draw = np.random.default_rng(own)
        for _ in range(300):
            i = int(draw.integers(len(xs)))
            if not np.array_equal(model.predict(xs[i]), wanted[i]):
                wrong.append(i)
        if own == 0:
            taille.cleanup_resources(model)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert counts(model)["bytes"] <= 20_000


class TestEveryFieldHasAnEffect:
    def test_size(self) -> None:
        small, large = echo(), echo()
        taille.setup_caching(small, {"size": "1kB"})
        taille.setup_caching(large)
        for model in (small, large):
            for x in batches(50):
                model.predict(x)
        assert (counts(large)["entries"], counts(large)["evictions"]) == (50, 0)
        assert 0 < counts(small)["entries"] == 50 - counts(small)["evictions"]
        assert counts(small)["bytes"] <= 1000

    def test_ttl(self, monkeypatch: pytest.MonkeyPatch) -> None:
        short, long = echo(), echo()
        monkeypatch.setenv("TAILLE_CACHE_TTL", "0.02")
        taille.setup_caching(short)
        taille.setup_caching(long, {"ttl": 3600})
        (x,) = batches(1)
        for model in (short, long):
            model.predict(x)
        time.sleep(0.03)
        for model in (short, long):
            model.predict(x)
        assert (counts(short)["expired"], counts(short)["hits"]) == (1, 0)
        assert (counts(long)["expired"], counts(long)["hits"]) == (0, 1)

    def test_strategy(self) -> None:
        model = echo()
        a, b, c = batches(3)
        taille.setup_caching(model, {"strategy": "lru"})
        for x in (a, b, c):
            model.predict(x)
        taille.setup_caching(model, {"strategy": "lru", "size": counts(model)["bytes"] - 1})  # room for two
        for x in (a, b, a, c, a):  # b was used least recently when c came
            model.predict(x)
        assert (counts(model)["misses"], counts(model)["evictions"], counts(model)["hits"]) == (3, 1, 2)


def test_says_so_where_it_does_not_pay(caplog: pytest.LogCaptureFixture) -> None:
    model = echo()
    taille.setup_caching(model)
    x = np.zeros((1, 3), F32)
    with caplog.at_level(logging.INFO, "taille"):
        for i in range(4096):
            x[0, 0] = i
            model.predict(x)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("response cache of echo is off: of the last 4096 requests 0 were hits")
    assert (counts(model)["on"], counts(model)["switched_off"], counts(model)["bytes"]) == (False, 1, 0)
    np.testing.assert_array_equal(model.predict(x), x)
    assert counts(model)["bypassed"] == 1


def test_bad_arguments() -> None:
    model = echo()
    for config, error, message in (
        ({"sice": 1}, ValueError, "unknown setting cache.sice.*did you mean cache.size"),
        ({"size": "1 gigabyte"}, ValueError, "cache.size is '1 gigabyte'"),
        ({"size": 0}, ValueError, "cache.size is 0"),
        ({"ttl": -1}, ValueError, "cache.ttl"),
        ({"strategy": "lfu"}, ValueError, "cache.strategy"),
        (["size"], TypeError, "cache_config is"),
    ):
        with pytest.raises(error, match=message):
            taille.setup_caching(model, config)  # type: ignore[arg-type]
    assert model.cache_statistics is None
    quantized = QuantizedModel(model.graph, {}, None, model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a CompiledModel, not a QuantizedModel; compile it first"):
        taille.setup_caching(quantized)
    for function in (taille.setup_caching, taille.cleanup_resources):
        with pytest.raises(TypeError, match="not int"):
            function(3)  # type: ignore[arg-type]


def own_threads() -> int:
    count = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended just now
            count += (task / "comm").read_text() == "taille\n"
    return count


def settles_at(threads: int) -> bool:
    """Whether there are so many, or will be soon: a thread that was joined is listed for a moment more."""
    until = time.monotonic() + 10
    while own_threads() != threads and time.monotonic() < until:
        time.sleep(1e-3)
    return own_threads() == threads


def test_cleanup_gives_back_everything_and_the_model_goes_on() -> None:
    gc.collect()  # models of other tests
    before = own_threads()
    model = wide(512, 2048, threads=2)
    taille.setup_caching(model)
    x = np.random.default_rng(0).standard_normal((64, 512), F32)
    wanted = model.predict(x)
    assert settles_at(before + 1)
    for _ in range(2):
        taille.cleanup_resources(model)
        assert settles_at(before)
        assert (model._model.plan_count(), model._model.arena_bytes()) == (0, 0)
        assert (counts(model)["entries"], counts(model)["bytes"]) == (0, 0)
    np.testing.assert_array_equal(model.predict(x), wanted)
    assert settles_at(before + 1)
    np.testing.assert_array_equal(model.predict(x), wanted)
    assert counts(model)["hits"] == 1


def test_cleanup_of_a_quantised_model() -> None:
    model = QuantizedModel(echo().graph, {}, None, echo())  # type: ignore[arg-type]
    (x,) = batches(1)
    for _ in range(2):
        np.testing.assert_array_equal(model.predict(x), x)
        taille.cleanup_resources(model)
        taille.cleanup_resources(model)
        assert model._native is None
