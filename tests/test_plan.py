"""The memory plan, the plan cache, concurrent runs, and what the executor refuses."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taille import _native
from taille._native import testing

blocks = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(0, 20), st.integers(0, 10)).map(lambda b: (b[0], b[1], b[1] + b[2])),
    max_size=30,
)


@given(blocks)
def test_blocks_alive_together_do_not_overlap(given_blocks):
    offsets, total = testing.place_blocks(given_blocks)
    for i, (bytes_i, first_i, last_i) in enumerate(given_blocks):
        assert offsets[i] >= 0
        assert offsets[i] + bytes_i <= total
        for j in range(i):
            bytes_j, first_j, last_j = given_blocks[j]
            if last_j < first_i or last_i < first_j:
                continue
            assert offsets[i] + bytes_i <= offsets[j] or offsets[j] + bytes_j <= offsets[i]
    assert total <= sum(b[0] for b in given_blocks)


def test_a_chain_needs_two_buffers():
    chain = [(100, i, i + 1) for i in range(10)]
    assert testing.place_blocks(chain)[1] == 200


def mlp(width=64, layers=3):
    rng = np.random.default_rng(0)
    g = _native.Graph()
    y = g.add_input("x", "float32", ["batch", width])
    for i in range(layers):
        w = g.add_constant(f"w{i}", (rng.standard_normal((width, width)) / width**0.5).astype(np.float32))
        y = g.add_node("clamp", [g.add_node("linear", [y, w], {}, f"fc{i}")], {"lo": 0.0}, f"relu{i}")
    g.add_output("y", y)
    return _native.optimize(g)[0]


def test_memory_is_shared_by_layers():
    shallow, deep = _native.Model(mlp(layers=4), 1), _native.Model(mlp(layers=12), 1)
    x = np.ones((32, 64), np.float32)
    for model in (shallow, deep):
        model.run({"x": x})
    assert shallow.arena_bytes() == deep.arena_bytes()


def test_plan_cache_is_bounded_and_right():
    model = _native.Model(mlp(), 2)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200, 64)).astype(np.float32)
    whole = model.run({"x": x})[0]
    for batch in [*range(1, 100), *range(1, 50)]:
        np.testing.assert_array_equal(model.run({"x": x[:batch]})[0], whole[:batch])
    assert model.plan_count() <= 32
    model.release()
    assert model.plan_count() == 0
    assert model.arena_bytes() == 0
    np.testing.assert_array_equal(model.run({"x": x})[0], whole)


def test_concurrent_runs_give_each_caller_its_own_result():
    model = _native.Model(mlp(), 2)
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal((b, 64)).astype(np.float32) for b in (1, 3, 8, 17)]
    expected = [model.run({"x": x})[0] for x in inputs]
    wrong = []

    def work(k):
        for _ in range(200):
            if not np.array_equal(model.run({"x": inputs[k]})[0], expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_outputs_that_are_inputs_constants_or_shared():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 4])
    c = g.add_constant("c", np.arange(3, dtype=np.float32))
    y = g.add_node("neg", [x], {}, "neg")
    v = g.add_node("reshape", [y], {"shape": ["batch", 2, 2]}, "view")
    for name, value in [("same", x), ("constant", c), ("y", y), ("again", y), ("view", v)]:
        g.add_output(name, value)
    x_ = np.arange(8, dtype=np.float32).reshape(2, 4)
    same, constant, y_, again, view = _native.Model(g, 1).run({"x": x_})
    np.testing.assert_array_equal(same, x_)
    np.testing.assert_array_equal(constant, [0, 1, 2])
    np.testing.assert_array_equal(y_, -x_)
    np.testing.assert_array_equal(again, -x_)
    np.testing.assert_array_equal(view, -x_.reshape(2, 2, 2))


def test_in_place_work_leaves_the_callers_input_alone():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch"])
    g.add_output("y", g.add_node("exp", [g.add_node("neg", [x])]))
    x_ = np.ones(100, np.float32)
    _native.Model(g, 1).run({"x": x_})
    assert (x_ == 1).all()


def test_work_in_place_that_nothing_reads_leaves_earlier_values_alone():
    rng = np.random.default_rng(3)
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 8])
    w = g.add_constant("w", rng.standard_normal((8, 8)).astype(np.float32))
    a = g.add_node("linear", [x, w], {}, "a")
    b = g.add_node("linear", [a, w], {}, "b")
    c = g.add_node("linear", [b, w], {}, "c")
    g.add_output("y", g.add_node("linear", [g.add_node("add", [c, a]), w], {}, "y"))
    wanted = _native.Model(g, 1).run({"x": np.eye(8, dtype=np.float32)})[0]
    g.add_node("exp", [a], {}, "unread")
    np.testing.assert_array_equal(_native.Model(g, 1).run({"x": np.eye(8, dtype=np.float32)})[0], wanted)


@pytest.mark.parametrize("batch", [0, 1])
def test_small_batches(batch):
    assert _native.Model(mlp(), 2).run({"x": np.ones((batch, 64), np.float32)})[0].shape == (batch, 64)


def test_bad_inputs_are_refused_by_name():
    model = _native.Model(mlp(), 1)
    good = np.ones((2, 64), np.float32)
    for given_inputs, error, message in [
        ({}, ValueError, "input 'x' is missing"),
        ({"x": good, "z": good}, ValueError, "no input 'z'; it takes 'x'"),
        ({"x": [1.0]}, TypeError, "input 'x' is a list; wanted a numpy array of float32"),
        ({"x": good.astype(np.float64)}, TypeError, "input 'x' is float64; wanted float32"),
        ({"x": good.astype(">f4")}, TypeError, "input 'x' is big-endian float32; wanted float32"),
        ({"x": good[0]}, ValueError, r"input 'x' has shape \[64\]; wanted \[batch, 64\]"),
        ({"x": good[:, :63]}, ValueError, r"input 'x' has shape \[2, 63\]; wanted \[batch, 64\]"),
    ]:
        with pytest.raises(error, match=message):
            model.run(given_inputs)


def test_dimensions_must_agree_between_inputs():
    g = _native.Graph()
    a = g.add_input("a", "float32", ["batch", 4])
    b = g.add_input("b", "float32", ["batch", 4])
    g.add_output("y", g.add_node("add", [a, b]))
    model = _native.Model(g, 1)
    with pytest.raises(ValueError, match=r"input 'b' has shape .* 'batch' is 2"):
        model.run({"a": np.ones((2, 4), np.float32), "b": np.ones((3, 4), np.float32)})


def test_ids_are_checked_at_every_run():
    g = _native.Graph()
    ids = g.add_input("ids", "int64", ["batch"])
    table = g.add_constant("table", np.arange(20, dtype=np.float32).reshape(10, 2))
    g.add_output("y", g.add_node("embedding", [table, ids], {}, "words"))
    model = _native.Model(g, 1)
    assert model.run({"ids": np.array([3, 9])})[0].tolist() == [[6, 7], [18, 19]]
    for bad in (-1, 10, 2**40):
        with pytest.raises(ValueError, match=rf"embedding 'words': id {bad} at position 1 is outside \[0, 10\)"):
            model.run({"ids": np.array([0, bad])})
    assert model.run({"ids": np.array([0])})[0].tolist() == [[0, 1]]


def test_gather_and_index_are_checked():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 3])
    i = g.add_input("i", "int64", ["batch", 1])
    g.add_output("gathered", g.add_node("gather", [x, i], {"axis": 1}, "pick"))
    g.add_output("rows", g.add_node("index", [x, i], {}, "rows"))
    model = _native.Model(g, 1)
    x_ = np.arange(6, dtype=np.float32).reshape(2, 3)
    gathered, rows = model.run({"x": x_, "i": np.array([[1], [-1]])})
    assert gathered.tolist() == [[1], [5]]
    assert rows.tolist() == [[[3, 4, 5]], [[3, 4, 5]]]
    with pytest.raises(ValueError, match="index 3 is outside an extent of 3"):
        model.run({"x": x_, "i": np.array([[0], [3]])})


def test_unknown_and_missing_levels():
    with pytest.raises(ValueError, match="pentium"):
        _native.Model(mlp(), 1, "pentium")


def test_unoptimised_images_are_refused():
    g = _native.Graph()
    x = g.add_input("x", "float32", ["batch", 3, 8, 8])
    g.add_output("y", g.add_node("conv2d", [x, g.add_constant("w", np.ones((4, 3, 3, 3), np.float32))], {}, "c"))
    with pytest.raises(ValueError, match="no kernel runs conv2d 'c' as it stands"):
        _native.Model(g, 1)
