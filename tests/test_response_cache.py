"""The response cache: what it answers equals what the model gives, always; what it holds never exceeds its bound."""

from __future__ import annotations

import hashlib
import random
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import output_of
from taille._native import ResponseCache
from taille._native.testing import answer_from, hash64

HASHES = [64, 3, 0]  # bits that count: with 0 every two requests collide


class Clock:
    """Nanoseconds that pass when told to, and `step` more with every look."""

    def __init__(self, step: int = 0) -> None:
        self.now, self.step = 0, step

    def __call__(self) -> int:
        self.now += self.step
        return self.now


def model(count: int) -> Callable[[bytes], bytes]:
    """A function of bytes that gives `count` bytes."""
    return lambda x: hashlib.shake_128(x).digest(count)


def never(_: bytes) -> bytes:
    raise AssertionError("the model was run")


def size_of(given_bytes: int, output_bytes: int) -> int:
    """The bytes that an entry takes."""
    cache = ResponseCache(10**9, 1.0)
    answer_from(cache, 1, bytes(given_bytes), output_bytes, model(output_bytes))
    size: int = cache.statistics()["bytes"]
    return size


# Requests of a few keys of several sizes, with nanoseconds that pass before each.
KEYS = [(bytes([i]) * n, out) for i, (n, out) in enumerate([(1, 4), (1, 900), (70, 4), (64, 64), (500, 3), (0, 1)])]
SIZES = [size_of(len(key), out) for key, out in KEYS]
REQUESTS = st.lists(st.tuples(st.sampled_from(range(len(KEYS))), st.sampled_from([0, 0, 0, 1, 5, 11])), max_size=60)


@pytest.mark.parametrize("hash_bits", HASHES)
@settings(max_examples=60)
@given(requests=REQUESTS, bound=st.sampled_from([1, 255, 700, 1300, 1800, 2500, 10**6]))
def test_keeps_what_was_used_last_as_long_as_it_counts(hash_bits: int, requests: Any, bound: int) -> None:
    clock, ttl = Clock(), 12
    cache = ResponseCache(bound, ttl * 1e-9, hash_bits=hash_bits, clock=clock)
    kept: OrderedDict[int, int] = OrderedDict()  # key -> when it expires; the one used last at the end
    wanted = dict.fromkeys(["hits", "misses", "no_room", "evictions", "expired"], 0)
    for at, pause in requests:
        clock.now += pause
        key, out = KEYS[at]
        ran: list[bytes] = []
        answer = answer_from(cache, 1, key, out, lambda x, out=out, ran=ran: (ran.append(x), model(out)(x))[1])
        assert answer == model(out)(key)
        before = wanted["hits"]
        if at in kept and kept[at] <= clock.now:
            del kept[at]
            wanted["expired"] += 1
        if at in kept:
            kept.move_to_end(at)
            wanted["hits"] += 1
        elif SIZES[at] > bound:
            wanted["no_room"] += 1
        else:
            while sum(SIZES[k] for k in kept) + SIZES[at] > bound:
                kept.popitem(last=False)
                wanted["evictions"] += 1
            kept[at] = clock.now + ttl
            wanted["misses"] += 1
        assert ran == ([] if wanted["hits"] > before else [key])
        got = cache.statistics()
        assert {name: got[name] for name in wanted} == wanted
        assert (got["entries"], got["bytes"]) == (len(kept), sum(SIZES[k] for k in kept))
    cache.clear()
    assert cache.statistics()["bytes"] == 0


@pytest.mark.parametrize("hash_bits", HASHES)
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32), bound=st.sampled_from([600, 2500, 10**6]), keys=st.sampled_from([3, 20, 200]))
def test_threads_get_their_own_answers_within_the_bound(hash_bits: int, seed: int, bound: int, keys: int) -> None:
    cache = ResponseCache(bound, 3600.0, hash_bits=hash_bits)
    wrong: list[Any] = []
    each = 150

    def compute(x: bytes) -> bytes:
        held = cache.statistics()["bytes"]
        if held > bound:
            wrong.append(held)
        if x[0] % 8 == 7:
            raise KeyError(x)
        return model(8 * x[0])(x)

    def ask(own: int) -> None:
        draw = random.Random(seed + own)
        for i in range(each):
            x = bytes([draw.randrange(keys)]) * 16
            try:
                answer = answer_from(cache, 1, x, 8 * x[0], compute)
            except KeyError as error:
                answer = b"" if error.args == (x,) and x[0] % 8 == 7 else b"?"
            if answer != (b"" if x[0] % 8 == 7 else model(8 * x[0])(x)):
                wrong.append(x)
            if own == 0 and i % 50 == 20:
                cache.clear()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    got = cache.statistics()
    assert got["bytes"] <= bound
    assert got["hits"] + got["misses"] + got["shared"] + got["no_room"] >= 4 * each
    cache.clear()
    assert (cache.statistics()["bytes"], cache.statistics()["entries"]) == (0, 0)


class Slow:
    """A model that waits until it may go on, and counts its runs."""

    def __init__(self, *, fails: int = 0) -> None:
        self.started, self.may_go, self.runs, self.fails = threading.Event(), threading.Event(), 0, fails

    def __call__(self, x: bytes) -> bytes:
        self.runs += 1
        fails = self.runs <= self.fails
        self.started.set()
        assert self.may_go.wait(30)
        if fails:
            raise ValueError("failed")
        return model(5)(x)


def ask_at_once(cache: ResponseCache, slow: Slow, x: bytes, others: int) -> tuple[list[Any], list[threading.Thread]]:
    """One request that runs and others that wait for it: their answers, when the threads have ended."""
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(answer_from(cache, 1, x, 5, slow))
        except ValueError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(1 + others)]
    threads[0].start()
    assert slow.started.wait(30)
    for thread in threads[1:]:
        thread.start()
    while cache.statistics()["waiting"] < others:
        time.sleep(1e-3)
    return answers, threads


@pytest.mark.parametrize("hash_bits", HASHES)
def test_equal_requests_in_flight_are_computed_once(hash_bits: int) -> None:
    cache, slow = ResponseCache(10**6, 1.0, hash_bits=hash_bits), Slow()
    answers, threads = ask_at_once(cache, slow, b"same", 4)
    assert answer_from(cache, 1, b"other", 5, model(5)) == model(5)(b"other")  # nobody else waits
    slow.may_go.set()
    for thread in threads:
        thread.join()
    assert answers == [model(5)(b"same")] * 5
    assert slow.runs == 1
    got = cache.statistics()
    assert (got["misses"], got["shared"], got["hits"], got["waiting"]) == (2, 4, 0, 0)
    assert answer_from(cache, 1, b"same", 5, never) == answers[0]


def test_a_failure_is_told_to_its_own_caller_alone() -> None:
    cache, slow = ResponseCache(10**6, 1.0), Slow(fails=1)
    answers, threads = ask_at_once(cache, slow, b"x", 3)
    slow.may_go.set()
    for thread in threads:
        thread.join()
    assert sorted(map(str, answers)) == sorted(["failed"] + [str(model(5)(b"x"))] * 3)
    assert slow.runs == 2
    assert cache.statistics()["entries"] == 1


def test_what_is_cleared_while_in_flight_is_answered_and_not_kept() -> None:
    cache, slow = ResponseCache(10**6, 1.0), Slow()
    answers, threads = ask_at_once(cache, slow, b"x", 2)
    cache.clear()
    assert answer_from(cache, 1, b"x", 5, model(5)) == model(5)(b"x")  # does not wait for the one from before
    cache.clear()
    slow.may_go.set()
    for thread in threads:
        thread.join()
    assert answers == [model(5)(b"x")] * 3
    assert (cache.statistics()["entries"], cache.statistics()["bytes"]) == (0, 0)


def test_no_model_answers_for_another() -> None:
    cache = ResponseCache(10**6, 1.0, hash_bits=0)
    assert answer_from(cache, 1, b"x", 4, lambda _: b"1111") == b"1111"
    assert answer_from(cache, 2, b"x", 4, lambda _: b"2222") == b"2222"
    assert answer_from(cache, 1, b"x", 4, never) == b"1111"


def test_many_entries_take_tables_that_are_counted() -> None:
    cache = ResponseCache(10**7, 3600.0, window=10**6)  # whether it pays is not asked here
    keys = [i.to_bytes(4, "little") for i in range(3000)]
    for key in keys:
        answer_from(cache, 1, key, 4, model(4))
    entries = 3000 * size_of(4, 4)
    assert entries + 8 * 3000 // 2 <= cache.statistics()["bytes"] <= entries + 8 * 3000 * 4
    assert all(answer_from(cache, 1, key, 4, never) == model(4)(key) for key in keys)


def test_switches_itself_off_where_hits_do_not_pay_and_tries_again() -> None:
    clock = Clock(step=10)  # so a request costs tens of nanoseconds
    told: list[tuple[bool, str]] = []
    cache = ResponseCache(10**6, 1.0, window=64, clock=clock, on_switch=lambda on, why: told.append((on, why)))

    def compute(x: bytes) -> bytes:
        clock.now += 100
        return model(4)(x)

    def ask(requests: int, distinct: int) -> None:
        for i in range(requests):
            x = (i % distinct).to_bytes(4, "little")
            assert answer_from(cache, 1, x, 4, compute) == model(4)(x)

    ask(640, 4)  # nearly all are hits
    assert told == []
    assert cache.statistics()["on"]
    cache.clear()
    ask(64, 1000)
    (on, why), = told  # fmt: skip
    assert not on
    assert why.startswith("of the last 64 requests 0 were hits, which saved 0 ms and cost")
    got = cache.statistics()
    assert (got["on"], got["switched_off"], got["entries"], got["bytes"]) == (False, 1, 0, 0)
    ask(16 * 64, 4)
    assert cache.statistics()["bypassed"] == 16 * 64
    assert told[1:] == [(True, "it is tried again")]
    ask(64, 1000)  # the pause is twice as long
    assert "after 2048 requests" in told[2][1]
    ask(32 * 64 + 640, 4)
    assert [on for on, _ in told] == [False, True, False, True]
    assert cache.statistics()["on"]


def test_a_failing_log_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(on: bool, why: str) -> None:
        raise RuntimeError("no log")

    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(str(what.exc_value)))
    cache = ResponseCache(10**6, 1.0, window=16, clock=Clock(step=1), on_switch=fail)
    for i in range(16):
        assert answer_from(cache, 1, bytes([i]), 4, model(4)) == model(4)(bytes([i]))
    assert told == ["no log"]
    assert not cache.statistics()["on"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "bytes is 0"), ({"ttl": 0.0}, "ttl is 0"), ({"ttl": float("nan")}, "ttl is nan"),
        ({"window": 0}, "window is 0"), ({"hash_bits": 65}, "hash_bits is 65"),
    ],
)  # fmt: skip
def test_bad_options(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResponseCache(**{"size": 1, "ttl": 1.0, **arguments})


def test_a_forked_child_does_not_wait_for_its_parents_threads() -> None:
    code = """
import os, signal, threading
from taille._native import ResponseCache
from taille._native.testing import answer_from
cache = ResponseCache(10**6, 60.0, hash_bits=0)
answer_from(cache, 1, b"before", 3, lambda x: b"old")
started, may_go = threading.Event(), threading.Event()
def slow(x):
    started.set()
    may_go.wait(30)
    return b"yes"
busy = threading.Thread(target=lambda: answer_from(cache, 1, b"x", 3, slow))
busy.start()
started.wait(30)
child = os.fork()
if child == 0:
    signal.alarm(30)
    good = answer_from(cache, 1, b"x", 3, lambda x: b"own") == b"own" and cache.statistics()["entries"] == 1
    os._exit(0 if good else 1)
status = os.waitpid(child, 0)[1]
may_go.set()
busy.join()
print(status, cache.statistics()["entries"])
"""
    assert output_of(code) == "0 2"


class TestHash:
    @given(
        data=st.binary(max_size=200), at=st.integers(0, 10**6), bit=st.integers(0, 7), seed=st.integers(0, 2**64 - 1)
    )
    def test_every_bit_and_the_length_count(self, data: bytes, at: int, bit: int, seed: int) -> None:
        assert hash64(data, seed) == hash64(bytes(bytearray(data)), seed)
        assert hash64(data + b"\0", seed) != hash64(data, seed)
        assert hash64(data, seed) != hash64(data, seed ^ 1)
        if data:
            changed = bytearray(data)
            changed[at % len(data)] ^= 1 << bit
            assert hash64(bytes(changed), seed) != hash64(data, seed)

    @pytest.mark.parametrize("length", [4, 20, 64, 150])
    def test_counters_spread(self, length: int) -> None:
        hashes = [hash64(i.to_bytes(4, "little") * (length // 4) + bytes(length % 4)) for i in range(20000)]
        assert len(set(hashes)) == len(hashes)
        for shift in (0, 30, 60):  # 16 cells of 1250 in the mean; 35 is the deviation
            cells = [0] * 16
            for value in hashes:
                cells[value >> shift & 15] += 1
            assert max(abs(c - 1250) for c in cells) < 6 * 35
