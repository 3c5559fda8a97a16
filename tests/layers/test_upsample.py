import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "Upsample" bottom: "b0" bottom: "b1" top: "y" upsample_param {{ {} }}'


def test_values_go_where_the_mask_says():
    module = layer(TEXT.format(""), (1, 2, 1, 2), (1, 2, 1, 2))
    x = torch.tensor([[[[5.0, 6.0]], [[7.0, 8.0]]]])
    mask = torch.tensor([[[[4.0, 3.0]], [[0.0, 7.0]]]])
    (y,) = module(x, mask)
    assert y.tolist() == [[[[0, 0, 0, 6], [5, 0, 0, 0]], [[7, 0, 0, 0], [0, 0, 0, 8]]]]


def test_the_last_of_several_values_for_a_place_is_kept_and_all_get_its_diff():
    module = layer(TEXT.format("upsample_h: 2 upsample_w: 2"), (1, 1, 1, 3), (1, 1, 1, 3))
    x = torch.tensor([[[[5.0, 6.0, 7.0]]]], requires_grad=True)
    (y,) = module(x, torch.tensor([[[[1.0, 3.0, 1.0]]]]))
    assert y.tolist() == [[[[0, 7], [0, 6]]]]
    y.backward(torch.tensor([[[[10.0, 20.0], [30.0, 40.0]]]]))
    assert x.grad.tolist() == [[[[20, 40, 20]]]]


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_it_undoes_max_pooling_with_a_mask(size):
    height, width = size
    text = (
        'layer { name: "pool" type: "Pooling" bottom: "b0" top: "p" top: "mask" '
        "pooling_param { kernel_size: 2 stride: 2 } }"
        'layer { name: "up" type: "Upsample" bottom: "p" bottom: "mask" top: "y" '
        f"upsample_param {{ upsample_h: {height} upsample_w: {width} }} }}"
    )
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1)) + 1
    blobs = net_of(text, (2, 3, *size))({"b0": x}, keep="all")
    y, pooled = blobs["y"], blobs["p"]
    assert y.shape == x.shape
    assert torch.equal(y[y != 0], x[y != 0])
    assert int((y != 0).sum()) == pooled.numel()
    for i in range(pooled.shape[2]):
        for j in range(pooled.shape[3]):
            window = y[..., 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            assert torch.equal(window.sum((2, 3)), pooled[..., i, j])


def test_gradients():
    module = layer(TEXT.format("scale: 2"), (2, 2, 2, 2), (2, 2, 2, 2))
    mask = torch.tensor([0.0, 3.0, 9.0, 14.0]).reshape(1, 1, 2, 2).expand(2, 2, 2, 2)
    x = torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(2))
    check_gradients(module, x, mask)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("scale: 3", (9, 12)),
        ("scale_h: 2 scale_w: 3", (6, 12)),
        ("scale: 2 pad_out_h: true", (5, 8)),
        ("scale: 2 pad_out_w: true", (6, 7)),
        ("upsample_h: 7 upsample_w: 5 scale: 2", (7, 5)),
    ],
)
def test_sizes(options, shape):
    module = layer(TEXT.format(options), (1, 2, 3, 4), (1, 2, 3, 4))
    assert module.spec.top_shapes == ((1, 2, *shape),)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("scale: 1", "expected 2 or more"),
        ("upsample_h: 1 upsample_w: 5", "expected 2 or more"),
        ("scale_h: 2", "both scale_h and scale_w"),
        ("scale: 2 scale_h: 2 scale_w: 2", "both scale_h and scale_w"),
        ("scale: 3 pad_out_h: true", "goes with scale 2"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), (1, 2, 3, 4), (1, 2, 3, 4))


def test_an_axis_beyond_caffes_limit_is_refused_also_in_an_empty_blob():
    with pytest.raises(LayerError, match="Caffe allows 2147483647"):
        layer(TEXT.format("scale: 4294967295"), (0, 1, 2, 2), (0, 1, 2, 2))


@pytest.mark.parametrize("index", [-1, 16])
def test_a_mask_for_another_size_is_refused(index):
    module = layer(TEXT.format(""), (1, 1, 2, 2), (1, 1, 2, 2))
    with pytest.raises(LayerError, match=f"index {index}, the top 4 x 4 places"):
        module(torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), float(index)))


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(LayerError, match="a mask of shape"):
        layer(TEXT.format(""), (1, 1, 2, 2), (1, 1, 2, 3))
