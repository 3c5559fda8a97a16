"""The package's public names: each can be used, and none imports a heavy library."""

import importlib
import subprocess
import sys

import pytest

import caffe_port
from caffe_port import errors, pycaffe
from caffe_port.live import net as live
from tests import preloaded


@pytest.mark.parametrize("name", caffe_port.__all__)
def test_every_public_name_is_there(name):
    assert getattr(caffe_port, name) is not None


def test_lists_agree():
    names = {*caffe_port._MODULES, *caffe_port._SUBPACKAGES, "__version__"}
    assert list(caffe_port.__all__) == sorted(names)
    for name, home in caffe_port._MODULES.items():
        module = importlib.import_module(f"caffe_port.{home}")
        assert name in getattr(module, "__all__", vars(module))


@pytest.mark.parametrize("name", ["data", "evaluation", "solver"])
def test_lists_of_a_subpackage_agree(name):
    package = importlib.import_module(f"caffe_port.{name}")
    assert list(package.__all__) == sorted(package._MODULES)
    assert all(getattr(package, public).__name__ == public for public in package.__all__)


def test_pycaffe_has_its_names_before_torch_is_imported_too():
    assert set(pycaffe.__all__) <= set(dir(pycaffe))
    assert all(getattr(pycaffe, name) is not None for name in pycaffe.__all__)
    assert pycaffe.Net is live.Net
    assert pycaffe.classifier.Classifier is pycaffe.Classifier
    with pytest.raises(AttributeError, match=r"module 'caffe_port.pycaffe' has no attribute 'Nt'"):
        pycaffe.Nt  # noqa: B018


def test_every_subpackage_with_public_names_is_reachable_after_one_import():
    script = (
        "import caffe_port as cp\n"
        "cp.export.emit_module, cp.losses.feedback_loss, cp.evaluation.evaluate\n"
        "cp.solver.Training, cp.inference.Optimized, cp.data.voc_items, cp.recipes.read_recipe\n"
    )
    preloaded.run([sys.executable, "-c", script]).check_returncode()


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'caffe_port' has no attribute 'lod'"):
        caffe_port.lod  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    script = (
        "import sys, caffe_port, caffe_port.cli, caffe_port.spec, caffe_port.proto\n"
        "import caffe_port.weights, caffe_port.inspection, caffe_port.plan, caffe_port.errors\n"
        "import caffe_port.pycaffe as caffe, caffe_port.pycaffe.io\n"
        "caffe.NetSpec().to_proto(), caffe.layers.ReLU(), caffe.proto.caffe_pb2.NetParameter()\n"
        "heavy = {'torch', 'h5py', 'scipy', 'matplotlib', 'PIL', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_one_base_catches_every_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    raised = [k for k in kinds if issubclass(k, Exception) and not issubclass(k, Warning)]
    assert len(raised) >= 9
    assert all(issubclass(kind, errors.CaffePortError) for kind in raised)
    assert issubclass(errors.UnknownFieldWarning, UserWarning)


def test_format_errors_say_where():
    error = errors.FormatError("odd", path="a.txt", line=3, column=4)
    assert str(error) == "a.txt: line 3, column 4: odd"
    assert str(errors.FormatError("odd", offset=7)) == "byte 7: odd"
    assert str(errors.FormatError("odd", line=2)) == "line 2: odd"
