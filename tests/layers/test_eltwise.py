"""Eltwise: sums, products, ties of maxima."""

import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer


def text(options, bottoms=3):
    blobs = " ".join(f'bottom: "b{i}"' for i in range(bottoms))
    return f'type: "Eltwise" {blobs} top: "y" eltwise_param {{ {options} }}'


def made(options, bottoms=3, shape=(2, 3)):
    return layer(text(options, bottoms), *[shape] * bottoms)


X = [torch.tensor([[1.0, -2, 3], [0.5, 4, -1]]) * k + k for k in (1, 2, -1)]


def test_sums_with_and_without_coefficients():
    assert torch.allclose(made("")(*X)[0], X[0] + X[1] + X[2])
    module = made("operation: SUM coeff: 1 coeff: -0.5 coeff: 2")
    assert torch.allclose(module(*X)[0], X[0] - 0.5 * X[1] + 2 * X[2])
    check_gradients(module, *X, wrt=(0, 1, 2))


def test_products():
    for options in ("operation: PROD", "operation: PROD stable_prod_grad: false"):
        module = made(options)
        assert torch.allclose(module(*X)[0], X[0] * X[1] * X[2])
        check_gradients(module, *(x + 0.3 for x in X), wrt=(0, 1, 2))


def test_a_zero_factor_has_a_diff_only_when_stable():
    for options, wanted in (("", 6.0), ("stable_prod_grad: false", float("nan"))):
        a = torch.zeros(1, requires_grad=True)
        module = made(f"operation: PROD {options}", 3, (1,))
        module(a, torch.tensor([2.0]), torch.tensor([3.0]))[0].sum().backward()
        assert torch.equal(a.grad.nan_to_num(-1), torch.tensor([wanted]).nan_to_num(-1))


def test_maxima():
    module = made("operation: MAX")
    assert torch.equal(module(*X)[0], torch.stack(X).amax(0))
    distinct = torch.randperm(18).reshape(3, 2, 3) / 10
    check_gradients(module, *distinct, wrt=(0, 1, 2))


@pytest.mark.parametrize(
    ("values", "winner"),
    [((1, 1, 0), 1), ((1, 1, 1), 1), ((2, 1, 2), 0), ((1, 2, 2), 1), ((0, 0, 1), 2)],
)
def test_one_bottom_gets_the_diff_of_a_tie(values, winner):
    bottoms = [torch.tensor([float(v)], requires_grad=True) for v in values]
    made("operation: MAX", 3, (1,))(*bottoms)[0].sum().backward()
    assert [b.grad.item() for b in bottoms] == [float(i == winner) for i in range(3)]


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("", [(2, 3), (2, 4)], "shape"),
        ("coeff: 1", [(2, 3), (2, 3)], "coeff"),
        ("operation: PROD coeff: 1 coeff: 2", [(2, 3), (2, 3)], "coeff"),
        ("", [(2, 3)], "1 bottom blobs; expected 2 or more"),
    ],
)
def test_what_it_refuses(options, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text(options, len(shapes)), *shapes)
