"""Settings: the published ones, and those read from text."""

import dataclasses
import json

import pytest

from caffe_port.crf import PRESETS, CRFParameters, parse_parameters
from caffe_port.errors import UsageError


def test_a_published_setting():
    assert parse_parameters("v1_largefov") == CRFParameters((3,), (3,), (4,), (121,), (5,))
    resnet = PRESETS["v2_resnet101"]
    assert (resnet.pos_w, resnet.pos_xy_std) == ((3,), (1,))
    assert (resnet.bi_w, resnet.bi_xy_std, resnet.bi_rgb_std) == ((4,), (67,), (3,))
    assert all(preset.iterations == 10 for preset in PRESETS.values())


@pytest.mark.parametrize(
    "text",
    [
        "bi_w=4,bi_xy_std=49,iterations=5",
        " bi_w = 4, bi_xy_std = 49 , iterations = 5 ",
        '{"bi_w": 4, "bi_xy_std": [49], "iterations": 5}',
    ],
)
def test_text_and_json(text):
    assert parse_parameters(text) == CRFParameters(bi_xy_std=(49,), iterations=5)


def test_several_kernels():
    want = CRFParameters((3, 1), (3, 8), (), (), ())
    assert parse_parameters(json.dumps(want.as_dict())) == want
    assert parse_parameters("pos_w=3,pos_w=1,pos_xy_std=3,pos_xy_std=8") == dataclasses.replace(
        want, bi_w=(4,), bi_xy_std=(121,), bi_rgb_std=(5,)
    )


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_written_is_read_back(name):
    assert parse_parameters(json.dumps(PRESETS[name].as_dict())) == PRESETS[name]
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS[name].pos_w = (1,)


def test_numbers_and_lists_become_tuples():
    made = CRFParameters(pos_w=2, pos_xy_std=[1.5])
    assert (made.pos_w, made.pos_xy_std) == ((2.0,), (1.5,))
    assert hash(made) is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v3", "no CRF preset is called 'v3'; there are v1_largefov"),
        ("", "no CRF preset"),
        ("bi_weight=4", "no CRF setting is called 'bi_weight'; there are pos_w"),
        ("bi_w=four", "bi_w: 'four' is not a number"),
        ("bi_w=4,", "expected name=number"),
        ("bi_w=", "expected name=number"),
        ("iterations=2.5", "iterations: '2.5' is not a number"),
        ("iterations=-1", "iterations is -1"),
        ("bi_xy_std=0", "bi_xy_std is 0.0; expected a positive number"),
        ("bi_w=nan", "bi_w is nan"),
        ("bi_w=4,bi_w=5", "bi_w has 2 values and bi_xy_std has 1"),
        ('{"bi_w": "4"}', "bi_w is '4'"),
        ('{"bi_w": true}', "bi_w is True"),
        ('{"bi_w": null}', "bi_w is None"),
        ('{"iterations": [10]}', "iterations is \\[10\\]"),
        ('{"bi_w": 4', "not valid JSON"),
        ('{"a":' * 100_000, "not valid JSON"),
    ],
    ids=lambda value: value[:30],
)
def test_wrong_settings_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_parameters(text)
