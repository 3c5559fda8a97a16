import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer

TEXT = 'type: "Normalize" bottom: "b0" top: "y" norm_param {{ {} }}'


def test_an_item_is_divided_by_its_norm():
    module = layer(TEXT.format("scale_filler { value: 10 }"), (2, 2, 1, 2))
    assert [p.shape for p in module.spec.params] == [()]
    x = torch.tensor([[[[1.0, 1.0]], [[3.0, 5.0]]], [[[0.0, 0.0]], [[0.0, 2.0]]]])
    (y,) = module(x)
    torch.testing.assert_close(y[0], x[0] / 6 * 10)
    torch.testing.assert_close(y[1], x[1] / 2 * 10)


def test_a_pixel_is_divided_by_its_own_norm():
    module = layer(TEXT.format("across_spatial: false channel_shared: false"), (1, 2, 1, 2))
    with torch.no_grad():
        module.get_parameter("weight").copy_(torch.tensor([10.0, 20.0]))
    (y,) = module(torch.tensor([[[[3.0, 0.0]], [[4.0, -7.0]]]]))
    torch.testing.assert_close(y, torch.tensor([[[[6.0, 0.0]], [[16.0, -20.0]]]]))


def test_eps_is_added_to_the_sum_of_squares():
    module = layer(TEXT.format("eps: 16"), (1, 1))
    assert module(torch.tensor([[3.0]]))[0].item() == pytest.approx(0.6)
    assert module(torch.tensor([[0.0]]))[0].item() == 0


@pytest.mark.parametrize("across", ["true", "false"])
@pytest.mark.parametrize("shared", ["true", "false"])
def test_gradients(across, shared):
    module = layer(TEXT.format(f"across_spatial: {across} channel_shared: {shared}"), (2, 3, 2, 2))
    check_gradients(module, torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(3)))


def test_a_bottom_without_channels_is_refused():
    with pytest.raises(LayerError, match="expected 2 to 4 axes"):
        layer(TEXT.format(""), (3,))
