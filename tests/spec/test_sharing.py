"""Parameters that layers share by name."""

import pytest

from caffe_port.errors import LayerError
from tests.spec.making import INPUT, conv, spec_of


def shared(first, second, options="num_output: 3 kernel_size: 1"):
    return INPUT + conv("a", "x", more=first) + conv("b", "a", more=second, options=options)


W = 'param {{ name: "w" {} }}'


def refused(text):
    with pytest.raises(LayerError) as caught:
        spec_of(text)
    assert caught.value.layer == "b"
    return str(caught.value)


def test_without_names_nothing_is_shared():
    spec = spec_of(shared("param { lr_mult: 2 decay_mult: 0 }", ""))
    weight, bias = spec.layer("a").params
    assert (weight.name, weight.lr_mult, weight.decay_mult, weight.owner) == ("weight", 2, 0, None)
    assert (bias.name, bias.lr_mult, bias.decay_mult) == ("bias", 1, 1)
    assert spec.layer("b").params[0].owner is None


def test_the_first_layer_owns():
    spec = spec_of(shared('param {} param { name: "v" }', 'param {} param { name: "v" }'))
    assert spec.layer("a").params[1].owner is None
    assert [param.owner for param in spec.layer("b").params] == [None, ("a", 1)]


def test_shapes_must_be_equal_or_permissively_of_equal_count():
    text = shared(W.format(""), W.format(""), "num_output: 9 kernel_size: 1")
    message = refused(text)
    assert (
        "param 'w' has shape (9, 3, 1, 1) here and (3, 3, 1, 1) in its owner, layer 'a'" in message
    )
    permissive = W.format("share_mode: PERMISSIVE")
    # 1 x 1 over 3 channels and 3 outputs against 3 x 3 over 1 group of channels
    flat = "num_output: 3 kernel_h: 1 kernel_w: 3 group: 3"
    assert spec_of(shared(W.format(""), permissive, flat)).layer("b").params[0].owner == ("a", 0)
    message = refused(shared(W.format(""), permissive, "num_output: 9 kernel_size: 1"))
    assert "expected the same count; the layers differ in num_output or type" in message


@pytest.mark.parametrize(
    ("second", "advice"),
    [
        ("num_output: 3 kernel_h: 1 kernel_w: 3 group: 3",
         "expected the same; share_mode: PERMISSIVE in the param shares values of the same number"),
        ("num_output: 3 kernel_size: 3",
         "expected the same; the bottoms differ in channels or the layers in kernel_size or group: "
         "give one of the params another name, or give the layers equal options"),
        ("num_output: 9 kernel_size: 1", "expected the same; the layers differ in num_output"),
    ],
)  # fmt: skip
def test_shapes_that_differ_come_with_advice(second, advice):
    assert advice in refused(shared(W.format(""), W.format(""), second))


@pytest.mark.parametrize("factor", ["lr_mult", "decay_mult"])
def test_conflicting_factors(factor):
    message = refused(shared(W.format(f"{factor}: 1"), W.format(f"{factor}: 2")))
    assert f"param 'w' is shared with layer 'a' and has {factor} 2.0 here, 1.0 there" in message
    assert spec_of(shared(W.format(f"{factor}: 2"), W.format(f"{factor}: 2")))
    assert spec_of(shared(W.format(""), W.format(f"{factor}: 2")))


def test_a_user_may_set_what_the_owner_left_and_binds_the_next():
    text = shared(W.format(""), W.format("lr_mult: 2")) + conv(
        "c", "b", more=W.format("lr_mult: 3")
    )
    with pytest.raises(LayerError, match=r"layer 'c' .* lr_mult 3.0 here, 2.0 there"):
        spec_of(text)
