"""Programs that a server forks run as those that are started alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests import preloaded
from tests.goldens_dir import ROOT

SEEN = """
import os, sys
print(__name__, sys.argv, sys.path[0], os.getcwd(), sorted(os.environ), sys.stdin.read())
print("wrong", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["text", "module", "script"])
def test_a_program_runs_as_if_started_alone(kind, tmp_path):
    (tmp_path / "seen.py").write_text(SEEN)
    given = {"text": ["-c", SEEN], "module": ["-m", "seen"], "script": [tmp_path / "seen.py"]}
    words = [sys.executable, *given[kind], "-x", "a b"]
    options = {
        "cwd": tmp_path,
        "env": {"PYTHONPATH": str(ROOT), "PATH": "/bin", "LC_ALL": "C.UTF-8"},
    }
    with open(os.devnull, "rb") as nothing:
        found = preloaded.run(words, stdin=nothing.fileno(), **options)
        alone = subprocess.run(
            words, stdin=nothing, capture_output=True, text=True, check=False, **options
        )
    assert (found.stdout, found.stderr) == (alone.stdout, alone.stderr)
    assert found.returncode == alone.returncode == 3


def test_torch_is_imported_and_nothing_of_this_project():
    code = (
        "import sys; names = {name.partition('.')[0] for name in sys.modules}; "
        "print('torch' in names, 'caffe_port' in names)"
    )
    assert preloaded.run([sys.executable, "-c", code]).stdout == "True False\n"


def test_sitecustomize_on_the_path_is_read_first(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.path.insert(0, 'added')")
    words = [sys.executable, "-c", "import sys; print(sys.path[:3])"]
    environment = {"PYTHONPATH": str(tmp_path)}
    found = preloaded.run(words, env=environment)
    alone = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert found.stdout == alone.stdout == f"{['', 'added', str(tmp_path)]}\n"


def test_warnings_are_errors_where_asked():
    found = preloaded.run(
        [sys.executable, "-W", "error", "-c", "import warnings; warnings.warn('x')"]
    )
    assert found.returncode == 1
    assert found.stderr.endswith("UserWarning: x\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_it(number):
    code = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(60)"
    with preloaded.start(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout.readline() == "begun\n"
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.send_signal(number)
        assert process.wait() == process.poll() == -number


def test_programs_draw_different_random_numbers():
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    one, other = (preloaded.run([sys.executable, "-c", code]).stdout.split() for _ in range(2))
    assert one[0] != other[0]
    assert one[1] != other[1]


def test_commands_for_the_path(tmp_path):
    preloaded.write_commands(tmp_path, {"python": [], "seen": ["-c", SEEN]})
    ends = "python -c 'import os; os.kill(os.getpid(), 15)'"
    script = f"seen a </dev/null; echo $?; {ends}; echo $?; python -V"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
    )  # fmt: skip
    first, status, ended, version = done.stdout.splitlines()
    assert first.startswith("__main__ ['-c', 'a']")
    assert (status, ended) == ("3", "143")
    assert version.startswith("Python 3")
    assert done.stderr.startswith("wrong\n")
