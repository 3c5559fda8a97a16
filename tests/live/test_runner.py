"""``python -m caffe_port.pycaffe``: unmodified scripts, whatever else is called caffe."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from caffe_port.errors import UsageError
from caffe_port.pycaffe import __main__, alias
from tests import preloaded
from tests.goldens_dir import ROOT

SCRIPT = """
import os, sys
import caffe
import caffe.io, caffe.draw, caffe.proto.caffe_pb2, caffe.pycaffe, caffe._caffe
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2
from caffe.coord_map import crop
from google.protobuf.pyext._message import RepeatedScalarContainer as RSC
import caffe_port.pycaffe

assert caffe is caffe_port.pycaffe and caffe.__name__ == caffe.__spec__.name == 'caffe_port.pycaffe'
assert caffe.io is sys.modules['caffe.io'] is sys.modules['caffe_port.pycaffe.io']
assert caffe.proto.caffe_pb2 is caffe_pb2
assert caffe.pycaffe.Net is caffe._caffe.Net is caffe.Net
assert isinstance(caffe_pb2.BlobShape(dim=[1]).dim, RSC)
assert P.Pooling.AVE == caffe_pb2.PoolingParameter.AVE
try:
    import caffe.nothing
except ModuleNotFoundError as error:
    assert error.name == 'caffe.nothing'
else:
    raise SystemExit('imported nothing')
import beside

with open('net.prototxt', 'w') as f:
    f.write(str(L.Python(L.Input(shape=dict(dim=[2])), module='beside', layer='Plus').to_proto()))
net = caffe.Net('net.prototxt', caffe.TEST)
print(__name__, sys.argv, os.path.basename(sys.path[0]), net.forward()['Python1'].tolist())
"""
BESIDE = """
import caffe

class Plus(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = bottom[0].data + 1
"""


def run(*arguments: str, cwd: Path, whole: bool = False) -> subprocess.CompletedProcess[str]:
    """What the command does; ``whole``: in a Python that has imported nothing before."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "caffe_port.pycaffe", *arguments]
    if whole:
        return subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
    return preloaded.run(words, cwd=cwd, env=environment)


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "job.py").write_text(SCRIPT)
    (tmp_path / "scripts" / "beside.py").write_text(BESIDE)
    # a Caffe source tree on the path must not come first
    (tmp_path / "scripts" / "caffe").mkdir()
    (tmp_path / "scripts" / "caffe" / "__init__.py").write_text("raise ImportError('wrong caffe')")
    return tmp_path


def test_a_script(scripts: Path) -> None:
    done = run("scripts/job.py", "-x", "1", cwd=scripts, whole=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "__main__ ['scripts/job.py', '-x', '1'] scripts [1.0, 1.0]\n"


def test_a_module(scripts: Path) -> None:
    done = run("-m", "job", "y", cwd=scripts / "scripts")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0] == "__main__"
    assert words[1].endswith("job.py',")
    assert words[2] == "'y']"


def test_six_is_available_as_with_pycaffe(scripts: Path) -> None:
    (scripts / "old.py").write_text(
        "import six\nfrom six.moves import xrange, urllib\n"
        "pairs = list(six.iteritems({'a': 1})) + list(six.itervalues({'b': 2}))\n"
        "print(pairs, six.PY3, list(xrange(2)), urllib.parse.quote(' '))\n"
    )
    done = run("old.py", cwd=scripts)
    assert done.stdout == "[('a', 1), 2] True [0, 1] %20\n", done.stderr


def test_the_scripts_exit_status_and_errors_are_its_own(scripts: Path) -> None:
    (scripts / "fails.py").write_text("import sys; sys.exit(7)")
    assert run("fails.py", cwd=scripts).returncode == 7
    (scripts / "raises.py").write_text("import caffe\nraise KeyError('mine')")
    done = run("raises.py", cwd=scripts)
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 'mine'\n")


def test_pytest_in_a_source_tree_of_caffe(scripts: Path) -> None:
    folder = scripts / "scripts" / "caffe" / "test"
    folder.mkdir()
    (folder / "test_it.py").write_text(
        "import caffe\ndef test_it(): assert caffe.Net.__module__ == 'caffe_port.live.net'\n"
    )
    done = run(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "caffe/test", cwd=scripts / "scripts"
    )
    assert "1 passed" in done.stdout, done.stdout


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--help"]) == 0
    usage = "usage: python -m caffe_port.pycaffe [OPTION ...] SCRIPT"
    assert capsys.readouterr().out.startswith(usage)
    for arguments in ([], ["-m"]):
        assert __main__.main(arguments) == 2
        assert capsys.readouterr().err.startswith("usage:")


def test_a_missing_script(tmp_path: Path) -> None:
    done = run("nothing.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "python -m caffe_port.pycaffe: no such script: nothing.py\n"


def test_another_caffe_that_is_already_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "caffe", types.ModuleType("caffe"))
    with pytest.raises(UsageError, match=r"another module 'caffe'.*install\(\) comes first"):
        alias.install()
