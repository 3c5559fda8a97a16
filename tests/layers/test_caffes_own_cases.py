"""Facts that BVLC's tests of layers state and that no other test has (docs/caffe_tests.md)."""

from __future__ import annotations

import pytest
import torch

from tests.layers.helpers import layer, net_of


def numbers(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normally distributed float64 numbers, the same ones each time."""
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def both(text: str, x: torch.Tensor, weight: torch.Tensor | None = None) -> list[torch.Tensor]:
    """A layer's top, and the diffs of its bottom and of its first parameter."""
    module = layer(f'bottom: "b0" top: "y" {text}', tuple(x.shape), phase="TRAIN").double()
    parameters = [p for p in module.parameters() if p.requires_grad]
    if weight is not None:
        with torch.no_grad():
            parameters[0].copy_(weight)
    x = x.clone().requires_grad_()
    (top,) = module(x)
    return [top, *torch.autograd.grad(top.square().sum(), [x, *parameters[:1]])]


def assert_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    """Compares tops and diffs."""
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("type", ["Convolution", "Deconvolution"])
def test_force_nd_im2col_changes_no_number(type):
    """ConvolutionLayerTest and DeconvolutionLayerTest, NDAgainst2D."""
    options = "num_output: 4 kernel_size: 3 stride: 2 pad: 1 group: 2 bias_term: false"
    x = numbers(2, 4, 6, 5)
    found = [
        both(f'type: "{type}" convolution_param {{ {options} {more} }}', x, numbers(4, 2, 3, 3))
        for more in ("", "force_nd_im2col: true")
    ]
    assert_same(*found)


def test_a_separable_filter_is_a_column_and_then_a_row():
    """ConvolutionLayerTest, SobelConvolution."""
    text = """layer {{ name: "{0}" type: "Convolution" bottom: "{1}" top: "{0}"
        convolution_param {{ num_output: 1 bias_term: false {2} }} }}"""
    x = numbers(2, 1, 6, 5)
    whole = net_of(text.format("sobel", "b0", "kernel_size: 3 stride: 2"), (2, 1, 6, 5)).double()
    steps = net_of(
        text.format("column", "b0", "kernel_h: 3 kernel_w: 1 stride_h: 2 stride_w: 1")
        + text.format("row", "column", "kernel_h: 1 kernel_w: 3 stride_h: 1 stride_w: 2"),
        (2, 1, 6, 5),
    ).double()
    column, row = torch.tensor([1.0, 2, 1]).double(), torch.tensor([-1.0, 0, 1]).double()
    filters = {"sobel": torch.outer(column, row), "column": column[:, None], "row": row[None]}
    with torch.no_grad():
        for name, values in filters.items():
            net = whole if name == "sobel" else steps
            (parameter,) = net.module(name).parameters()
            parameter.copy_(values.reshape(parameter.shape))
    torch.testing.assert_close(whole({"b0": x})["sobel"], steps({"b0": x})["row"])


def test_elu_with_alpha_0_is_relu():
    """NeuronLayerTest, ELUasReLU and ELUasReLUGradient."""
    x = numbers(2, 3, 4)
    elu = both('type: "ELU" elu_param { alpha: 0 }', x)
    assert_same(elu, both('type: "ReLU"', x))


@pytest.mark.parametrize("shared", [False, True])
def test_prelu_with_one_slope_is_leaky_relu(shared):
    """NeuronLayerTest, PReLUConsistencyReLU."""
    x = numbers(2, 3, 4)
    filler = f"channel_shared: {str(shared).lower()} filler {{ value: 0.3 }}"
    prelu = both(f'type: "PReLU" prelu_param {{ {filler} }}', x)
    assert_same(prelu[:2], both('type: "ReLU" relu_param { negative_slope: 0.3 }', x))


def test_prelu_in_place_gives_the_diffs_of_one_that_is_not():
    """NeuronLayerTest, PReLUInPlace."""
    product = """layer { name: "ip" type: "InnerProduct" bottom: "b0" top: "ip"
        inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }"""
    x, found = numbers(4, 5), []
    for top in ("ip", "y"):
        prelu = f'layer {{ name: "p" type: "PReLU" bottom: "ip" top: "{top}" }}'
        net = net_of(f"{product} {prelu}", (4, 5), phase="TRAIN").double()
        with torch.no_grad():
            net.module("ip").weight.copy_(numbers(3, 5, seed=2))
        scores = net({"b0": x})[top]
        learned = [p for name in ("ip", "p") for p in net.module(name).parameters()]
        found.append([scores, *torch.autograd.grad(scores.square().sum(), learned)])
    assert_same(*found)


def test_swish_with_beta_0_is_half_its_input():
    """NeuronLayerTest, SwishAsLinear and SwishAsLinearGradient."""
    x = numbers(2, 3, 4)
    top, diff = both('type: "Swish" swish_param { beta: 0 }', x)
    torch.testing.assert_close(top, x / 2)
    torch.testing.assert_close(diff, x / 2)


@pytest.mark.parametrize("value", [-1e4, -100.0, 100.0, 1e4])
def test_tanh_of_large_numbers_is_one(value):
    """TanHLayerTest, TanHOverflow."""
    top, diff = both('type: "TanH"', torch.full((2, 3), value))
    assert top.tolist() == torch.full((2, 3), value).sign().double().tolist()
    assert diff.abs().max() == 0


def test_a_transposed_inner_product_has_the_transposed_weights_and_diffs():
    """InnerProductLayerTest, ForwardTranspose and BackwardTranspose."""
    x, weight = numbers(3, 5), numbers(4, 5, seed=2)
    plain = both('type: "InnerProduct" inner_product_param { num_output: 4 }', x, weight)
    turned = both(
        'type: "InnerProduct" inner_product_param { num_output: 4 transpose: true }', x, weight.T
    )
    assert_same([*turned[:2], turned[2].T], plain)


def test_max_pooling_and_then_dropout():
    """MaxPoolingDropoutTest, Forward and Backward."""
    text = """layer { name: "pool" type: "Pooling" bottom: "b0" top: "pool"
        pooling_param { kernel_size: 3 stride: 2 } }
        layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }"""
    shape = (2, 3, 7, 5)
    x = torch.ones(shape, requires_grad=True)
    top = net_of(text, shape, phase="TRAIN")({"b0": x})["pool"]
    assert set(top.unique().tolist()) == {0.0, 2.0}
    (diff,) = torch.autograd.grad(top.sum(), x)
    assert diff.sum() == top.sum()
    assert int((diff != 0).sum()) == int((top != 0).sum())
    x = torch.ones(shape, requires_grad=True)
    top = net_of(text, shape, phase="TEST")({"b0": x})["pool"]
    assert set(top.unique().tolist()) == {1.0}
