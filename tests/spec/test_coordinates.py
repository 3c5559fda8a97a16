"""A Crop without options: BVLC's Caffe cuts at 0, the forks before it where places coincide."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import caffe_port as cp
import caffe_port.pycaffe as caffe
from caffe_port.errors import DialectWarning, LayerError
from caffe_port.pycaffe import coord_map
from caffe_port.pycaffe import layers as L  # noqa: N812 - as in scripts
from tests.spec.making import INPUT, LABEL, layer, spec_of

IMAGE = 'input: "x" input_shape { dim: 1 dim: 1 dim: 16 dim: 16 }\n'


def window(name: str, bottom: str, options: str, type: str = "Convolution") -> str:
    fill = "bias_term: false weight_filler { type: 'constant' value: 1 }"
    return layer(name, type, bottom, more=f"convolution_param {{ num_output: 1 {fill} {options} }}")


def pool(name: str, bottom: str) -> str:
    return layer(name, "Pooling", bottom, more="pooling_param { kernel_size: 2 stride: 2 }")


PADDED = IMAGE + window("c", "x", "kernel_size: 3 pad: 35")
CROPPED = PADDED + layer("crop", "Crop", "c x", "y")


def hed() -> str:
    """The branches of HED's deploy.prototxt: its windows and its five layers named 'crop'."""
    text, blob, pad = 'input: "x" input_shape { dim: 1 dim: 1 dim: 64 dim: 64 }\n', "x", 35
    for i, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        for j in range(1, convolutions + 1):
            name = f"conv{i}_{j}"
            text += window(name, blob, f"kernel_size: 3 pad: {pad}") + layer(
                f"relu{i}_{j}", "ReLU", name, name
            )
            blob, pad = name, 1
        text += window(f"score{i}", blob, "kernel_size: 1")
        up = f"score{i}"
        if i > 1:
            stride = 2 ** (i - 1)
            up, shape = f"up{i}", f"kernel_size: {2 * stride} stride: {stride}"
            text += window(up, f"score{i}", shape, "Deconvolution")
        text += layer("crop", "Crop", f"{up} x", f"y{i}")
        if i < 5:
            text += pool(f"pool{i}", blob)
            blob = f"pool{i}"
    return text


def offsets(text: str, dialect: str) -> list[tuple[int, ...]]:
    spec = spec_of(text, dialect=dialect)
    return [la.op.offset for la in spec.layers if la.type == "Crop"]


def test_the_offsets_of_hed() -> None:
    """34 to 42: what HED's prototxts for BVLC's Caffe write as crop_param."""
    found = offsets(hed(), "longjon")
    assert found == [(34, 34), (35, 35), (36, 36), (38, 38), (42, 42)]
    expected = (
        r"'crop' 34 x 34, 'crop' 35 x 35, .* 42 x 42\. For HED and DSS give dialect='hed', for "
        r"other nets of those forks dialect='longjon'; crop_param \{\}"
    )
    with pytest.warns(DialectWarning, match=expected):
        assert offsets(hed(), "bvlc") == [()] * 5


def test_a_point_stays_where_it_is() -> None:
    x = torch.zeros(1, 1, 16, 16)
    x[0, 0, 8, 5] = 1
    y = cp.Net(spec_of(CROPPED, dialect="longjon"))({"x": x})["y"]
    expected = torch.zeros(1, 1, 16, 16)
    expected[0, 0, 7:10, 4:7] = 1
    assert torch.equal(y, expected)
    with pytest.warns(DialectWarning):
        y = cp.Net(spec_of(CROPPED))({"x": x})["y"]
    assert not y.any()  # BVLC's Caffe keeps the padding


@pytest.mark.parametrize("dialect", ["bvlc", "longjon"])
def test_options_are_obeyed_in_every_dialect(dialect: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options, expected in (("axis: 2 offset: 2", (2,)), ("", ())):
            text = PADDED + layer("crop", "Crop", "c x", "y", f"crop_param {{ {options} }}")
            assert offsets(text, dialect) == [expected]


def test_only_the_first_bottom_is_followed() -> None:
    """Through Eltwise, Concat and in-place layers, as in the fork's LayerSetUp."""
    text = (
        IMAGE
        + window("a", "x", "kernel_size: 3 pad: 4") + window("b", "x", "kernel_size: 1 pad: 3")
        + layer("r", "ReLU", "a", "a") + layer("s", "Eltwise", "a b", "s")
        + layer("t", "Concat", "s s", "t") + layer("d", "Dropout", "t", "t")
        + layer("crop", "Crop", "t x", "y")
    )  # fmt: skip
    assert offsets(text, "longjon") == [(3, 3)]


def test_a_bottom_inside_of_the_other() -> None:
    text = IMAGE + window("c", "x", "kernel_size: 3") + layer("crop", "Crop", "x c", "z")
    assert offsets(text, "longjon") == [(1, 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (INPUT + LABEL + layer("crop", "Crop", "x y", "z"), "bottoms that come from different"),
        (IMAGE + pool("p", "x") + layer("c", "Crop", "x p", "z"), "different scale: a step"),
        (
            IMAGE + window("c", "x", "kernel_size: 2 pad: 3") + layer("crop", "Crop", "c x", "z"),
            "offset 2.5; expected a whole number",
        ),
        (
            IMAGE + layer("t", "Tile", "x", "t", "tile_param { tiles: 2 axis: 3 }")
            + layer("crop", "Crop", "t x", "z"),
            "'t' is made by a layer that does not map places",
        ),
    ],
)  # fmt: skip
def test_what_the_forks_refuse(text: str, words: str) -> None:
    """Such a net is not one of theirs, so there is nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec_of(text)
    with pytest.raises(LayerError, match=words):
        spec_of(text, dialect="longjon")


def test_the_offsets_are_those_of_coord_map(tmp_path: Path) -> None:
    """Random chains of windows, up and down again, against pycaffe's own function."""
    random, found = np.random.default_rng(0), 0
    for _ in range(60):
        net = caffe.NetSpec()
        net.x = L.Input(shape={"dim": [1, 1, 64, 64]})
        top, strides = net.x, []
        for _ in range(random.integers(1, 5)):
            stride = int(random.integers(1, 3))
            kernel, pad = (int(random.integers(1, 5)), int(random.integers(0, 12)))
            top = L.Convolution(top, num_output=1, kernel_size=kernel, pad=pad, stride=stride)
            strides.append(stride)
        for stride in reversed(strides):
            kernel = int(random.integers(1, 5))
            top = L.Deconvolution(
                top,
                convolution_param={"num_output": 1, "kernel_size": kernel, "stride": stride},
            )
        try:
            expected = coord_map.crop(top, net.x).fn.params["crop_param"]["offset"]
        except AssertionError:
            continue
        net.z = L.Crop(top, net.x)
        try:
            assert offsets(str(net.to_proto()), "longjon") == [tuple(expected * 2)]
        except LayerError as error:
            assert "only" in str(error)  # noqa: PT017 - the crop is larger than the blob
            continue
        found += 1
    assert found > 5


def test_a_converted_model_remembers(tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(CROPPED)
    cp.load(tmp_path / "net.prototxt", dialect="longjon").save(tmp_path / "net.pt")
    again = cp.load(tmp_path / "net.pt").spec
    assert (again.dialect, again.layer("crop").op.offset) == ("longjon", (34, 34))


def test_scripts_choose_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.prototxt").write_text(CROPPED)
    monkeypatch.setenv("CAFFE_PORT_DIALECT", "longjon")
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    net.blobs["x"].data[...] = 1
    assert net.forward()["y"][0, 0, 5, 5] == 9


def test_an_auto_crop_without_an_offset_says_what_to_write() -> None:
    """It has no options, so crop_param is no advice."""
    text = 'input: "a" input_dim: 1 input_dim: 1 input_dim: 4 input_dim: 4 '
    text += text.replace('"a"', '"b"') + layer("c", "AutoCrop", "a b")
    expected = (
        r"bottoms that come from different layers \('a' and 'b'\): write a Crop layer with "
        r"crop_param \{ axis: 2 offset: N \} instead"
    )
    with pytest.raises(LayerError, match=expected):
        spec_of(text, dialect="rcf")
