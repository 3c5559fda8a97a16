import torch

from tests.layers.helpers import layer, net_of

TEXT = 'type: "Threshold" bottom: "b0" top: "y" threshold_param { threshold: 0.5 }'


def test_the_threshold_itself_is_below():
    x = torch.tensor([[0.4, 0.5, 0.6]], dtype=torch.float64)
    (y,) = layer(TEXT, (1, 3))(x)
    assert y.tolist() == [[0, 0, 1]]
    assert y.dtype == x.dtype


def test_its_bottom_gets_no_diff_even_if_forced():
    net = net_of(f'force_backward: true layer {{ name: "op" {TEXT} }}', (1, 3))
    assert net.spec.layer("op").bottom_needs_backward == (False,)
