import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "Crop" bottom: "b0" bottom: "b1" top: "y" crop_param {{ {} }}'


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ("", (slice(None), slice(None), slice(0, 2), slice(0, 3))),
        ("offset: 1", (slice(None), slice(None), slice(1, 3), slice(1, 4))),
        ("axis: 2 offset: 3 offset: 0", (slice(None), slice(None), slice(3, 5), slice(0, 3))),
        ("axis: -1 offset: 3", (slice(None), slice(None), slice(None), slice(3, 6))),
        ("axis: 0 offset: 1", (slice(1, 2), slice(1, 3), slice(1, 3), slice(1, 4))),
    ],
)
def test_what_is_kept(options, kept):
    module = layer(TEXT.format(options), (2, 3, 5, 6), (1, 2, 2, 3))
    x = torch.arange(180.0).reshape(2, 3, 5, 6)
    (y,) = module(x, torch.zeros(1, 2, 2, 3))
    assert torch.equal(y, x[kept])
    assert module.spec.top_shapes == (tuple(y.shape),)
    check_gradients(module, x, torch.zeros(1, 2, 2, 3))


@pytest.mark.parametrize(
    ("options", "reference", "message"),
    [
        ("offset: 4", (1, 2, 2, 3), "axis 2: 2 from 4 on, of only 5"),
        ("", (1, 2, 6, 3), "axis 2: 6 from 0 on, of only 5"),
        ("axis: 1 offset: 0 offset: 1", (1, 2, 2, 3), "2 offsets for 3 axes"),
        ("axis: 4", (1, 2, 2, 3), "axis 4"),
        ("", (2, 3), "too few axes"),
    ],
)
def test_what_does_not_fit_is_refused(options, reference, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (2, 3, 5, 6), reference)


def test_the_reference_gets_no_diff_even_if_forced():
    net = net_of(
        f'force_backward: true layer {{ name: "op" {TEXT.format("")} }}', (1, 1, 4, 4), (1, 1, 2, 2)
    )
    assert net.spec.layer("op").bottom_needs_backward == (True, False)
