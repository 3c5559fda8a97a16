"""What the tests of exporting share: recorded cases as nets, and inputs for them."""

from __future__ import annotations

import importlib.util
import re

import torch

from caffe_port import load
from tests.goldens_dir import cases, dialect_of

#: Types without a rule; what only trains or scores is left out, so nothing remains of such a case.
NOT_EXPORTED = {
    "AdaptiveBiasChannel", "BatchReindex", "BiasChannel", "DomainTransform", "Embed", "Filter",
    "Im2col", "LSTM", "RNN", "SPP", "SpatialProduct", "UniqueLabel",
}  # fmt: skip
# MultinomialLogisticLoss is recorded behind a Softmax, which stays
ONLY_TRAINS = re.compile(r'type: "((?!Multinomial)\w*Loss|\w*Accuracy)"')
LAYERS = cases("layers")
NETS = cases("nets")


def case_net(folder):
    weights = folder / "net.caffemodel"
    return load(
        folder / "net.prototxt", weights if weights.is_file() else None, phase="TEST",
        dialect=dialect_of(folder), strict=False,
    )  # fmt: skip


def exportable(folder):
    text = (folder / "net.prototxt").read_text()
    types = set(re.findall(r'type: "(\w+)"', text))
    return not (
        types & NOT_EXPORTED
        or (folder.parent.name == "layers" and ONLY_TRAINS.search(text))
        or folder.name == "bvlc_bn_train_batchstats"
    )


def feed(net, inputs, seed=0):
    """Random inputs; positive ones where a logarithm or a power reads them."""
    generator = torch.Generator().manual_seed(seed)
    positive = any(layer.type in ("Log", "Power") for layer in net.spec.layers)
    found = {}
    for blob in inputs:
        data = torch.randn(net.spec.shapes[blob], generator=generator)
        found[blob] = data.abs() + 0.1 if positive else data
    return found


def imported(path):
    """The one class of an emitted file that is named in its docstring."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    name = re.search(r"net = (\w+)\(\)", module.__doc__)[1]
    return getattr(module, name)()
