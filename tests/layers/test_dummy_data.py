"""DummyData: shapes, and what is drawn when. Recorded values: tests/data/test_recorded.py."""

import pytest
import torch

from caffe_port.data.rng import CaffeRandom, seeded, uniform
from caffe_port.errors import LayerError
from tests.layers.helpers import net_of

UNIFORM = 'data_filler { type: "uniform" min: -1 }'
CONSTANT = 'data_filler { type: "constant" value: 3 }'


def net(options, tops='top: "a" top: "b"'):
    return net_of(
        f'layer {{ name: "d" type: "DummyData" {tops} dummy_data_param {{ {options} }} }}'
    )


@pytest.mark.parametrize(
    ("options", "a", "b"),
    [
        ("shape { dim: 2 dim: 3 }", (2, 3), (2, 3)),
        ("shape { dim: 2 } shape { }", (2,), ()),
        ("num: 1 channels: 2 channels: 5 height: 3 width: 4", (1, 2, 3, 4), (1, 5, 3, 4)),
    ],
)
def test_shapes_for_all_tops_or_each(options, a, b):
    blobs = net(options)({})
    assert (tuple(blobs["a"].shape), tuple(blobs["b"].shape)) == (a, b)
    assert not blobs["a"].any()  # no filler is all zeros


def test_constants_stay_and_numbers_are_drawn_at_every_pass():
    made = net(f"shape {{ dim: 4 }} {CONSTANT} {UNIFORM}")
    first, second = made({}), made({})
    assert first["a"].tolist() == second["a"].tolist() == [3, 3, 3, 3]
    assert not torch.equal(first["b"], second["b"])
    assert -1 <= first["b"].min() <= first["b"].max() <= 1


def test_under_a_generator_each_pass_takes_the_next_draws():
    with seeded(CaffeRandom(5)):
        made = net(f"shape {{ dim: 4 }} shape {{ dim: 2 }} {UNIFORM}")
    draws = CaffeRandom(5)
    for _ in range(2):
        blobs = made({})
        assert blobs["a"].tolist() == uniform(draws, 4, -1, 1).tolist()
        assert blobs["b"].tolist() == uniform(draws, 2, -1, 1).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "0 shape for 2 tops; expected one, or one each"),
        ("shape { } num: 1", "shape and num, channels, height, width exclude"),
        ("num: 1 channels: 1 height: 1", "0 width for 2 tops"),
        (f"shape {{ }} {UNIFORM} {UNIFORM} {UNIFORM}", "3 data_filler for 2 tops"),
    ],
)
def test_what_it_refuses(options, message):
    with pytest.raises(LayerError, match=message):
        net(options)


def test_an_unknown_filler():
    with pytest.raises(LayerError, match=r"'d' \(DummyData\): unknown filler 'magic'"):
        net('shape { dim: 2 } data_filler { type: "magic" }')({})
