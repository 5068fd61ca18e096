"""The runner: everyone gets their own answer, whatever else goes on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import taille
from plain_models import echo
from runner_models import adds_up, held, int8_mlp, ragged, slow
from taille import ClosedError, DeadlineError, QueueFullError, Runner


@pytest.fixture(scope="module")
def model():
    return int8_mlp()


def rows(count, seed=0, width=32):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def test_a_request_gives_what_predict_gives(model):
    x = rows(3)
    with Runner(model) as runner:
        future = runner.submit(x, request_id="mine")
        np.testing.assert_array_equal(future.result(), model.predict(x))
        assert future.request_id == "mine"
        assert (future.done(), future.cancelled(), future.running(), future.exception()) == (True, False, False, None)
        assert not future.cancel()
        np.testing.assert_array_equal(runner.predict({"x": x}), model.predict(x))
        names = {runner.submit(x).request_id for _ in range(3)}
        assert len(names) == 3
    assert runner.closed
    adds_up(runner.stats())


def test_those_that_wait_are_run_together(model):
    x = rows(10)
    with Runner(model) as runner:
        with held(runner, x[:1]):
            before = runner.stats()["batches"]
            futures = [runner.submit(x[i : i + 1]) for i in range(10)]
            assert runner.stats()["queue_depth"] == 10
            assert not any(f.done() or f.running() for f in futures)
        for i, future in enumerate(futures):
            np.testing.assert_array_equal(future.result(), model.predict(x[i : i + 1]))
        stats = runner.stats()
        assert stats["batches"] == before + 1
        assert stats["batch_sizes"][10] == 1
        assert stats["queue_peak"] == 10


def test_max_batch_bounds_a_batch(model):
    x = rows(10)
    with Runner(model, max_batch=4) as runner:
        with held(runner, x[:1]):
            futures = [runner.submit(x[i : i + 2]) for i in range(0, 10, 2)] + [runner.submit(x[:7])]
        for i, future in enumerate(futures[:5]):
            np.testing.assert_array_equal(future.result(), model.predict(x[2 * i : 2 * i + 2]))
        np.testing.assert_array_equal(futures[5].result(), model.predict(x[:7]))  # by itself
        sizes = runner.stats()["batch_sizes"]
        assert (sizes[4], sizes[2]) == (3, 1)  # what is above max_batch counts as the last
        assert max(sizes) == 4


def test_a_limit_of_the_model_bounds_a_batch_too():
    model = echo(metadata={"name": "echo", "limits": {"batch": [1, 3]}})
    x = rows(5, width=3)
    with Runner(model) as runner:
        with held(runner, x[:1]):
            futures = [runner.submit(x[i : i + 1]) for i in range(5)]
        concurrent.futures.wait(futures)
        assert max(runner.stats()["batch_sizes"]) == 3


def test_ragged_sequences_are_grouped_by_length():
    model = ragged()
    rng = np.random.default_rng(0)
    inputs = [rng.integers(0, 50, (int(n), int(length))) for n, length in rng.integers(1, 5, (40, 2))]
    with Runner(model) as runner:
        with held(runner, inputs[0]):
            futures = [runner.submit(x) for x in inputs]
        for x, future in zip(inputs, futures, strict=True):
            tokens, mean = future.result()
            np.testing.assert_array_equal(tokens, model.predict(x)[0])
            np.testing.assert_array_equal(mean, model.predict(x)[1])
        assert runner.stats()["batches"] < 20


def test_one_wrong_input_harms_no_other():
    model = ragged()
    ids = np.arange(20).reshape(10, 2)
    ids[3, 1] = 50  # outside the table
    with Runner(model) as runner:
        with held(runner, ids[:1]):
            futures = [runner.submit(ids[i : i + 1]) for i in range(10)]
        with pytest.raises(ValueError, match="50"):
            futures[3].result()
        assert isinstance(futures[3].exception(), ValueError)
        for i in (0, 1, 2, 4, 5, 6, 7, 8, 9):
            np.testing.assert_array_equal(futures[i].result()[0], model.predict(ids[i : i + 1])[0])
        assert runner.stats()["failed"] == 1


def test_a_model_of_a_fixed_batch_runs_one_by_one():
    model = echo(batch=2)
    with Runner(model) as runner:
        assert "does not vary" in runner.why
        x = [rows(2, seed, width=3) for seed in range(8)]
        with held(runner, x[0]):
            futures = [runner.submit(one) for one in x]
        for one, future in zip(x, futures, strict=True):
            np.testing.assert_array_equal(future.result(), one)
        assert list(runner.stats()["batch_sizes"]) == [1]
    with Runner(int8_mlp()) as runner:
        assert runner.why == ""


def test_a_full_queue_refuses_at_once(model):
    x = rows(1)
    with Runner(model, queue_size=3) as runner:
        with held(runner, x):
            futures = [runner.submit(x) for _ in range(3)]
            with pytest.raises(QueueFullError, match="3 requests are waiting"):
                runner.submit(x)
            assert futures[0].cancel()
            futures.append(runner.submit(x))  # there is room again
        assert concurrent.futures.wait(futures).not_done == set()
        assert runner.stats()["refused_full"] == 1
    adds_up(runner.stats())


def test_a_request_that_waits_can_be_cancelled(model):
    x = rows(6)
    with Runner(model) as runner:
        with held(runner, x[:1]):
            futures = [runner.submit(x[i : i + 1]) for i in range(6)]
            told = []
            futures[2].add_done_callback(lambda f: told.append(f.cancelled()))
            assert futures[2].cancel()
            assert futures[2].cancel()  # still cancelled
            assert told == [True]
            done, _ = concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
            assert done == {futures[2]}
        for i in (0, 1, 3, 4, 5):
            np.testing.assert_array_equal(futures[i].result(), model.predict(x[i : i + 1]))
        with pytest.raises(concurrent.futures.CancelledError):
            futures[2].result()
        assert runner.stats()["cancelled"] == 1
    adds_up(runner.stats())


def test_a_deadline_that_passes_while_waiting(model):
    x = rows(2)
    with Runner(model) as runner:
        with held(runner, x[:1]):
            late, patient = runner.submit(x, deadline=1e-3), runner.submit(x)
            threading.Event().wait(0.01)
        with pytest.raises(DeadlineError, match="deadline"):
            late.result()
        np.testing.assert_array_equal(patient.result(), model.predict(x))  # max_latency is an aim
        assert runner.stats()["expired"] == 1
    adds_up(runner.stats())


def test_a_deadline_that_cannot_be_met_is_refused():
    model = slow()
    x = rows(1, width=256)
    with Runner(model) as runner:
        runner.submit(x, deadline=1e-9).exception()  # nothing is known of the cost yet: accepted, and given up or not
        for _ in range(5):
            runner.predict(x)
        with pytest.raises(DeadlineError, match="would take"):
            runner.submit(x, deadline=1e-7)
        with pytest.raises(TimeoutError):  # it is one of these, too
            runner.submit(x, deadline=1e-7)
        np.testing.assert_array_equal(runner.predict(x, deadline=60.0), model.predict(x))
        assert runner.stats()["refused_deadline"] == 2
        # A cost that one slow run made too high does not refuse for ever: each refusal of an idle runner lowers it.
        for _ in range(1000):
            try:
                runner.submit(x, deadline=1e-7)
            except DeadlineError:
                continue
            break
        else:
            pytest.fail("refused for ever")
    adds_up(runner.stats())


def test_priority_goes_first(model):
    x = rows(1)
    order = []
    with Runner(model, max_batch=1) as runner, held(runner, x):
        futures = [runner.submit(x, priority=p) for p in (0, 5, -5, 5)]
        for name, future in zip("abcd", futures, strict=True):
            future.add_done_callback(lambda _, name=name: order.append(name))
    assert "".join(order) == "bdac"


def test_close_while_busy(model):
    x = rows(5)
    runner = Runner(model)
    closer = threading.Thread(target=runner.close)
    with held(runner, x[:1]):
        futures = [runner.submit(x[i : i + 1]) for i in range(5)]
        closer.start()
        while not runner.closed:
            threading.Event().wait(0.001)
        with pytest.raises(ClosedError, match="closed or drained"):
            runner.submit(x)
        assert not runner.drain(timeout=0.01)
    closer.join()
    for i, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(), model.predict(x[i : i + 1]))
    runner.close()  # again
    assert runner.drain()
    adds_up(runner.stats())


def test_close_without_patience_cancels_what_waits(model):
    runner = Runner(model)
    closer = threading.Thread(target=runner.close, args=(0.0,))
    with held(runner, rows(1)):
        futures = [runner.submit(rows(1)) for _ in range(5)]
        closer.start()
        assert concurrent.futures.wait(futures, timeout=60).not_done == set()
        assert all(f.cancelled() for f in futures)
    closer.join()
    assert runner.stats()["cancelled"] == 5
    adds_up(runner.stats())


def test_a_callback_cannot_close_what_waits_for_it(model):
    runner, found = Runner(model), []

    def close(_future):
        try:
            runner.close()
        except RuntimeError as error:
            found.append(str(error))

    with held(runner, rows(1)):
        runner.submit(rows(1)).add_done_callback(close)
    runner.close()
    assert len(found) == 1
    assert "callback" in found[0]


def test_a_runner_that_is_dropped_answers_what_it_took(model):
    runner, x = Runner(model), rows(20)
    futures = [runner.submit(x[i : i + 1]) for i in range(20)]
    gone = weakref.ref(runner)
    del runner
    gc.collect()
    assert gone() is None
    for i, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(timeout=60), model.predict(x[i : i + 1]))


def test_asyncio(model):
    x = rows(30)

    async def ask():
        with held(runner, x[:1]):
            tasks = [asyncio.ensure_future(one(i)) for i in range(30)]
            await asyncio.sleep(0)
            tasks[7].cancel()
            while runner.stats()["cancelled"] == 0:  # it leaves the queue of the runner, too
                await asyncio.sleep(0.001)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(found.pop(7), asyncio.CancelledError)
        return found

    async def one(i):
        return await runner.submit(x[i : i + 1])

    with Runner(model) as runner:
        found = asyncio.run(ask())
    wanted = [model.predict(x[i : i + 1]) for i in range(30) if i != 7]
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(wanted))


def test_streams_share_the_models_weights_and_plans(model):
    model.native.release()
    with Runner(model, streams=2, threads=1) as runner:
        runner.predict(rows(7))
        assert model.native.plan_count() == 1  # it ran on the model itself
    more = model.threads + 1
    with Runner(model, threads=more) as runner:
        assert runner.threads == more
        np.testing.assert_array_equal(runner.predict(rows(7)), model.predict(rows(7)))


def test_torch_tensors_come_back_as_such(model):
    torch = pytest.importorskip("torch")
    with Runner(model) as runner:
        found = runner.submit(torch.from_numpy(rows(2))).result()
        assert isinstance(found, torch.Tensor)
        np.testing.assert_array_equal(found.numpy(), model.predict(rows(2)))


def test_pickled_by_path(tmp_path):
    model = int8_mlp()
    with Runner(model) as runner, pytest.raises(TypeError, match="save it first"):
        pickle.dumps(runner)
    model.save(tmp_path / "m.safetensors")
    with Runner(model, max_batch=3, timeout=0.5, streams=2, threads=1) as runner:
        with pickle.loads(pickle.dumps(runner)) as other:
            np.testing.assert_array_equal(other.predict(rows(2)), runner.predict(rows(2)))
            assert (other.streams, other.threads) == (2, 1)
            assert other.__reduce__()[1][2] == runner.__reduce__()[1][2]
        with Runner(taille.load(tmp_path / "m.safetensors")) as loaded:
            pickle.dumps(loaded)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ({"streams": 0}, ValueError, "streams is 0"),
        ({"streams": 1000}, ValueError, "streams must be in"),
        ({"threads": True}, TypeError, "threads is bool"),
        ({"max_batch": 2.5}, TypeError, "max_batch is float"),
        ({"timeout": -1}, ValueError, "timeout is -1"),
        ({"max_latency": 0}, ValueError, "max_latency must be above 0"),
        ({"max_latency": float("nan")}, ValueError, "max_latency is nan"),
        ({"queue_size": 0}, ValueError, "queue_size is 0"),
    ],
)
def test_bad_options(model, what, error, message):
    with pytest.raises(error, match=message):
        Runner(model, **what)


def test_bad_requests(model):
    with pytest.raises(TypeError, match=r"taille\.Runner takes"):
        Runner("model.safetensors")
    with Runner(model) as runner:
        for _ in range(2):  # known shapes go another way
            with pytest.raises(ValueError, match="input 'x' has shape"):
                runner.submit(rows(1, width=31))
            with pytest.raises(TypeError, match="input 'x' is float64"):
                runner.submit(rows(1).astype(np.float64))
            with pytest.raises(ValueError, match="number of inputs"):
                runner.submit((rows(1), rows(1)))
            with pytest.raises(ValueError, match="at least 1"):
                runner.submit(rows(0))
            runner.predict(rows(1))
        for wrong, error in ((0, ValueError), (-1.0, ValueError), ("1", TypeError), (float("inf"), ValueError)):
            with pytest.raises(error, match="deadline"):
                runner.submit(rows(1), deadline=wrong)
        with pytest.raises(TypeError, match="priority"):
            runner.submit(rows(1), priority=1.5)
        with pytest.raises(TypeError, match="request_id"):
            runner.submit(rows(1), request_id=3)
        assert runner.stats()["submitted"] == 2
