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


SCALED = 'type: "BatchNorm" bottom: "b0" top: "y" batch_norm_param { %s }'
OWN = "scale_bias: true eps: 0.25 scale_filler { value: 2 } bias_filler { value: 1 }"


def scaled_net(options=OWN, phase="TRAIN"):
    return layer(SCALED % options, (2, 1, 1, 2), phase=phase)


def test_nvcaffes_statistics_are_the_last_passes_then_mixed():
    """Hand calculation after NVIDIA/caffe batch_norm_layer.cpp, Forward_cpu."""
    module = scaled_net(OWN + " moving_average_fraction: 0.75")
    x = torch.tensor([[[[1.0, 2]]], [[[3, 6]]]])  # mean 3, variance 3.5
    (y,) = module(x)
    torch.testing.assert_close(y, (x - 3) / 3.75**0.5 * 2 + 1)
    assert module.param("mean").tolist() == [3]
    assert module.param("variance").tolist() == [3.75]  # eps is in it
    module(2 * x)  # mean 6, variance 14: replaces them too
    assert module.param("mean").tolist() == [6]
    assert module.param("variance").tolist() == [14.25]
    module(x)
    assert module.param("mean").tolist() == [0.75 * 6 + 0.25 * 3]
    assert module.param("variance").tolist() == [0.75 * 14.25 + 0.25 * 3.75]
    assert module.param("factor").tolist() == [1]


def test_nvcaffes_running_statistics_normalize_in_test():
    module = scaled_net(phase="TEST")
    with torch.no_grad():
        for name, value in (("mean", 3.0), ("variance", 3.75), ("factor", 7.0)):
            module.param(name).fill_(value)
    x = torch.tensor([[[[1.0, 2]]], [[[3, 6]]]])
    torch.testing.assert_close(module(x)[0], x - 3 + 1)  # 2 / sqrt(3.75 + 0.25) = 1


def test_fillers_alone_mean_scale_and_bias_and_start_at_1_and_0():
    module = scaled_net("bias_filler { value: 3 }")
    assert [p.name for p in module.spec.params] == ["mean", "variance", "factor", "scale", "shift"]
    assert [p.lr_mult for p in module.spec.params] == [0, 0, 0, 1, 1]
    starts = [module.param(name).tolist() for name in ("factor", "scale", "shift")]
    assert starts == [[1], [1], [3]]


@pytest.mark.parametrize("options", ["", " scale_bias: true"])
def test_gradients_of_scaled_and_grouped_batches(options):
    module = layer(SCALED % f"stats_batch_size: 2{options}" if not options else SCALED % options,
                   (4, 2, 3), phase="TRAIN")  # fmt: skip
    check_gradients(module, sample(4, 2, 3))


@pytest.mark.parametrize("more", ["use_global_stats: true", "stats_batch_size: 2"])
def test_what_nvcaffes_layer_does_not_read_is_refused(more):
    with pytest.raises(LayerError, match="NVCaffe's layer reads none of these"):
        scaled_net(f"scale_bias: true {more}")


def test_nvcaffe_sets_the_rates_of_scale_and_bias():
    text = SCALED.replace("batch_norm_param", "param { lr_mult: 0 } " * 4 + "batch_norm_param")
    with pytest.raises(LayerError, match="other rates than 1 for scale and bias"):
        layer(text % "scale_bias: true", (2, 1))


def test_groups_of_a_batch_have_statistics_of_their_own():
    """As two passes of Intel's layer, which is BVLC's for each group."""
    x = sample(4, 3, 2, 2)
    grouped = layer(SCALED % "stats_batch_size: 2", (4, 3, 2, 2), phase="TRAIN")
    plain = layer(SCALED % "", (2, 3, 2, 2), phase="TRAIN")
    wanted = torch.cat([plain(x[:2])[0], plain(x[2:])[0]])
    assert torch.equal(grouped(x)[0], wanted)
    for name in ("mean", "variance", "factor"):
        assert torch.equal(grouped.param(name), plain.param(name))
    test = layer(SCALED % "stats_batch_size: 3", (4, 3, 2, 2))  # no batch statistics in TEST
    assert test(x)[0].shape == x.shape
    with pytest.raises(LayerError, match="a batch of 4 for stats_batch_size 3; expected a multi"):
        layer(SCALED % "stats_batch_size: 3", (4, 3, 2, 2), phase="TRAIN")(x)


def test_a_nets_bn_stats_batch_size_is_that_of_all_its_batch_norms():
    text = 'bn_stats_batch_size: 2 layer { name: "n" %s }' % (SCALED % "stats_batch_size: 4")
    assert net_of(text, (4, 3), phase="TRAIN").spec.layer("n").op.group == 2
