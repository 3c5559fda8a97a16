"""Small nets written out, and tracing one point through them."""

import numpy as np
import torch

from caffe_port.net import Net
from caffe_port.proto import parse_net
from caffe_port.spec import NetSpec
from caffe_port.unravel import trace


def make(text, **params):
    """A net of the text; ``layer__name=values`` sets a parameter."""
    parsed = parse_net(text)
    net = Net(NetSpec.build(parsed.message, dialect=parsed.dialect))
    with torch.no_grad():
        for key, values in params.items():
            layer, _, name = key.partition("__")
            blob = net.module(layer).get_parameter(name)
            blob.copy_(torch.as_tensor(values, dtype=torch.float32).reshape(blob.shape))
    return net


def data(*shape, name="data"):
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'input: "{name}" input_shape {{ {dims} }}\n'


def layer(type, options="", bottom="data", top="out", name="layer"):
    bottoms = " ".join(f'bottom: "{blob}"' for blob in bottom.split())
    tops = " ".join(f'top: "{blob}"' for blob in top.split())
    return f'layer {{ name: "{name}" type: "{type}" {bottoms} {tops} {options} }}\n'


def follow(net, inputs, start, top="out", **options):
    """Where the one point ``start`` = (label, y, x) of the top goes: blob -> list of points."""
    inputs = inputs if isinstance(inputs, dict) else {"data": inputs}
    inputs = {name: np.asarray(x, np.float32) for name, x in inputs.items()}
    scores = net(inputs, keep=[top])[top]
    map_ = np.full(tuple(scores.shape[2:]), 255)
    map_[start[1:]] = start[0]
    found = trace(net, inputs, top, [start[0]], label_map=map_, **options)[start[0]]
    return {blob: [tuple(row) for row in rows.tolist()] for blob, rows in found.items()}
