"""Processes that a script starts, shells and Jupyter find `import caffe` here, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_port import pythonpath
from caffe_port.cli import main
from tests import preloaded
from tests.goldens_dir import ROOT

PRINTS = "import caffe, caffe.io; from caffe.proto import caffe_pb2; print(caffe.__name__)"
SPAWNS = """
import multiprocessing

def name(_):
    import caffe.io
    return caffe.io.__name__

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(name, [0]))
"""
LAYER = """
import caffe

class Twice(caffe.Layer):
    def setup(self, bottom, top): pass
    def reshape(self, bottom, top): top[0].reshape(*bottom[0].shape)
    def forward(self, bottom, top): top[0].data[...] = 2 * bottom[0].data
"""
NET = """
layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }
layer { name: "p" type: "Python" bottom: "x" top: "p"
  python_param { module: "twice" layer: "Twice" } }
"""


def environment(pydensecrf: bool = False, *more: Path) -> dict[str, str]:
    """What a shell has after `export PYTHONPATH=...`; the tests' package is not installed."""
    parts = [*map(str, more), pythonpath.folders(pydensecrf), str(ROOT)]
    kept = {k: v for k, v in os.environ.items() if k != pythonpath.ENVIRONMENT}
    return {**kept, "PYTHONPATH": os.pathsep.join(parts), "OMP_NUM_THREADS": "1"}


def run(*arguments: str, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    options.setdefault("env", environment())
    return subprocess.run(
        arguments, cwd=cwd, capture_output=True, text=True, check=False, **options
    )  # type: ignore[call-overload]


def test_the_command_prints_the_folders(capsys: pytest.CaptureFixture[str]) -> None:
    main(["pythonpath"], standalone_mode=False)
    main(["pythonpath", "--pydensecrf"], standalone_mode=False)
    one, two = capsys.readouterr().out.splitlines()
    assert Path(one, "caffe", "__init__.py").is_file()
    assert two.split(os.pathsep)[0] == one
    assert Path(two.split(os.pathsep)[1], "pydensecrf", "__init__.py").is_file()


def test_a_shell_script_that_calls_python(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(PRINTS)
    (tmp_path / "job.sh").write_text(f'"{sys.executable}" job.py && "{sys.executable}" job.py\n')
    done = run("sh", "job.sh", cwd=tmp_path)
    assert done.stdout == "caffe_port.pycaffe\n" * 2, done.stderr


def test_a_source_tree_of_caffe_does_not_come_first(tmp_path: Path) -> None:
    (tmp_path / "python" / "caffe").mkdir(parents=True)
    (tmp_path / "python" / "caffe" / "__init__.py").write_text("raise ImportError('wrong caffe')")
    script = f"import sys; sys.path.insert(0, 'python'); {PRINTS}"
    done = run(sys.executable, "-c", script, cwd=tmp_path)
    assert done.stdout == "caffe_port.pycaffe\n", done.stderr


def test_nothing_is_imported_before_caffe_is(tmp_path: Path) -> None:
    script = "import sys; print([m for m in ('caffe_port', 'torch', 'numpy') if m in sys.modules])"
    assert run(sys.executable, "-c", script, cwd=tmp_path).stdout == "[]\n"


def test_another_sitecustomize_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the other one')")
    parts = [pythonpath.folders(), str(tmp_path), str(ROOT)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(parts)}
    done = run(sys.executable, "-c", PRINTS, cwd=tmp_path, env=env)
    assert done.stdout == "the other one\ncaffe_port.pycaffe\n", done.stderr


def test_without_site_the_folder_still_serves(tmp_path: Path) -> None:
    """python -S reads no sitecustomize and, here, has no caffe_port."""
    env = {**os.environ, "PYTHONPATH": pythonpath.folders()}
    done = run(sys.executable, "-S", "-c", "import caffe", cwd=tmp_path, env=env)
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "ModuleNotFoundError: PYTHONPATH says that caffe_port is to provide caffe"
    )
    assert last.endswith(sys.executable)


def test_pydensecrf_on_request(tmp_path: Path) -> None:
    script = (
        "import pydensecrf.densecrf as dcrf; from pydensecrf.utils import unary_from_softmax\n"
        "import pydensecrf, caffe; print(pydensecrf.__name__, dcrf.__name__, caffe.__name__)"
    )
    done = run(sys.executable, "-c", script, cwd=tmp_path, env=environment(True))
    home = "caffe_port.crf.pydensecrf"
    assert done.stdout == f"{home} {home}.densecrf caffe_port.pycaffe\n", done.stderr
    runner = [sys.executable, "-m", "caffe_port.pycaffe", "--pydensecrf"]
    (tmp_path / "job.py").write_text(script)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert run(*runner, "job.py", cwd=tmp_path, env=env).stdout == done.stdout


@pytest.mark.parametrize("by_runner", [True, False])
def test_spawned_processes(tmp_path: Path, by_runner: bool) -> None:
    (tmp_path / "job.py").write_text(SPAWNS)
    runner = ["-m", "caffe_port.pycaffe"] if by_runner else []
    env = {**os.environ, "PYTHONPATH": str(ROOT)} if by_runner else environment()
    done = run(sys.executable, *runner, "job.py", cwd=tmp_path, env=env)
    assert done.stdout == "['caffe_port.pycaffe.io']\n", done.stderr


def test_processes_of_the_runners_script(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(PRINTS)
    (tmp_path / "job.py").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, 'child.py'], check=True)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = run(sys.executable, "-m", "caffe_port.pycaffe", "job.py", cwd=tmp_path, env=env)
    assert done.stdout == "caffe_port.pycaffe\n", done.stderr


@pytest.fixture
def python_layer(tmp_path: Path) -> Path:
    (tmp_path / "twice.py").write_text(LAYER)
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path


def test_python_layers_in_scripts_that_find_caffe_by_the_path(python_layer: Path) -> None:
    script = "import caffe; print(caffe.Net('net.prototxt', caffe.TEST).forward())"
    done = run(sys.executable, "-W", "error", "-c", script, cwd=python_layer)
    assert "'p': array([0.]" in done.stdout, done.stderr


COMMANDS = [
    ["caffe_port.cli.caffe", "time", "--model=net.prototxt", "--iterations=1"],
    ["caffe_port.cli", "inspect", "net.prototxt"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=["caffe", "caffe-port"])
def test_an_environment_that_allows_python_layers(python_layer: Path, command: list[str]) -> None:
    module, *arguments = command
    program = [sys.executable, "-c", f"import sys, {module} as m; sys.exit(m.main({arguments!r}))"]
    env = environment(False, python_layer)
    for value in ("", "0"):
        given = {**env, pythonpath.ENVIRONMENT: value}
        refused = preloaded.run(program, cwd=python_layer, env=given)
        assert refused.returncode != 0
        assert f"{pythonpath.ENVIRONMENT}=1 in the environment" in refused.stderr
    done = preloaded.run(program, cwd=python_layer, env={**env, pythonpath.ENVIRONMENT: "1"})
    assert done.returncode == 0, done.stderr
    words = "layer 'p' runs the code of class 'Twice' in module 'twice', because the environment"
    assert done.stderr.count(words) == 1


def test_a_jupyter_kernel(python_layer: Path) -> None:
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("jupyter_client")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    install = ["-m", "caffe_port.pycaffe", "-m", "ipykernel", "install", f"--prefix={python_layer}"]
    done = run(sys.executable, *install, cwd=python_layer, env=env)
    assert done.returncode == 0, done.stderr
    folder = python_layer / "share" / "jupyter" / "kernels"
    spec = json.loads((folder / "caffe" / "kernel.json").read_text())
    assert spec["display_name"] == "Python 3 (caffe_port)"
    finder = client.kernelspec.KernelSpecManager(kernel_dirs=[str(folder)])
    manager = client.KernelManager(kernel_name="caffe", kernel_spec_manager=finder)
    # the tests' package is not installed
    manager.start_kernel(cwd=str(python_layer), env={**os.environ, "PYTHONPATH": str(ROOT)})
    kernel = manager.client()
    try:
        kernel.start_channels()
        kernel.wait_for_ready(timeout=120)
        code = "import caffe; print(caffe.__name__, caffe.Net('net.prototxt', 1).forward()['p'])"
        printed: list[str] = []
        reply = kernel.execute_interactive(
            code,
            timeout=120,
            output_hook=lambda message: printed.append(message["content"].get("text", "")),
        )
        assert reply["content"]["status"] == "ok", reply
        assert "caffe_port.pycaffe [0.]" in "".join(printed)
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
