"""Parameters that no weight file gave: Caffe's fillers made them, so the recording's are used."""

from __future__ import annotations

import torch

from caffe_port.errors import ParityError
from caffe_port.net import Net
from caffe_port.parity.recording import Recording


def adopt_parameters(net: Net, recording: Recording) -> frozenset[tuple[str, int]]:
    """Sets every parameter that no file of weights gave to its recorded value.

    Caffe fills what a file lacks with random numbers and says nothing, for instance the last layer
    of a net that is fine-tuned; without a file it fills all.

    Args:
        net: loaded with ``strict=False``; changed.
        recording: of the same net.
    Returns:
        (layer, i) of each parameter that was set; comparing it with the recording proves nothing.
    Raises:
        WeightMismatchError: there is a file of weights, but none of them are the net's.
        ParityError: a parameter is neither in the file nor, with its shape, in the recording.
    """
    keys = {
        (layer.name, i): param
        for layer in net.spec.layers
        for i, param in enumerate(net.layer_params(layer.name))
    }
    if net.loaded is not None and keys and not net.loaded.pairs:
        net.loaded.check(strict=True)
    pairs = () if net.loaded is None else net.loaded.pairs
    loaded = {id(keys[layer, i]) for layer, i, _ in pairs}
    adopted = {key: param for key, param in keys.items() if id(param) not in loaded}
    for (layer, i), param in adopted.items():
        if (layer, i) not in recording.params:
            raise ParityError(
                f"parameter {i} of layer '{layer}' is in no file of weights and not in "
                f"{recording.path}: give all weights, or record without --no-params"
            )
        values = torch.from_numpy(recording.params[layer, i].copy())
        if values.numel() != param.numel():
            raise ParityError(
                f"parameter {i} of layer '{layer}' has shape {list(param.shape)}, in "
                f"{recording.path} {list(values.shape)}: is this the net that was recorded?"
            )
        with torch.no_grad():
            param.copy_(values.reshape(param.shape))
    return frozenset(adopted)
