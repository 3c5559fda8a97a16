"""Wrong layers of published width must fail, whichever BLAS Caffe used, also without its weights.

The recordings are single layers with sums of up to 25,088 products, made by real Caffe with
OpenBLAS and with the reference BLAS.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

import caffe_port
from caffe_port.parity.compare import Verdict
from caffe_port.parity.recording import Arrays, read_recording
from caffe_port.parity.verify import verify
from tests.goldens_dir import cases, wide_cases
from tests.verifying import recorded_net

WIDE = wide_cases()
CONVOLUTIONS = [folder for folder in WIDE if folder.name.startswith(("conv5", "fc6", "fc7"))]
LAYER = "l"


def opened(folder):
    """The net, and its recording without the weights, which alone would give a change away."""
    net, recording = recorded_net(folder)
    return net, dataclasses.replace(recording, params=Arrays({}))


def first_bad(net, recording):
    return [verify(net, recording, isolate=isolate).first_bad for isolate in (False, True)]


def each(folders=WIDE):
    return pytest.mark.parametrize("folder", folders, ids=lambda f: f"{f.parent.name}-{f.name}")


@each()
def test_a_right_layer_passes(folder):
    net, recording = recorded_net(folder)
    assert first_bad(net, recording) == [None, None]


def change(net, function):
    """Changes the weights, in place."""
    weight, *bias = net.layer_params(LAYER)
    with torch.no_grad():
        function(weight, *bias)


@each()
def test_one_weight_off_by_1e5(folder):
    """Bit for bit, where the weights were recorded: no sum shows a change of this size."""
    net, recording = recorded_net(folder)
    change(net, lambda weight, bias: weight.view(-1)[7].mul_(1 + 1e-5))
    if recording.params:
        for row in first_bad(net, recording):
            assert (row.kind, row.name, row.comparison.differing) == ("param", f"{LAYER}/0", 1)


@each()
@pytest.mark.parametrize("factor", [1 + 1e-5, 1 - 1e-5])
def test_all_weights_off_by_1e5(folder, factor):
    net, recording = opened(folder)
    change(net, lambda weight, bias: weight.mul_(factor))
    for row in first_bad(net, recording):
        assert (row.kind, row.name) == ("data", "y")
        assert "another result" in row.comparison.reason


@each(CONVOLUTIONS)
def test_one_tap_of_one_filter_lost(folder):
    """One of up to 25,088 products of one output channel."""
    net, recording = opened(folder)
    change(net, lambda weight, bias: largest_tap(weight).zero_())
    for row in first_bad(net, recording):
        assert (row.kind, row.name) == ("data", "y")
        assert row.comparison.where[1] == 1


def largest_tap(weight: Tensor) -> Tensor:
    """One tap of filter 1, of the filter's ordinary size or above."""
    flat = weight[1].reshape(-1)
    return flat[flat.abs().argmax()]


@each()
def test_a_bias_missing_in_one_channel(folder):
    net, recording = opened(folder)
    channel = 3
    change(net, lambda weight, bias: bias[channel].zero_())
    for row in first_bad(net, recording):
        assert (row.kind, row.name) == ("data", "y")
        assert row.comparison.where[1] == channel


def shifted(x: Tensor) -> Tensor:
    return x.roll(1, -1)


@pytest.mark.parametrize("shift", ["bottom", "top"])
@each(CONVOLUTIONS)
def test_a_neighbouring_pixel(folder, shift):
    net, recording = opened(folder)
    module = net.module(LAYER)
    if shift == "bottom":
        module.register_forward_pre_hook(lambda _, bottoms: tuple(map(shifted, bottoms)))
    else:
        module.register_forward_hook(lambda _, __, tops: tuple(map(shifted, tops)))
    for row in first_bad(net, recording):
        assert (row.kind, row.name) == ("data", "y")


@each(CONVOLUTIONS)
def test_channels_in_another_order(folder):
    """BGR for RGB: the first three channels reversed."""
    net, recording = opened(folder)
    order = [2, 1, 0, *range(3, net.layer_params(LAYER)[0].shape[1])]
    net.module(LAYER).register_forward_pre_hook(lambda _, bottoms: (bottoms[0][:, order],))
    for row in first_bad(net, recording):
        assert (row.kind, row.name) == ("data", "y")


class Enlarged(torch.autograd.Function):
    """Its diff is 1e-5 too large."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * (1 + 1e-5)


@each([folder for folder in WIDE if recorded_net(folder)[1].meta.backward])
def test_a_wrong_diff_of_the_bottom(folder):
    net, recording = opened(folder)
    net.module(LAYER).register_forward_pre_hook(lambda _, bottoms: (Enlarged.apply(bottoms[0]),))
    bad = [row for row in verify(net, recording).rows if row.comparison.verdict is Verdict.FAIL]
    assert [(row.kind, row.name) for row in bad] == [("diff", "x")]


@each([folder for folder in WIDE if recorded_net(folder)[1].meta.backward])
def test_a_wrong_gradient_of_the_weights(folder, monkeypatch):
    net, recording = opened(folder)
    kind = type(net.module(LAYER))
    right = kind.param

    def wrong(self, name):
        found = right(self, name)
        return Enlarged.apply(found) if name == "weight" else found

    monkeypatch.setattr(kind, "param", wrong)
    bad = [row for row in verify(net, recording).rows if row.comparison.verdict is Verdict.FAIL]
    assert [(row.kind, row.name) for row in bad] == [("pdiff", f"{LAYER}/0")]


def layer_case(name):
    return next(folder for folder in cases("layers") if folder.name == name)


def test_an_eps_that_is_off():
    net, recording = recorded_net(layer_case("bvlc_bn_train_batchstats"))
    assert verify(net, recording).passed
    op = net.module("op").spec.op
    object.__setattr__(op, "eps", op.eps * 10)
    assert verify(net, recording).first_bad.name == "y"


def test_sizes_rounded_down_instead_of_up(tmp_path):
    folder = layer_case("bvlc_pool_max_k3s2_ceil")
    text = (folder / "net.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(text.replace("pool: MAX", "pool: MAX round_mode: FLOOR"))
    recording = read_recording(folder)
    recording = dataclasses.replace(
        recording, meta=dataclasses.replace(recording.meta, backward=False)
    )
    first = verify(caffe_port.load(tmp_path / "net.prototxt"), recording).first_bad
    assert first.name == "y"
    assert "shape" in first.comparison.reason
