"""What a layer's own fields, factors and phases come to in the spec."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from caffe_port.errors import WeightMismatchError
from caffe_port.net import Net
from caffe_port.proto import parse_net
from caffe_port.spec import NetSpec
from caffe_port.spec.ops import Op
from caffe_port.spec.ops._base import registered_ops
from caffe_port.weights import StoredBlob, StoredLayer, write_weights
from tests import preloaded
from tests.goldens_dir import ROOT

INPUT = 'input: "x" input_shape { dim: 1 dim: 2 dim: 5 dim: 5 } '


def spec_of(text, phase="TEST"):
    parsed = parse_net(INPUT + text)
    return NetSpec.build(
        parsed.message, phase=phase, dialect=parsed.dialect, unknown=parsed.unknown
    )


def inner_product(name, param, bottom="x"):
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" {param} '
        "inner_product_param { num_output: 3 bias_term: false } } "
    )


@pytest.mark.parametrize("first", ["", "lr_mult: 7 decay_mult: 0"])
@pytest.mark.parametrize("second", ["", "lr_mult: 7 decay_mult: 0"])
def test_a_shared_parameter_has_the_factors_that_any_layer_gives(first, second):
    text = inner_product("a", f'param {{ name: "w" {first} }}')
    text += inner_product("b", f'param {{ name: "w" {second} }}')
    factors = {(p.lr_mult, p.decay_mult) for n in "ab" for p in spec_of(text).layer(n).params}
    assert factors == ({(7.0, 0.0)} if first or second else {(1.0, 1.0)})


def test_frozen_statistics_stay_frozen_when_shared():
    layer = (
        'layer {{ name: "{0}" type: "BatchNorm" bottom: "x" top: "{0}" '
        'param {{ name: "m" decay_mult: 5 }} param {{ name: "v" }} param {{ name: "f" }} }} '
    )
    spec = spec_of(layer.format("a") + layer.format("b"))
    factors = [(p.lr_mult, p.decay_mult) for n in "ab" for p in spec.layer(n).params]
    assert {lr for lr, _ in factors} == {0.0}
    assert factors[0] == factors[3]


def test_layers_of_one_name_keep_their_own_unknown_fields():
    silence = 'layer {{ name: "s" type: "Silence" bottom: "x" include {{ phase: {} }} mine: {} }} '
    text = silence.format("TRAIN", 1) + silence.format("TEST", 2)
    assert spec_of(text, "TRAIN").layer("s").extra == {"mine": 1}
    assert spec_of(text, "TEST").layer("s").extra == {"mine": 2}


def test_an_op_reads_fields_of_its_own(monkeypatch):
    @dataclass(frozen=True)
    class Widen(Op):
        type: ClassVar[str] = "Widen"
        by: int

        @classmethod
        def read(cls, layer, extra: Mapping[str, object]):
            block = extra["widen_param"]
            assert isinstance(block, dict)
            return cls(block["by"][0])

        def top_shapes(self, bottoms):
            return [(*bottoms[0][:-1], bottoms[0][-1] + self.by)]

    monkeypatch.setitem(registered_ops(), "Widen", Widen)
    text = 'layer { name: "w" type: "Widen" bottom: "x" top: "y" widen_param { by: 4 } }'
    spec = spec_of(text)
    assert spec.shapes["y"] == (1, 2, 5, 9)
    assert [field.field for field in spec.unknown] == ["widen_param"]
    monkeypatch.setattr(Widen, "fields", frozenset({"widen_param"}))
    spec = spec_of(text.replace('type: "Widen"', 'mine: 1 type: "Widen"'))
    assert [field.field for field in spec.unknown] == ["mine"]
    assert spec.layer("w").extra == {"mine": 1, "widen_param": {"by": [4]}}


@pytest.mark.parametrize(("strict", "loads"), [("", False), ("strict_dim: true", False),
                                               ("strict_dim: false", True)])  # fmt: skip
def test_a_layer_of_deeplab_v1_may_compare_counts_only(strict, loads):
    """VGG16's fc6 was stored as a matrix and loaded into a convolution that way."""
    text = (
        'layers { name: "fc6" type: CONVOLUTION bottom: "x" top: "fc6" '
        f"{strict} convolution_param {{ num_output: 3 kernel_size: 5 bias_term: false }} }}"
    )
    net = Net(spec_of(text))
    values = np.arange(150, dtype=np.float32).reshape(3, 50)
    stored = [StoredLayer("fc6", "InnerProduct", (StoredBlob(values),))]
    if not loads:
        with pytest.raises(WeightMismatchError, match=r"\(3, 50\) stored, \(3, 2, 5, 5\)"):
            net.load_stored(stored)
        return
    net.load_stored(stored)
    assert np.array_equal(net.layer_params("fc6")[0].detach().numpy().ravel(), values.ravel())


def test_commands_warn_of_unknown_fields_in_one_line(tmp_path):
    net = tmp_path / "net.prototxt"
    net.write_text(INPUT + 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" mine: 1 }')
    weights = tmp_path / "w.caffemodel"
    write_weights(weights, [StoredLayer("r", "ReLU")])
    code = "from caffe_port.cli import main; main()"
    command = [sys.executable, "-c", code, "convert", net, weights, "-o", tmp_path / "o.pt"]
    run = preloaded.run(command, cwd=ROOT)
    assert run.returncode == 0
    assert "unknown field 'mine'" in run.stderr
    assert run.stderr.startswith("warning: ")
    assert "warnings.warn" not in run.stderr
