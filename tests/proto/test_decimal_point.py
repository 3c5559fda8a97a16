"""The schema is made under a locale whose decimal point is a comma."""

import os
import shutil
import subprocess
import sys

import pytest


@pytest.mark.skipif(shutil.which("localedef") is None, reason="no localedef makes the locale")
def test_a_decimal_comma(tmp_path):
    made = subprocess.run(
        ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("no German locale can be made here")
    script = (
        "import locale; locale.setlocale(locale.LC_ALL, 'de_DE.UTF-8');"
        "from caffe_port.proto import caffe_pb2; print(caffe_pb2.SolverParameter().rms_decay);"
        "print(locale.localeconv()['decimal_point'])"
    )
    environment = {**os.environ, "LOCPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.split()[0].startswith("0.99"), run.stderr
    assert run.stdout.split()[1] == ","
