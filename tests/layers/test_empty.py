"""A batch of no items, as Filter may leave one, goes through every layer that Caffe lets it."""

import pytest
import torch

from tests.layers.helpers import layer, net_of

SHAPE = (2, 4, 6, 6)
LAYERS = {
    "AbsVal": "", "BatchNorm": "", "Bias": "", "BNLL": "", "Clip": "clip_param { min: 0 max: 1 }",
    "Convolution": "convolution_param { num_output: 2 kernel_size: 3 }",
    "Deconvolution": "convolution_param { num_output: 2 kernel_size: 3 }",
    "Dropout": "", "ELU": "", "Exp": "", "Flatten": "",
    "Im2col": "convolution_param { kernel_size: 3 }",
    "InnerProduct": "inner_product_param { num_output: 2 }",
    "Interp": "interp_param { zoom_factor: 2 }", "Log": "", "LRN": "", "MVN": "", "Normalize": "",
    "Permute": "permute_param { order: 0 order: 2 }",
    "Pooling": "pooling_param { kernel_size: 2 stride: 2 }", "Power": "power_param { power: 2 }",
    "PReLU": "", "Reduction": "reduction_param { axis: 1 operation: MEAN }", "ReLU": "",
    "Reorg": "reorg_param { stride: 2 }",
    "Reshape": "reshape_param { shape { dim: 0 dim: 2 dim: 72 } }", "Scale": "",
    "ShuffleChannel": "shuffle_channel_param { group: 2 }", "Sigmoid": "", "Softmax": "",
    "SPP": "spp_param { pyramid_height: 2 }", "Swish": "", "TanH": "", "Threshold": "",
    "Tile": "tile_param { tiles: 2 }",
}  # fmt: skip


@pytest.mark.parametrize("type", LAYERS)
def test_no_items_give_no_items(type):
    module = layer(f'type: "{type}" bottom: "b0" top: "y" {LAYERS[type]}', SHAPE)
    with torch.no_grad():
        (full,) = module(torch.ones(SHAPE))
        (empty,) = module(torch.empty(0, *SHAPE[1:]))
    assert empty.shape == (0, *full.shape[1:])


def test_domain_transform():
    shapes = (SHAPE, (2, 1, 6, 6), (2, 1, 1, 2))
    module = layer(
        'type: "DomainTransform" bottom: "b0" bottom: "b1" bottom: "b2" top: "y"', *shapes
    )
    (empty,) = module(*(torch.empty(0, *shape[1:]) for shape in shapes))
    assert empty.shape == (0, *SHAPE[1:])


def test_labels_of_no_items():
    text = 'type: "UniqueLabel" bottom: "b0" top: "y" unique_label_param { max_labels: 3 }'
    (empty,) = layer(text, (2, 1, 6, 6))(torch.empty(0, 1, 6, 6))
    assert empty.shape == (0, 3, 1, 1)


def test_layers_after_filter_get_its_items():
    text = """layer { name: "f" type: "Filter" bottom: "b0" bottom: "b1" top: "x" }
      layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
        inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }"""
    net = net_of(text, (2, 4), (2,))
    assert net({"b0": torch.ones(2, 4), "b1": torch.zeros(2)})["y"].shape == (0, 3)


def test_the_mean_of_nothing_is_nan():
    text = 'type: "Reduction" bottom: "b0" top: "y" reduction_param { operation: MEAN axis: 1 }'
    (y,) = layer(text, (2, 0))(torch.empty(2, 0))
    assert y.isnan().all()


def test_training_without_channels():
    module = layer('type: "BatchNorm" bottom: "b0" top: "y"', (2, 0, 3), phase="TRAIN")
    assert module(torch.empty(2, 0, 3))[0].shape == (2, 0, 3)
