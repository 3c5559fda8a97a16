"""The command line itself: help, exit statuses, errors without tracebacks."""

import subprocess
import sys
import threading

import pytest
from click.testing import CliRunner

from caffe_port import __version__, errors
from caffe_port.cli import _COMMANDS, main
from tests.goldens_dir import GOLDENS

NET = GOLDENS / "layers" / "bvlc_conv_group" / "net.prototxt"
SHELL = [sys.executable, "-c", "from caffe_port.cli import main; main()"]


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def test_help_lists_every_command_and_imports_none():
    script = (
        "import sys\nfrom caffe_port.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'h5py', 'scipy', 'PIL', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert all(name in done.stdout for name in _COMMANDS)


@pytest.mark.parametrize("command", sorted(_COMMANDS))
def test_each_command_explains_itself(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage:")
    assert "Exit status" in result.output


def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert __version__ in result.output


@pytest.mark.parametrize("args", [["nothing"], ["inspect"], ["inspect", "--wrong", NET], ["-x"]])
def test_wrong_usage_is_status_2(args):
    result = run(*args)
    assert result.exit_code == 2
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.FormatError("odd", line=3), "line 3: odd"),
        (
            PermissionError(13, "Permission denied", "a.txt"),
            "a.txt: Permission denied; check the permissions of it and of its folder",
        ),
        (OSError(5, "Input/output error", "a\x1b[2J"), r"a\x1b[2J: Input/output error"),
    ],
)
def test_errors_of_ours_and_of_the_system_are_one_line_and_status_2(monkeypatch, error, words):
    def refuse(*args, **options):
        raise error

    monkeypatch.setattr("caffe_port.inspection.inspect_file", refuse)
    result = run("inspect", NET)
    assert result.exit_code == 2
    assert result.output == f"caffe-port inspect: {words}\n"


def test_ctrl_c_is_status_130(monkeypatch):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("caffe_port.inspection.inspect_file", interrupt)
    result = run("inspect", NET)
    assert result.exit_code == 130
    assert result.output == "\ncaffe-port inspect: interrupted\n"


def test_statuses_of_a_real_process(tmp_path):
    broken = tmp_path / "broken.prototxt"
    broken.write_text("layer {\n")
    for args, status, words in [
        (["inspect", str(NET)], 0, ""),
        (["inspect", str(broken)], 2, f"{broken}: line 2, column 1: expected a field name"),
        (["inspect", str(tmp_path / "none")], 2, "does not exist"),
    ]:
        done = subprocess.run([*SHELL, *args], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_not_an_error():
    pipe = f'{SHELL[0]} -c "{SHELL[2]}" inspect {NET} | true'
    done = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr


def test_it_runs_in_a_thread_too(capsys, monkeypatch):
    statuses = []

    def run():
        try:
            main()
        except SystemExit as end:
            statuses.append(end.code)

    monkeypatch.setattr(sys, "argv", ["caffe-port", "--version"])
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert statuses == [0]
