"""Runs the tests that compare numbers under several instruction sets and numbers of threads.

usage: python -m tools.matrix.processors [--only NAME ...] [--work DIR] [--jobs N]
                                         [-- PYTEST OPTIONS]

The libraries choose their kernels when they start: torch reads ATEN_CPU_CAPABILITY, oneDNN
ONEDNN_MAX_CPU_ISA, MKL MKL_CBWR; tests/conftest.py turns oneDNN off and chooses the CRF's loops. So
one processor also tests the kernels of older ones. The tests are those with the mark parity; a
setting that passed is not run again until a file of the checkout changes. Results are written to
docs/matrix.json and docs/matrix.md. With PYTEST OPTIONS (such as tests/crf) the result is only
printed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.matrix.environments import ROOT, WORK, call, last_line, tested
from tools.matrix.outcomes import Outcome, new_outcome, run_all
from tools.matrix.page import write

KIND = "processors"
_CPUINFO = Path("/proc/cpuinfo")
#: Computes once and prints what the libraries chose.
_PROBE = """
import json, torch
import tests.conftest
from caffe_port.crf._lattice import instructions
torch.nn.functional.conv2d(torch.ones(2, 16, 40, 40), torch.ones(16, 16, 3, 3))
print(json.dumps({"torch": torch.backends.cpu.get_cpu_capability(), "CRF": instructions(),
                  "threads": str(torch.get_num_threads())}))
"""


@dataclass(frozen=True)
class Setting:
    """The instruction set and the threads that the libraries use.

    Attributes:
        name: on the command line and the page.
        aten: the instruction set of torch's own kernels; "" for the best.
        onednn: that of oneDNN; "" for the best, "off" for torch's kernels in its place.
        crf: the CRF's loops, "portable" or "best".
        threads: of each library.
    """

    name: str
    aten: str
    onednn: str
    crf: str
    threads: int

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables that set it."""
        found = {"OMP_NUM_THREADS": str(self.threads), "CAFFE_PORT_TEST_CRF": self.crf}
        if self.aten:
            found["ATEN_CPU_CAPABILITY"] = self.aten
        if self.aten == "default":
            found["MKL_CBWR"] = "COMPATIBLE"  # the kernels that every x86-64 processor has
        if self.onednn == "off":
            found["CAFFE_PORT_TEST_ONEDNN"] = "off"
        elif self.onednn:
            found["ONEDNN_MAX_CPU_ISA"] = self.onednn
        return found

    @property
    def needs(self) -> str:
        """The processor flag in /proc/cpuinfo that it needs."""
        return self.aten.replace("avx512", "avx512f").replace("default", "")


SETTINGS = (
    Setting("lowest", "default", "SSE41", "portable", 1),
    Setting("lowest-2-threads", "default", "SSE41", "portable", 2),
    Setting("lowest-without-oneDNN", "default", "off", "portable", 2),
    Setting("avx2", "avx2", "AVX2", "best", 1),
    Setting("avx2-2-threads", "avx2", "AVX2", "best", 2),
    Setting("avx2-without-oneDNN", "avx2", "off", "best", 1),
    Setting("best", "", "", "best", 1),
    Setting("best-2-threads", "", "", "best", 2),
    Setting("best-without-oneDNN", "", "off", "portable", 1),
    Setting("mixed", "default", "", "best", 2),
)


def main() -> None:
    """Runs the chosen settings and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[setting.name for setting in SETTINGS])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("pytest", nargs="*", help="options for pytest")
    options = parser.parse_args()
    here, flags = processor()
    passed = run_all(
        KIND, [setting for setting in SETTINGS if not setting.needs or setting.needs in flags],
        lambda setting: run(setting, here, options.work / KIND, options.jobs, options.pytest),
        only=options.only, part=bool(options.pytest), suffix=f" on {here}",
    )  # fmt: skip
    write()
    sys.exit(0 if passed else 1)


def run(setting: Setting, here: str, work: Path, jobs: int, options: Sequence[str]) -> Outcome:
    """Runs the tests in a setting."""
    outcome, environ = new_outcome(here), {**os.environ, **setting.environ}
    processes = max(1, jobs // setting.threads)
    command = [sys.executable, "-m", "pytest", "-m", "parity", f"--numprocesses={processes}",
               "--dist=worksteal", *options]  # fmt: skip
    began = time.monotonic()
    try:
        outcome.found = chosen(environ)
        outcome.tests = tested(command, ROOT, environ, work / setting.name)
    except subprocess.CalledProcessError as error:
        outcome.trouble = last_line(error)
    outcome.seconds = round(time.monotonic() - began)
    return outcome


def chosen(environ: dict[str, str]) -> dict[str, str]:
    """What the libraries chose under these variables."""
    text = call([sys.executable, "-c", _PROBE], cwd=ROOT, env={**environ, "ONEDNN_VERBOSE": "1"})
    isa = re.search(r"info,cpu,isa:(?:Intel )?(.*)", text)
    found: dict[str, str] = json.loads(text.splitlines()[-1])
    return {**found, "oneDNN": isa[1] if isa else "off"}


def processor() -> tuple[str, set[str]]:
    """The name of this machine's processor, and its flags."""
    text = _CPUINFO.read_text(encoding="utf-8") if _CPUINFO.exists() else ""
    values = dict(re.findall(r"^([^\t:]+?)\s*:[ ]?(.*)$", text, re.MULTILINE))
    name = values.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in values:
        name += f", family {values['cpu family']}, model {values['model']}"
    return f"{name}, {os.cpu_count()} cores", set(values.get("flags", "").split())


if __name__ == "__main__":
    main()
