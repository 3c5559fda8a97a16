"""Pooling, LRN and Interp as plans run them, compared with the layers, in float64."""

import pytest
import torch

from tests.layers.helpers import net_of

X = (2, 7, 9, 11)
LAYERS = {
    "max": "pooling_param { kernel_size: 3 stride: 2 pad: 1 }",
    "max, floor": "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }",
    "max, padding of more than half": "pooling_param { kernel_size: 3 stride: 1 pad: 2 }",
    "max, steps beyond the kernel": "pooling_param { kernel_size: 1 stride: 3 }",
    "max, a window outside": "pooling_param { kernel_size: 1 stride: 4 }",
    "max, of everything": "pooling_param { global_pooling: true }",
    "max, by axis": (
        "pooling_param { kernel_h: 2 kernel_w: 5 stride_h: 1 stride_w: 3 pad_h: 0 pad_w: 2 }"
    ),
    "average": "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }",
    "LRN": "lrn_param { local_size: 5 alpha: 0.5 beta: 0.75 k: 2 }",
    "LRN, another power": "lrn_param { local_size: 3 alpha: 0.5 beta: 0.5 }",
    "LRN, wider than the channels": "lrn_param { local_size: 15 alpha: 0.5 beta: 0.75 }",
    "LRN within": "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }",
    "Interp, larger": "interp_param { zoom_factor: 3 }",
    "Interp, smaller": "interp_param { shrink_factor: 2 }",
    "Interp, the same": "interp_param { height: 9 width: 11 }",
    "Interp, cropped": "interp_param { zoom_factor: 2 pad_beg: -1 pad_end: -2 }",
}


def _type(name):
    return name.split(",")[0].split()[0] if name[0] in "LI" else "Pooling"


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("name", "options"), LAYERS.items(), ids=LAYERS.keys())
def test_as_the_layer(name, options, layout):
    text = f'layer {{ name: "y" type: "{_type(name)}" bottom: "b0" top: "y" {options} }}'
    net = net_of(text, X).double()
    x = torch.randn(X, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        want = net(x)["y"]
    found = net.optimized()(x.contiguous(memory_format=layout))["y"]
    assert found.shape == want.shape
    assert (found - want).abs().max() < 1e-13


def test_the_mask_of_max_pooling():
    text = 'layer { name: "y" type: "Pooling" bottom: "b0" top: "y" top: "m" '
    net = net_of(text + "pooling_param { kernel_size: 2 stride: 2 } }", X)
    x = torch.randn(X, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = net(x)
    found = net.optimized()(x)
    assert all(torch.equal(found[name], blob) for name, blob in want.items())
    assert set(found) == {"y", "m"}
