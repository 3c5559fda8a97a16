"""The published networks with random weights, for the benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch

import caffe_port
from caffe_port.net import Net

ZOO = Path(__file__).parent.parent / "prototxt"


def with_random_weights(folder: str) -> Net:
    """Filters that keep the size of what passes; BatchNorm of mean 0 and variance 1."""
    net = caffe_port.load(
        ZOO / folder / "deploy.prototxt",
        variables={"EXP": "voc12", "NUM_LABELS": "21", "NET_ID": folder},
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in net.spec.layers:
            for i, blob in enumerate(net.layer_params(layer.name)):
                if layer.type in ("Convolution", "Deconvolution") and i == 0:
                    blob.normal_(0, (2 / blob[0].numel()) ** 0.5, generator=generator)
                elif layer.type == "BatchNorm":
                    blob.fill_(min(i, 1))
                else:
                    blob.fill_(0.5 if layer.type == "Scale" and i == 0 else 0)
    return net
