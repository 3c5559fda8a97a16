"""Python layers: never without permission; then the user's code, in torch nets and in pycaffe's."""

from __future__ import annotations

import copy
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import caffe_port
import caffe_port.pycaffe as caffe
from caffe_port.cli import main
from caffe_port.cli.options import net_options
from caffe_port.errors import LayerError, speaking
from tests import preloaded
from tests.goldens_dir import ROOT

NET = """
input: "data" input_shape { dim: 2 dim: 3 }
layer { name: "ten" type: "Python" bottom: "data" top: "ten"
  python_param { module: "users_layers" layer: "Times" param_str: "10" } }
"""


class Times(caffe.Layer):
    """Multiplies by param_str and by a parameter that starts at 2."""

    setups = 0

    def setup(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        type(self).setups += 1
        self.factor = float(self.param_str)
        assert self.param_str_ == self.param_str
        self.blobs.add_blob(1)
        self.blobs[0].data[...] = 2

    def reshape(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        top[0].data[...] = self.factor * self.blobs[0].data * bottom[0].data

    def backward(
        self, top: list[caffe.Blob], propagate_down: list[bool], bottom: list[caffe.Blob]
    ) -> None:
        self.asked = propagate_down
        if propagate_down[0]:
            bottom[0].diff[...] = self.factor * self.blobs[0].data * top[0].diff
        self.blobs[0].diff[...] += self.factor * (bottom[0].data * top[0].diff).sum()


class Numbers(caffe.Layer):
    """A data layer: counts, and is told its phase."""

    def setup(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        if len(top) != 2:
            raise RuntimeError("two tops wanted")
        self.count = 0

    def reshape(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        top[0].reshape(1, self.count + 1)
        top[1].reshape()

    def forward(self, bottom: list[caffe.Blob], top: list[caffe.Blob]) -> None:
        top[0].data[...] = self.count
        top[1].data[()] = self.phase
        self.count += 1


class Shapeless(caffe.Layer):
    """Defines no reshape."""


@pytest.fixture(autouse=True)
def _users_module() -> Iterator[None]:
    module = types.ModuleType("users_layers")
    for cls in (Times, Numbers, Shapeless):
        setattr(module, cls.__name__, cls)
    sys.modules["users_layers"] = module
    caffe.allow_python_layers()
    yield
    caffe.allow_python_layers(False)
    del sys.modules["users_layers"]


def write(tmp_path: Path, text: str = NET) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return path


def test_nothing_is_imported_without_permission(tmp_path: Path) -> None:
    (tmp_path / "evil_layers.py").write_text("raise SystemExit('this code ran')")
    sys.path.insert(0, str(tmp_path))
    caffe.allow_python_layers(False)
    path = write(tmp_path, NET.replace("users_layers", "evil_layers"))
    try:
        with pytest.raises(LayerError, match=r"'ten' \(Python\).*'Times' of module 'evil_layers'"):
            caffe_port.load(path)
        with pytest.raises(LayerError, match="allow_python_layers=True"):
            caffe.Net(path, caffe.TEST)
        assert "evil_layers" not in sys.modules
    finally:
        sys.path.remove(str(tmp_path))


def test_permission_ends_with_the_load(tmp_path: Path) -> None:
    path = write(tmp_path)
    caffe_port.load(path, allow_python_layers=True)
    with pytest.raises(LayerError, match="allow_python_layers=True"):
        caffe_port.load(path)


def test_commands_have_the_option() -> None:
    import click

    @click.command()
    @net_options
    def command(**options: object) -> None:
        assert options["allow_python_layers"] is True

    command.main(["--allow-python-layers"], standalone_mode=False)


def test_forward_and_gradients_in_a_torch_net(tmp_path: Path) -> None:
    net = caffe_port.load(write(tmp_path), allow_python_layers=True)
    x = torch.tensor([[1.0, 2, 3], [4, 5, 6]], requires_grad=True)
    out = net({"data": x})["ten"]
    assert torch.equal(out, 20 * x)
    (out * torch.arange(6.0).view(2, 3)).sum().backward()
    assert torch.equal(x.grad, 20 * torch.arange(6.0).view(2, 3))
    assert (
        net.get_parameter("ten.blob0").grad.item() == 10 * (x * torch.arange(6.0).view(2, 3)).sum()
    )


def test_a_copy_in_float64_has_parameters_of_its_own(tmp_path: Path) -> None:
    net = caffe_port.load(write(tmp_path), allow_python_layers=True)
    other = copy.deepcopy(net).double()
    with torch.no_grad():
        other.get_parameter("ten.blob0").fill_(3)
    x = torch.ones(2, 3, dtype=torch.float64)
    assert other({"data": x})["ten"].dtype == torch.float64
    assert other({"data": x})["ten"][0, 0] == 30
    assert net({"data": x.float()})["ten"][0, 0] == 20
    point = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda data: other({"data": data})["ten"], point)


def test_an_allowed_module_may_import_caffe(tmp_path: Path) -> None:
    (tmp_path / "says_caffe.py").write_text(
        "import caffe\n"
        "class Same(caffe.Layer):\n"
        "    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)\n"
        "    def forward(self, bottom, top): top[0].data[...] = bottom[0].data\n"
    )
    text = NET.replace("users_layers", "says_caffe").replace("Times", "Same")
    script = (
        "import caffe_port, torch\n"
        "net = caffe_port.load('net.prototxt', allow_python_layers=True)\n"
        "assert net({'data': torch.ones(2, 3)})['ten'].sum() == 6\n"
    )
    write(tmp_path, text)
    # a process of its own: there "import caffe" has not been heard of
    done = preloaded.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr


def test_setup_runs_once_per_net(tmp_path: Path) -> None:
    Times.setups = 0
    net = caffe_port.load(write(tmp_path), allow_python_layers=True)
    assert Times.setups == 1
    caffe_port.Net(net.spec)  # a second net of one spec has an object of its own
    assert Times.setups == 2


def test_in_place(tmp_path: Path) -> None:
    net = caffe_port.load(
        write(tmp_path, NET.replace('top: "ten"', 'top: "data"')), allow_python_layers=True
    )
    assert net({"data": torch.ones(2, 3)}, keep="all")["data"].unique().item() == 20


def test_pycaffe_shows_the_users_object_and_its_blobs(tmp_path: Path) -> None:
    path = write(tmp_path, "force_backward: true" + NET)
    net = caffe.Net(path, caffe.TRAIN)
    layer = net.layers[1]
    assert isinstance(layer, Times)
    assert (layer.type, layer.phase) == ("Python", caffe.TRAIN)
    assert net.params["ten"] is layer.blobs
    net.blobs["data"].data[...] = 1
    net.params["ten"][0].data[0] = 4
    assert net.forward()["ten"][1, 2] == 40
    net.blobs["ten"].diff[...] = 1
    net.backward()
    net.backward()
    assert layer.asked == [True]
    assert net.blobs["data"].diff[0, 0] == 40
    assert net.params["ten"][0].diff[0] == 2 * 60
    net.save(tmp_path / "w.caffemodel")
    again = caffe.Net(path, caffe.TRAIN, weights=tmp_path / "w.caffemodel")
    assert again.params["ten"][0].data[0] == 4
    net.params["ten"][0].data[0] = 5
    again.share_with(net)
    again.blobs["data"].data[...] = 1
    assert again.forward()["ten"][0, 0] == 50


@pytest.mark.parametrize("phase", [caffe.TRAIN, caffe.TEST])
def test_a_data_layer_reshapes_the_net_as_it_goes(tmp_path: Path, phase: int) -> None:
    text = """layer { name: "n" type: "Python" top: "x" top: "phase"
                python_param { module: "users_layers" layer: "Numbers" } }
              layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { shift: 1 } }"""
    net = caffe.Net(write(tmp_path, text), phase)
    for count in range(3):
        out = net.forward()
        assert out["phase"] == phase
        np.testing.assert_array_equal(out["y"], np.full((1, count + 1), count + 1))


def test_users_errors_come_through(tmp_path: Path) -> None:
    text = """layer { name: "n" type: "Python" top: "x"
                python_param { module: "users_layers" layer: "Numbers" } }"""
    with pytest.raises(RuntimeError, match="two tops wanted"):
        caffe.Net(write(tmp_path, text), caffe.TEST)
    with pytest.raises(TypeError, match=r"Shapeless defines no reshape\(bottom, top\)"):
        caffe.Net(write(tmp_path, text.replace("Numbers", "Shapeless")), caffe.TEST)


def test_a_class_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(LayerError, match="class '' of module 'm'; expected both names"):
        caffe.Net(
            write(tmp_path, 'layer { type: "Python" name: "n" python_param { module: "m" } }'),
            caffe.TEST,
        )


DATA = """layer { name: "n" type: "Python" top: "x" top: "phase"
            python_param { module: "users_layers" layer: "Numbers" } }
          layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { shift: 1 } }"""


def test_a_data_layer_with_given_shapes_still_runs_when_it_may(tmp_path: Path) -> None:
    shapes = {"x": (1, 7), "phase": ()}
    net = caffe_port.load(write(tmp_path, DATA), input_shapes=shapes, allow_python_layers=True)
    assert net.spec.shapes["y"] == (1, 7)
    assert net({})["y"].tolist() == [[1.0]]  # its own reshape decides when it runs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DATA.replace("users_layers", "no_such_module"),
         "module 'no_such_module': ModuleNotFoundError: No module named 'no_such_module': "
         "put its folder into PYTHONPATH, or install it"),
        (DATA.replace("Numbers", "Letters"),
         "class 'Letters' of module 'users_layers': AttributeError: module 'users_layers' has no"),
        (DATA.replace('top: "phase"', ""), "RuntimeError in "),
        (DATA.replace('top: "phase"', ""), "test_python_layer.py, line "),
        (DATA.replace('top: "phase"', ""), ": two tops wanted"),
        (DATA.replace("Numbers", "Shapeless"), "TypeError"),
    ],
)  # fmt: skip
def test_in_a_command_users_errors_are_one_line_with_their_place(
    tmp_path: Path, text: str, words: str
) -> None:
    path = write(tmp_path, text)
    result = CliRunner().invoke(main, ["inspect", str(path), "--allow-python-layers"])
    assert result.exit_code == 2
    assert "layer 'n' (Python): " in result.output
    assert words in result.output


def test_in_a_command_so_are_those_of_forward(tmp_path: Path) -> None:
    net = caffe_port.load(write(tmp_path), allow_python_layers=True)
    net.module("ten").code.factor = "ten"
    with speaking("caffe"), pytest.raises(LayerError) as caught:
        net({"data": torch.ones(2, 3)})
    assert "layer 'ten' (Python): " in str(caught.value)
    assert f"in {__file__}, line" in str(caught.value)
