"""Layers that choose between values: what is exact follows each run's own data, and nothing else.

The net is a 1 x 1 convolution of three channels, 1 - 1 + y, and a layer with a kink. "Caffe" is the
port's own arithmetic on a convolution that came out a unit in the last place different, at a tie.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import caffe_port
from caffe_port.parity.bench import Bench
from caffe_port.parity.calculators import PlainCalculator
from caffe_port.parity.recording import read_recording
from caffe_port.parity.topology import study
from caffe_port.parity.values import Values
from caffe_port.parity.verify import verify
from caffe_port.parity.walk import Walk

ONE = np.float32(1)
MORE = np.nextafter(ONE, np.float32(2))
TINY = MORE - ONE

NET = """force_backward: true
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 dim: 4 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
        convolution_param { num_output: 1 kernel_size: 1 bias_term: false } }
"""

# kink layer; the port's y at two places; Caffe's; a place whose value clearly differs
ELEMENTWISE = {"port": [TINY, 0.5], "caffe": [-TINY, 0.5]}
CASES = {
    "relu": ('layer { name: "k" type: "ReLU" bottom: "y" top: "z" }', ELEMENTWISE),
    "relu in place": ('layer { name: "k" type: "ReLU" bottom: "y" top: "y" }', ELEMENTWISE),
    "leaky relu": (
        'layer { name: "k" type: "ReLU" bottom: "y" top: "z" relu_param { negative_slope: 0.1 } }',
        ELEMENTWISE,
    ),
    "prelu": ('layer { name: "k" type: "PReLU" bottom: "y" top: "z" }', ELEMENTWISE),
    "prelu in place": ('layer { name: "k" type: "PReLU" bottom: "y" top: "y" }', ELEMENTWISE),
    "elu": ('layer { name: "k" type: "ELU" bottom: "y" top: "z" elu_param { alpha: 0.5 } }',
            ELEMENTWISE),
    "absval": ('layer { name: "k" type: "AbsVal" bottom: "y" top: "z" }', ELEMENTWISE),
    "clip": (
        'layer { name: "k" type: "Clip" bottom: "y" top: "z" clip_param { min: -9 max: 1 } }',
        {"port": [ONE, 0.5], "caffe": [MORE, 0.5]},
    ),
    "max pooling": (
        'layer { name: "k" type: "Pooling" bottom: "y" top: "z" '
        "pooling_param { kernel_size: 2 stride: 2 } }",
        {"port": [ONE, MORE], "caffe": [MORE, ONE]},
    ),
    "eltwise max": (
        'layer { name: "s" type: "Slice" bottom: "y" top: "a" top: "b" slice_param { axis: 3 } }'
        'layer { name: "k" type: "Eltwise" bottom: "a" bottom: "b" top: "z" '
        "eltwise_param { operation: MAX } }",
        {"port": [ONE, MORE], "caffe": [MORE, ONE]},
    ),
    "spp": (
        'layer { name: "k" type: "SPP" bottom: "y" top: "z" spp_param { pyramid_height: 2 } }',
        {"port": [ONE, MORE], "caffe": [MORE, ONE]},
    ),
}  # fmt: skip


def values(name, pair):
    """(1, 1, 4, 4): two places that are compared, as given; the others clearly apart."""
    y = np.linspace(-0.9, 0.4, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    y[0, 0, 0, 0], y[second(name)] = pair
    return y


def second(name):
    """Eltwise compares the two halves of a row; a window its own pixels."""
    return (0, 0, 0, 2 if name == "eltwise max" else 1)


def build(tmp_path, kink):
    (tmp_path / "net.prototxt").write_text(NET + kink)
    net = caffe_port.load(tmp_path / "net.prototxt")
    with torch.no_grad():
        net.layer_params("conv")[0].fill_(1)
    return net


def bottom(y):
    return np.concatenate([np.ones_like(y), -np.ones_like(y), y], 1)


def arrays_of(net, x, y):
    """What Caffe would record, had its convolution given ``y``."""
    topology = study(net.spec, frozenset({"x"}))
    in_place = len(topology.writers["y"]) > 1
    known = {"x": x} if in_place else {"x": x, "y": y}
    if in_place:
        known["y"] = net.run_layer("k", [torch.from_numpy(y)])[0].detach().numpy()
    run = Values(dict(known), {})
    (output,) = topology.outputs
    calculator = PlainCalculator(Bench(net, torch.float32))
    none = frozenset()
    walk = Walk(calculator, None, topology, "TEST", {"x": x}, run, {}, none, none)
    list(walk.forward())
    data = known | {name: tensor.numpy() for name, tensor in run.filled.items()}
    seeds = {
        output: np.linspace(1, 2, data[output].size, dtype=np.float32).reshape(data[output].shape)
    }
    walk = Walk(calculator, None, topology, "TEST", {"x": x}, run, seeds, none, none)
    gradients = {}
    for result in walk.backward():
        if result.kind == "pdiff" and result.term is not None:
            gradients[result.key] = result.term.value.numpy()
    arrays = {"input/x": x} | {f"data/{name}": value for name, value in data.items()}
    arrays |= {f"topdiff/{output}": seeds[output]}
    arrays |= {f"diff/{name}": value.numpy() for name, value in run.filled_diffs.items()}
    return arrays | {f"pdiff/{layer}/{i}": value for (layer, i), value in gradients.items()}


def recorded(tmp_path, arrays):
    folder = tmp_path / "recording"
    folder.mkdir(exist_ok=True)
    meta = {"phase": "TEST", "backward": True, "blobs_kept": "chosen"}
    (folder / "case.json").write_text(json.dumps(meta))
    np.savez(folder / "case.npz", **arrays)
    return read_recording(folder)


@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
@pytest.mark.parametrize("name", CASES)
def test_a_tie_may_go_either_way(tmp_path, name, isolate):
    kink, places = CASES[name]
    net = build(tmp_path, kink)
    x, y = bottom(values(name, places["port"])), values(name, places["caffe"])
    result = verify(net, recorded(tmp_path, arrays_of(net, x, y)), isolate=isolate)
    assert result.passed, result.first_bad
    if not isolate:
        assert sum(row.comparison.ties for row in result.rows) >= 1


@pytest.mark.parametrize("isolate", [False, True], ids=["whole", "isolated"])
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_route_between_clearly_different_values_fails(tmp_path, name, isolate):
    """Caffe's data are right, but its diffs are those of other data."""
    kink, _ = CASES[name]
    net = build(tmp_path, kink)
    right, wrong = values(name, (0.9, 0.5)), values(name, (0.9, 0.5))
    wrong[second(name)] = {"clip": 1.5, "max pooling": 0.95, "eltwise max": 0.95, "spp": 0.95}.get(
        name, -0.5
    )
    arrays, others = (arrays_of(net, bottom(y), y) for y in (right, wrong))
    assert verify(net, recorded(tmp_path, arrays), isolate=isolate).passed
    arrays |= {key: value for key, value in others.items() if key.startswith("diff/")}
    arrays = {key: value for key, value in arrays.items() if not key.startswith("pdiff/")}
    result = verify(net, recorded(tmp_path, arrays), isolate=isolate)
    assert result.first_bad is not None
    assert result.first_bad.kind == "diff"
