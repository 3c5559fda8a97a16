import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "BatchNorm" bottom: "b0" top: "y" {}'
OPTIONS = TEXT.format("batch_norm_param {{ {} }}")


def sample(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def store(module, mean, variance, factor):
    module.double()
    with torch.no_grad():
        for name, values in (("mean", mean), ("variance", variance), ("factor", [factor])):
            module.get_parameter(name).copy_(torch.tensor(values))


def test_stored_statistics_are_divided_by_the_factor():
    module = layer(OPTIONS.format("eps: 0.5"), (2, 2, 3))
    store(module, [2.0, -4.0], [8.0, 2.0], 4.0)
    x = sample(2, 2, 3)
    mean, variance = torch.tensor([[0.5], [-1.0]]), torch.tensor([[2.0], [0.5]])
    torch.testing.assert_close(module(x)[0], (x - mean) / (variance + 0.5).sqrt())
    check_gradients(module, x)


def test_statistics_are_zero_where_the_factor_is():
    module = layer(OPTIONS.format("eps: 0.25"), (2, 2, 3))
    store(module, [2.0, -4.0], [8.0, 2.0], 0.0)
    x = sample(2, 2, 3)
    torch.testing.assert_close(module(x)[0], 2 * x)


def test_a_batch_normalizes_and_is_added_to_the_stored_statistics():
    net = net_of(
        'layer { name: "op" ' + OPTIONS.format("moving_average_fraction: 0.75") + "}",
        (2, 3, 4), phase="TRAIN",
    )  # fmt: skip
    module = net.module("op")
    store(module, [4.0, 0.0, -8.0], [4.0, 8.0, 12.0], 2.0)
    x = sample(2, 3, 4) * 3 + 1
    mean, variance = x.mean((0, 2)), x.var((0, 2), correction=0)
    expected = (x - mean[:, None]) / (variance[:, None] + net.spec.layer("op").op.eps).sqrt()
    torch.testing.assert_close(net({"b0": x})["y"], expected)
    state = net.state_dict()
    assert list(state) == ["op.mean", "op.variance", "op.factor"]
    assert state["op.factor"].tolist() == [2.5]
    torch.testing.assert_close(
        state["op.mean"], torch.tensor([3.0, 0.0, -6.0], dtype=torch.float64) + mean
    )
    torch.testing.assert_close(
        state["op.variance"], torch.tensor([3.0, 6.0, 9.0], dtype=torch.float64) + variance * 8 / 7
    )


def test_one_value_per_channel_is_added_without_correction():
    module = layer(TEXT.format(""), (1, 2), phase="TRAIN")
    (y,) = module(torch.tensor([[3.0, -5.0]]))
    assert y.tolist() == [[0, 0]]
    assert module.mean.tolist() == [3, -5]
    assert module.variance.tolist() == [0, 0]
    assert module.factor.tolist() == [1]


@pytest.mark.parametrize(("phase", "given"), [("TEST", "false"), ("TRAIN", "true")])
def test_use_global_stats_overrides_the_phase(phase, given):
    module = layer(OPTIONS.format(f"use_global_stats: {given}"), (2, 2, 3), phase=phase)
    module(torch.ones(2, 2, 3))
    assert bool(module.factor) == (given == "false")


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4), (2, 2, 3, 3)])
def test_gradients_of_a_batch(shape):
    check_gradients(layer(TEXT.format(""), shape, phase="TRAIN"), sample(*shape))


def test_deeplab_updates_frozen_statistics_on_request():
    text = OPTIONS.format(
        "use_global_stats: true update_global_stats: true moving_average_fraction: 0.5 eps: 0"
    )
    module = layer(text, (2, 1, 2), phase="TRAIN", dialect="deeplab2")
    store(module, [2.0], [9.0], 2.0)
    x = torch.tensor([[[1.0, 2.0]], [[3.0, 6.0]]], dtype=torch.float64, requires_grad=True)
    (y,) = module(x)
    # around the stored mean 1: squares 0 1 4 25, so the variance is 7.5
    torch.testing.assert_close(y, (x - 1) / 7.5**0.5)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 7.5**-0.5))
    assert module.factor.tolist() == [2]
    assert module.mean.tolist() == [2]
    assert module.variance.tolist() == [14.5]  # 9 / 2 + 7.5 * 4 / 3


def test_in_other_dialects_and_in_test_frozen_statistics_stay():
    text = OPTIONS.format("use_global_stats: true update_global_stats: true")
    for phase, dialect in (("TRAIN", "bvlc"), ("TEST", "deeplab2")):
        module = layer(text, (2, 1, 2), phase=phase, dialect=dialect)
        module(torch.ones(2, 1, 2))
        assert module.factor.tolist() == [0]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_statistics_are_never_learned(count):
    frozen = "param { lr_mult: 0 } " * count
    module = layer(TEXT.format(frozen), (2, 3, 4), phase="TRAIN")
    assert [p.lr_mult for p in module.spec.params] == [0, 0, 0]
    assert not any(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("text", ["param { }", "param { lr_mult: 0 } param { lr_mult: 2 }"])
def test_one_or_two_params_with_a_rate_are_refused(text):
    with pytest.raises(LayerError, match="statistics are not learned"):
        layer(TEXT.format(text), (2, 3, 4))


def test_three_params_with_a_rate_are_an_old_files():
    module = layer(TEXT.format("param { } " * 3), (2, 3, 4))
    assert [p.lr_mult for p in module.spec.params] == [0, 0, 0]


def test_a_bottom_without_channels_is_refused():
    with pytest.raises(LayerError, match=r"expected \(N, C"):
        layer(TEXT.format(""), (3,))
