"""When a batch closes and what it takes: the queue behind a runner, with time as the tests tell it. Seconds."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taille._native import testing
from taille._native.testing import BatchQueue

A, B = [16], [17]  # trailing dimensions
FIXED, EACH = 1.0, 0.1  # what a batch costs in learned_queue: FIXED + EACH * samples


def learned_queue(*, max_batch=8, timeout=100.0, streams=1, gap=1e-3, fixed=FIXED, each=EACH, max_latency=1e6):
    """A queue that knows that cost, and requests of shape A that have come every `gap` seconds; and the time now."""
    queue = BatchQueue(max_batch, timeout, streams, max_latency)
    now = 0.0
    for samples in (max_batch, 4, 2, 1):
        for _ in range(168 if samples == 1 else 8):  # so that requests of one are what is usual
            now += gap
            queue.push(A, now, samples)
            queue.take(now)
            queue.ran(fixed + each * samples)
    return queue, now


def test_nothing_waits_in_an_empty_queue():
    queue = BatchQueue(4, 0.1)
    assert queue.closes(0.0) is None
    with pytest.raises(ValueError, match="nothing waits"):
        queue.take(0.0)


def test_a_lone_request_never_waits():
    queue = BatchQueue(64, 0.1)
    queue.push(A, 1.0)
    assert queue.closes(1.0) == 1.0  # nothing is known yet
    queue, now = learned_queue(gap=FIXED + EACH + 1e-5)  # one caller, who asks when the answer is there
    queue.push(A, now + FIXED + EACH)
    assert queue.closes(now + FIXED + EACH) == pytest.approx(now + FIXED + EACH)


def test_it_waits_while_more_are_expected_and_worth_it():
    queue, now = learned_queue(gap=1e-3)
    queue.push(A, now)
    patience = (FIXED + EACH) / 2 - EACH  # with one there: see batch_queue.h
    assert queue.closes(now) == pytest.approx(now + patience)
    queue.push(A, now + 0.01)
    assert queue.closes(now + 0.01) == pytest.approx(now + 0.01 + (FIXED + EACH) / 3 - EACH)


def test_and_not_where_batches_cost_in_proportion():
    queue = BatchQueue(8, 100.0)
    for i, samples in enumerate([1, 2, 4, 8] * 8):
        queue.push(A, i * 1e-3, samples)
        queue.take(i * 1e-3)
        queue.ran(0.1 * samples)
    queue.push(A, 1.0)
    assert queue.closes(1.0) == 1.0


def test_the_oldest_waits_no_longer_than_the_timeout():
    queue, now = learned_queue(timeout=0.05)
    queue.push(A, now)
    queue.push(A, now + 0.04)
    assert queue.closes(now + 0.04) == pytest.approx(now + 0.05)
    impatient, now = learned_queue(timeout=0.0)
    impatient.push(A, now)
    assert impatient.closes(now) == pytest.approx(now)


def test_a_deadline_closes_it_while_there_is_time_for_the_batch():
    queue, now = learned_queue()
    queue.push(A, now, deadline=now + 1.5)
    assert queue.closes(now) == pytest.approx(now + 1.5 - 1.25 * (FIXED + EACH))
    queue.push(A, now, deadline=now + 0.1)  # cannot be met any more: at once
    assert queue.closes(now) == pytest.approx(now)


def test_a_full_batch_closes_at_once():
    queue, now = learned_queue(max_batch=4)
    for _ in range(6):
        queue.push(A, now)
    assert queue.closes(now) == pytest.approx(now)
    taken, _ = queue.take(now)
    assert len(taken) == 4
    assert queue.closes(now) > now + 0.1  # two are left


def test_all_close_at_once_in_a_hurry():
    queue, now = learned_queue()
    queue.push(A, now)
    assert queue.closes(now, hurry=True) == pytest.approx(now)


def test_shapes_are_kept_apart():
    queue = BatchQueue(8, 0.1)
    ids = [queue.push(key, 0.0) for key in (A, B, A, B)]
    assert [queue.take(0.0)[0], queue.take(0.0)[0]] == [[ids[0], ids[2]], [ids[1], ids[3]]]


def test_priority_then_arrival():
    queue = BatchQueue(2, 0.1)
    low = [queue.push(A, 0.0), queue.push(A, 0.1)]
    other = queue.push(B, 0.05, priority=1)
    high = [queue.push(A, 0.2, priority=5), queue.push(A, 0.3, priority=5), queue.push(A, 0.4, priority=5)]
    order = [queue.take(1.0)[0] for _ in range(4)]
    assert order == [high[:2], [high[2], low[0]], [other], [low[1]]]


def overdue_turns(queue, key=A):
    """Low ones of that shape that came at 0 among high ones that never end: when each was taken, in batches of one."""
    queue.push(key, 0.0)
    queue.take(0.0)
    queue.ran(0.1)
    low = [queue.push(key, 0.0, priority=-3), queue.push(key, 0.0, priority=-3)]
    taken = []
    for batch in range(60):
        queue.push(A, batch * 0.1, priority=7)
        (one,), expired = queue.take(batch * 0.1)
        assert not expired
        queue.ran(0.1)
        taken += [batch] if one in low else []
    return taken


@pytest.mark.parametrize("key", [A, B])
def test_lasting_load_of_a_higher_priority_does_not_starve_a_lower_one(key):
    # Batches of 0.1 s: after one that began with the longest wait, seven others.
    assert overdue_turns(BatchQueue(1, 0.1, max_latency=1.05), key) == [11, 19]
    assert overdue_turns(BatchQueue(1, 0.1, max_latency=3.05), key) == [31, 39]
    assert overdue_turns(BatchQueue(1, 0.1, max_latency=9.0), key) == []


def test_the_longest_wait_goes_first_and_the_rest_of_its_batch_by_priority():
    queue = BatchQueue(3, 0.1, max_latency=1.0)
    late = queue.push(A, 0.1, priority=-1), queue.push(A, 0.2, priority=-1), queue.push(A, 0.3, priority=-2)
    high = [queue.push(A, 1.0 + i / 10, priority=1) for i in range(4)]
    assert queue.take(2.0)[0] == [late[0], *high[:2]]
    queue.ran(1.0)
    assert queue.take(2.5)[0] == [late[1], high[2], high[3]]  # what that costs was not known before
    queue.ran(1.0)
    high += [queue.push(A, 3.0, priority=1)]
    assert queue.take(4.0)[0] == [high[4], late[2]]


def test_one_that_is_late_leaves_the_others_their_deadlines():
    queue, now = learned_queue(max_latency=1.0)
    late = queue.push(A, now, priority=-1)
    now += 5
    promised = queue.push(A, now, deadline=now + FIXED + 2.5 * EACH, promised=True, priority=1)
    others = [queue.push(A, now, priority=1) for _ in range(6)]
    assert queue.take(now)[0] == [late, promised]  # a third would break the promise
    assert queue.take(now)[0] == others


def test_those_that_are_given_up_do_not_take_the_place_of_one_that_waits_long():
    queue, now = learned_queue(max_batch=1, max_latency=1.0)
    gone = [queue.push(A, now, deadline=now + 2, promised=True, priority=-1) for _ in range(5)]
    low = queue.push(A, now, priority=-1)
    queue.push(A, now + 4, priority=1)
    assert queue.take(now + 4) == ([low], gone)


def test_large_requests_run_alone_and_none_is_overtaken():
    queue = BatchQueue(4, 0.1)
    ids = [queue.push(A, 0.0, n) for n in (1, 9, 1, 2, 2)]
    assert [queue.take(0.0)[0] for _ in range(4)] == [[ids[0]], [ids[1]], ids[2:4], [ids[4]]]


@pytest.mark.parametrize(
    ("gap", "streams", "fixed", "each", "taken"),
    [
        (4.0, 1, 0.1, 1.0, 1),  # a tenth is saved, and each would wait for the others: one by one
        (0.5, 1, 0.1, 1.0, 4),  # more than single runs can keep up with: nothing but throughput counts
        (0.5, 8, 0.1, 1.0, 1),  # which many streams can
        (4.0, 1, 0.3, 1.0, 2),  # in between: see batch_queue.h
        (4.0, 1, 1.0, 0.1, 4),  # most of a run is saved
    ],
)
def test_a_batch_grows_while_that_lowers_the_sum_of_latencies(gap, streams, fixed, each, taken):
    queue, now = learned_queue(gap=gap, streams=streams, fixed=fixed, each=each)
    ids = [queue.push(A, now + gap) for _ in range(4)]
    assert queue.take(now + gap)[0] == ids[:taken]


def test_a_promise_that_was_made_for_full_batches_is_kept():
    queue, now = learned_queue(gap=40.0, fixed=1.0, each=1.0)
    for _ in range(8):
        assert queue.seconds_to_done(A, now) <= 9.5
        queue.push(A, now, deadline=now + 9.5, promised=True)
    assert len(queue.take(now)[0]) == 8


def test_what_larger_batches_cost_is_learned_anew_now_and_then():
    queue, now = learned_queue(gap=4.0, fixed=0.1, each=1.0)
    sizes = []
    for _ in range(64):
        now += 20.0
        for _ in range(3):
            queue.push(A, now)
        batch, _ = queue.take(now)
        sizes.append(len(batch))
        queue.ran(0.1 + len(batch))
        while queue.size():
            sizes.append(len(queue.take(now)[0]))
            queue.ran(0.1 + sizes[-1])
    assert 1 <= sum(size > 1 for size in sizes) <= len(sizes) / 25


def test_the_first_run_of_a_size_says_least():
    queue = BatchQueue(8, 0.1)
    for samples, seconds in ((1, 1.0), (8, 50.0), (8, 2.0), (8, 2.0)):
        queue.push(A, 0.0, samples)
        queue.take(0.0)
        queue.ran(seconds)
    assert queue.seconds_to_done(A, 100.0, 8) == pytest.approx(2.0)


def test_in_a_hurry_nothing_but_throughput_counts():
    queue, now = learned_queue(gap=4.0, fixed=0.1, each=1.0)
    ids = [queue.push(A, now + 4.0) for _ in range(4)]
    assert queue.take(now + 4.0, hurry=True)[0] == ids


def test_a_batch_stops_growing_where_that_would_break_a_deadline():
    queue, now = learned_queue()
    ids = [queue.push(A, now, deadline=now + FIXED + 3.5 * EACH) for _ in range(6)]
    assert queue.take(now)[0] == ids[:3]
    late = now + 1.0  # now no size can meet them, so that they may as well go together
    assert queue.take(late)[0] == ids[3:]


def test_only_promised_deadlines_are_given_up():
    queue, now = learned_queue()
    ids = [queue.push(A, now, deadline=now + 2.0, promised=p) for p in (True, False, True)]
    assert queue.take(now + 1.5) == ([ids[1]], [ids[0], ids[2]])
    assert queue.size() == 0


def test_what_a_request_will_take():
    queue, now = learned_queue(max_batch=4)
    assert queue.seconds_to_done(B, now) == 0  # nothing known: welcome
    alone = queue.seconds_to_done(A, now)
    assert alone == pytest.approx(FIXED + EACH)
    for _ in range(5):
        queue.push(A, now)
    assert queue.seconds_to_done(A, now) == pytest.approx((FIXED + 4 * EACH) + (FIXED + 2 * EACH))
    assert queue.seconds_to_done(A, now, priority=1) == pytest.approx(alone)  # goes before them
    queue.take(now)
    running = FIXED + 4 * EACH
    assert queue.seconds_to_done(A, now + 0.25) == pytest.approx(running - 0.25 + FIXED + 2 * EACH)


def test_costs_between_and_beyond_what_ran():
    queue = BatchQueue(8, 0.1)
    for samples, seconds in ((2, 1.0), (4, 3.0)):
        queue.push(A, 0.0, samples)
        queue.take(0.0)
        queue.ran(seconds)
    found = [queue.seconds_to_done(A, 100.0, samples) for samples in (1, 2, 3, 4, 8)]
    assert found == pytest.approx([1.0, 1.0, 2.0, 3.0, 6.0])


requests = st.lists(
    st.tuples(st.sampled_from([A, B]), st.integers(1, 5), st.integers(0, 2), st.booleans(), st.floats(0.01, 3.0)),
    max_size=60,
)


@given(requests, st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_every_request_leaves_once_in_order_and_in_fitting_batches(given_requests, max_batch, seed):
    rng = random.Random(seed)
    queue = BatchQueue(max_batch, 0.1, streams=2, max_latency=0.5)
    now, waiting, left = 0.0, {}, []

    def take():
        batch, expired = queue.take(now)
        assert batch or expired
        assert all(waiting[i][3] for i in expired), "only what was promised is given up"
        assert len({tuple(waiting[i][0]) for i in batch + expired}) == 1
        assert len(batch) <= 1 or sum(waiting[i][1] for i in batch) <= max_batch
        priorities = [waiting[i][2] for i in batch]
        if priorities != sorted(priorities, reverse=True):
            assert now - waiting[batch[0]][4] > 0.5, "only what has waited long goes before its turn"
            assert priorities[1:] == sorted(priorities[1:], reverse=True)
        for i in batch:
            before = [j for j, r in waiting.items() if r[0] == waiting[i][0] and r[2] == waiting[i][2] and j < i]
            assert set(before) <= set(batch + expired), "nothing is overtaken within its priority"
        for i in batch + expired:
            del waiting[i]
        left.extend(batch + expired)
        if batch:
            queue.ran(rng.uniform(0.01, 1.0))

    for key, samples, priority, promised, deadline in given_requests:
        now += rng.uniform(0, 0.05)
        number = queue.push(key, now, samples, now + deadline, promised, priority)
        waiting[number] = (key, samples, priority, promised, now)
        if rng.random() < 0.3 and queue.closes(now) <= now:
            take()
        if waiting and rng.random() < 0.1:
            gone = rng.choice(list(waiting))
            assert queue.remove(gone)
            assert not queue.remove(gone)
            del waiting[gone]
            left.append(gone)
    while waiting:
        now += 1.0
        take()
    assert sorted(left) == list(range(1, len(given_requests) + 1))
    assert queue.size() == 0
    assert queue.closes(now) is None


@given(st.lists(st.floats(2e-6, 100.0), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantiles_of_the_histogram(seconds, share):
    wanted = sorted(seconds)[max(1, math.ceil(share * len(seconds))) - 1]
    assert testing.histogram_quantiles(seconds, [share])[0] == pytest.approx(wanted, rel=0.06)


def test_a_histogram_of_nothing():
    assert testing.histogram_quantiles([], [0.5]) == [0.0]
    assert testing.histogram_quantiles([0.0, 1e9], [0.01])[0] < 1e-6
