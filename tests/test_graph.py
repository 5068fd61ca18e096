"""The graph checks every node that enters it."""

import numpy as np
import pytest

from taille import _native


def graph(dtype="float32", shape=("batch", 8)):
    g = _native.Graph()
    return g, g.add_input("x", dtype, list(shape))


def weight(g, *shape):
    return g.add_constant(f"w{shape}", np.ones(shape, np.float32))


def test_shapes_are_inferred_with_symbols():
    g, x = graph(shape=("batch", 3, 32, 32))
    y = g.add_node("conv2d", [x, weight(g, 16, 3, 3, 3)], {"stride": [2, 2], "padding": [1, 1, 1, 1]})
    assert g.value(y)[2] == ["batch", 16, 16, 16]
    z = g.add_node("reshape", [y], {"shape": ["batch", 4096]})
    assert g.value(z)[1:] == ("float32", ["batch", 4096])


def test_dynamic_images_give_floor_quotients():
    g, x = graph(shape=("batch", 3, "height", 32))
    y = g.add_node("conv2d", [x, weight(g, 4, 3, 3, 3)], {"stride": [2, 2], "padding": [1, 1, 1, 1]})
    assert g.value(y)[2] == ["batch", 4, "floor((height - 1)/2) + 1", 16]


def test_attention_and_mask_shapes():
    g, q = graph(shape=("batch", "sequence", 12, 32))
    mask = g.add_input("mask", "bool", ["batch", 1, 1, "sequence"])
    y = g.add_node("sdpa", [q, q, q, mask], {"scale": 0.2, "heads_last": True})
    assert g.value(y)[2] == ["batch", "sequence", 12, 32]


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("no_such_op", {}, "unknown op 'no_such_op'"),
        ("softmax", {}, "attribute 'axis' is missing"),
        ("softmax", {"axis": 2}, "axis 2 is outside rank 2"),
        ("softmax", {"axis": "last"}, "attribute 'axis' is a string; wanted an integer"),
        ("relu6", {}, "unknown op"),
        ("clamp", {"lo": 2.0, "hi": 1.0}, "lo 2 is above hi 1"),
        ("clamp", {"lo": float("nan")}, "NaN"),
        ("clamp", {"slope": 1.0}, "unknown attribute 'slope'"),
        ("reshape", {"shape": [3]}, "does not fit"),
        ("permute", {"axes": [0, 0]}, "no permutation"),
        ("slice", {"axis": 1, "start": [6], "length": [4]}, "reaches outside"),
        ("dequantize", {}, "input 0 is float32; wanted uint8"),
        ("max_pool2d", {"kernel": [2, 2]}, "wanted 4 dimensions"),
        ("logical_not", {}, "wanted bool"),
    ],
)
def test_bad_nodes_are_refused_by_name(op, attrs, message):
    g, x = graph()
    with pytest.raises((ValueError, TypeError), match=message):
        g.add_node(op, [x], attrs, name="layer1.bad")
    assert g.nodes == []


def test_errors_name_the_node():
    g, x = graph()
    with pytest.raises(ValueError, match=r"linear 'encoder.fc': input \[batch, 8\] does not fit weight \[4, 9\]"):
        g.add_node("linear", [x, weight(g, 4, 9)], name="encoder.fc")


def test_missing_and_unknown_inputs():
    g, x = graph()
    with pytest.raises(ValueError, match="input 1 is missing"):
        g.add_node("linear", [x, -1])
    with pytest.raises(ValueError, match="no value 77"):
        g.add_node("add", [x, 77])
    with pytest.raises(ValueError, match="at most 1"):
        g.add_node("tanh", [x, x])


def test_windows_must_fit():
    g, x = graph(shape=("batch", 3, 4, 4))
    with pytest.raises(ValueError, match="a window of 5 does not fit an extent of 4"):
        g.add_node("conv2d", [x, weight(g, 8, 3, 5, 5)])


def test_dump_is_readable():
    g, x = graph()
    y = g.add_node("linear", [x, weight(g, 4, 8)], name="fc", source="model.py:7")
    g.add_output("logits", y)
    text = g.dump()
    assert "input 'x' : float32 [batch, 8]" in text
    assert "linear(%0, const 'w(4, 8)' [4, 8])" in text
    assert "# fc @ model.py:7" in text
    assert "output 'logits'" in text


def test_duplicate_inputs_are_refused():
    g, _ = graph()
    with pytest.raises(ValueError, match="two graph inputs are named 'x'"):
        g.add_input("x", "float32", [1])


def test_unsupported_constant_dtype():
    g, _ = graph()
    with pytest.raises(TypeError, match="float64"):
        g.add_constant("c", np.ones(3))
