"""Whose Caffe a text is for: what it shows, what the caller says, what the environment says."""

import pytest

from caffe_port.errors import FormatError, UsageError
from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.proto.dialects import DIALECTS, ENVIRONMENT
from caffe_port.proto.renumber import v1_type
from tests.goldens_dir import cases


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ('layer { type: "Convolution" }', "bvlc"),
        ("layers { type: CONVOLUTION }", "bvlc"),
        ("", "bvlc"),
        ("layers { type: CONVOLUTION convolution_param { hole: 2 } }", "deeplab1"),
        ("layers { type: CONVOLUTION convolution_param { hole_h: 2 } }", "deeplab1"),
        ("layers { type: SEG_ACCURACY }", "deeplab1"),
        ("layers { type: IMAGE_SEG_DATA }", "deeplab1"),
        ("layers { type: SOFTMAX_LOSS softmaxloss_param { } }", "deeplab1"),
        ("layers { type: CONVOLUTION strict_dim: false }", "deeplab1"),
        ('layer { type: "Interp" }', "deeplab2"),
        ('layer { type: "Padding" padding_param { } }', "deeplab1"),
        ('layer { type: "Interp" } layer { type: "A" softmaxloss_param { } }', "deeplab1"),
        ('layer { type: "ImageSegData" }', "deeplab2"),
        ('layer { type: "MultiStageMeanfield" }', "longjon"),
        ("layers { type: MULTI_STAGE_MEANFIELD }", "longjon"),
        ("layers { type: CROP }", "longjon"),
        ('layer { type: "Crop" }', "bvlc"),
        ('layer { type: "ImageLabelmapData" }', "hed"),
        ('layer { type: "AutoCrop" }', "rcf"),
        ('layer { type: "ImageLabelmapData" } layer { type: "AutoCrop" }', "rcf"),
    ],
)
def test_what_the_text_shows(text, dialect):
    assert parse_net(text).dialect == dialect


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_caller_then_the_environment_then_the_text(monkeypatch, dialect):
    text = 'layer { type: "Interp" }'
    monkeypatch.setenv(ENVIRONMENT, "bvlc")
    assert parse_net(text).dialect == "bvlc"
    assert parse_net(text, dialect=dialect).dialect == dialect


def test_no_such_dialect(monkeypatch):
    with pytest.raises(UsageError, match="dialect is 'caffe2'; expected one of bvlc, deeplab1"):
        parse_net("", dialect="caffe2")
    monkeypatch.setenv(ENVIRONMENT, "caffe3")
    with pytest.raises(UsageError, match="caffe3"):
        parse_net("")


def test_recorded_v1_nets_show_theirs():
    found = {
        folder.name: parse_net((folder / "net.prototxt").read_text()).dialect
        for folder in cases("nets")
        if folder.name.startswith("deeplab1_")
    }
    assert set(found.values()) == {"deeplab1"}


def test_v1_types_have_the_numbers_that_scripts_compare():
    """Seg-Unravel's seg_fix.py looks for 4, 17 and 41."""
    types = caffe_pb2.V1LayerParameter.LayerType
    assert [types.Value(name) for name in ("CONVOLUTION", "POOLING", "DECONVOLUTION")] == [
        4,
        17,
        39,
    ]
    forks = ("SEG_ACCURACY", "INTERP", "MAT_WRITE", "DENSE_CRF", "ONEHOT")
    assert [types.Value(name) for name in forks] == [40, 41, 43, 45, 56]
    assert v1_type(39, "bvlc") == types.Value("DECONVOLUTION")
    assert v1_type(39, "deeplab1") == types.Value("IMAGE_SEG_DATA")
    for dialect in ("bvlc", "deeplab2"):
        with pytest.raises(FormatError, match=f"V1 type 41, which {dialect} does not have"):
            v1_type(41, dialect)
