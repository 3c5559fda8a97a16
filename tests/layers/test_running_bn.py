"""BN with four parameters, of PSPNet, ICNet and TSN, and how it is told from SegNet's.

By hand after hszhao/PSPNet bn_layer.cpp; frozen it equals the recorded BatchNorm and Scale.
"""

import numpy as np
import pytest
import torch

from caffe_port import load
from caffe_port.errors import LayerError, WeightMismatchError
from tests.layers.helpers import check_gradients, layer, net_of

TEXT = 'type: "BN" bottom: "b0" top: "y" {}'
FILLERS = "slope_filler { value: 1 } bias_filler { value: 0 }"
X = (2, 3, 2, 2)


def bn(options="", shape=X, phase="TEST", param=""):
    return layer(TEXT.format(f"{param} bn_param {{ {FILLERS} {options} }}"), shape, phase=phase)


def filled(made, **values):
    with torch.no_grad():
        for name, value in values.items():
            blob = made.param(name)
            blob.copy_(torch.as_tensor(value, dtype=blob.dtype).reshape(blob.shape))
    return made


VALUES = {
    "scale": [2.0, -1, 0.5], "shift": [1.0, 0, -3], "mean": [0.5, 2, -1], "variance": [4.0, 1, 0.25]
}  # fmt: skip


def x():
    return torch.randn(X, generator=torch.Generator().manual_seed(3))


def test_the_parameters_of_pspnets_layer():
    made = bn("frozen: true momentum: 0.95")
    params = made.spec.params
    assert [(p.name, p.shape) for p in params] == [
        (name, (1, 3, 1, 1)) for name in ("scale", "shift", "mean", "variance")
    ]
    assert [p.lr_mult for p in params] == [0, 0, 0, 0]
    assert made.param("variance").unique().tolist() == [1]
    assert bn().param("variance").unique().tolist() == [0]
    assert [p.lr_mult for p in bn(param="param { lr_mult: 10 }").spec.params] == [10, 1, 0, 0]


@pytest.mark.parametrize(
    ("phase", "options"), [("TEST", ""), ("TEST", "frozen: true"), ("TRAIN", "frozen: true")]
)
def test_stored_statistics_normalize(phase, options):
    made = filled(bn(f"{options} eps: 0.01", phase=phase), **VALUES)
    (y,) = made(x())
    scale, shift, mean, variance = (
        np.reshape(VALUES[n], (1, 3, 1, 1)) for n in ("scale", "shift", "mean", "variance")
    )
    wanted = (x().double().numpy() - mean) / np.sqrt(variance + 0.01) * scale + shift
    np.testing.assert_allclose(y.detach().numpy(), wanted, rtol=2e-6, atol=2e-6)
    for name, value in VALUES.items():
        assert made.param(name).flatten().tolist() == value  # nothing is updated


def test_frozen_it_equals_batch_norm_and_scale():
    text = (
        'layer { name: "n" type: "BatchNorm" bottom: "b0" top: "n" batch_norm_param { eps: 1e-5 } }'
        'layer { name: "s" type: "Scale" bottom: "n" top: "y" scale_param { bias_term: true } }'
    )
    net = net_of(text, X)
    filled(net.module("n"), mean=VALUES["mean"], variance=VALUES["variance"], factor=[1])
    filled(net.module("s"), weight=VALUES["scale"], bias=VALUES["shift"])
    made = filled(bn("frozen: true"), **VALUES)
    torch.testing.assert_close(made(x())[0], net(x())["y"], rtol=1e-6, atol=1e-6)


def test_training_normalizes_by_the_batch_and_mixes_it_into_the_running_statistics():
    made = filled(bn("momentum: 0.75", phase="TRAIN"), **VALUES)
    data = x()
    (y,) = made(data)
    values = data.double().numpy()
    mean = values.mean((0, 2, 3), keepdims=True)
    variance = ((values - mean) ** 2).mean((0, 2, 3), keepdims=True)  # biased
    scale, shift = (np.reshape(VALUES[n], (1, 3, 1, 1)) for n in ("scale", "shift"))
    wanted = (values - mean) / np.sqrt(variance + 1e-5) * scale + shift
    np.testing.assert_allclose(y.detach().numpy(), wanted, rtol=1e-5, atol=1e-5)
    for name, new in (("mean", mean), ("variance", variance)):
        expected = 0.75 * np.array(VALUES[name]) + 0.25 * new.ravel()
        np.testing.assert_allclose(made.param(name).detach().numpy().ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("phase", "options"), [("TEST", ""), ("TRAIN", ""), ("TRAIN", "frozen: true")]
)
def test_gradients(phase, options):
    made = filled(bn(options, phase=phase), **VALUES)
    learned = [name for name, p in made.named_parameters() if p.requires_grad]
    assert learned == ([] if options else ["scale", "shift"])
    check_gradients(made, x())


def test_vectors_have_channels_too():
    made = filled(bn(shape=(4, 3)), **VALUES)
    data = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    (y,) = made(data)
    (planes,) = filled(bn(shape=(4, 3, 1, 1)), **VALUES)(data[..., None, None])
    torch.testing.assert_close(y, planes.reshape(4, 3))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("bn_param { momentum: 0.9 }", 4),
        ("bn_param { frozen: false }", 4),
        ("bn_param { engine: CUDNN }", 4),
        ("bn_param { slope_filler { value: 1 } }", 4),
        ("param { lr_mult: 1 } param { lr_mult: 1 } param { lr_mult: 0 } param { lr_mult: 0 }", 4),
        ("bn_param { bn_mode: LEARN }", 2),
        ("bn_param { scale_filler { value: 1 } shift_filler { value: 0.001 } }", 2),
        ("param { lr_mult: 1 } param { lr_mult: 1 }", 2),
        ("", 2),
    ],
)
def test_the_two_layers_of_this_name_are_told_apart(text, count):
    assert len(layer(TEXT.format(text), X).spec.params) == count


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bn_param { bn_mode: LEARN frozen: true }", "with bn_mode, of SegNet's BN, and frozen"),
        ('top: "m" bn_param { frozen: true }', "tops for mean and variance"),
        (
            "param { } param { } param { } bn_param { bn_mode: LEARN }",
            "3 param for 2 parameter blobs",
        ),
    ],
)
def test_contradictions_are_refused(text, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(text), X)


def stored(tmp_path, options):
    text = "".join(f"dim: {d} " for d in X)
    path = tmp_path / f"{len(options)}.prototxt"
    head = f'input: "b0" input_shape {{ {text} }}'
    path.write_text(f'{head} layer {{ name: "op" {TEXT.format(options)} }}')
    return path


def test_weights_of_the_other_layer_are_refused_with_advice(tmp_path):
    four, two = stored(tmp_path, "bn_param { eps: 1e-5 }"), stored(tmp_path, "")
    for net, weights, told in ((four, two, "PSPNet's, which is told by momentum"),
                               (two, four, "SegNet's, which is told by bn_mode")):  # fmt: skip
        load(net).save(tmp_path / "w.caffemodel")
        with pytest.raises(WeightMismatchError, match=told):
            load(weights, tmp_path / "w.caffemodel")


def test_tsns_blobs_have_two_axes(tmp_path):
    from caffe_port.weights import StoredBlob, StoredLayer, write_weights

    blobs = [StoredBlob(np.float32([VALUES[name]])) for name in VALUES]
    write_weights(tmp_path / "w.caffemodel", [StoredLayer("op", "BN", tuple(blobs))])
    net = load(stored(tmp_path, "bn_param { frozen: true }"), tmp_path / "w.caffemodel")
    for name, value in VALUES.items():
        assert net.module("op").param(name).flatten().tolist() == value
