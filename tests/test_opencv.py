"""A second, independent importer agrees with ours wherever it takes a net at all."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from tests import preloaded
from tests.goldens_dir import ROOT, cases

# Where OpenCV departs from Caffe's own recording, which ours equals.
DEPARTS = {
    "inner_product_transpose": "the transpose option is ignored",
    "lrn_across_k2_big_alpha": "k is ignored",
    "mvn_across": "eps is added to the variance",
    "neuron_swish": "beta is ignored",
    "pool_max_mask": "the mask holds other indices",
}
LIMIT = 1e-5  # of the peak; OpenCV sums in another order


def _run(paths: list[str]) -> dict[str, dict[str, float] | str]:
    """Outcome by case. The importer can end the process; then that case counts as refused."""
    results: dict[str, dict[str, float] | str] = {}
    while left := [path for path in paths if path not in results]:
        command = [sys.executable, "-m", "tests.opencv_worker", *left]
        run = preloaded.run(command, cwd=ROOT)
        done = [json.loads(line) for line in run.stdout.splitlines()]
        results.update(done)
        if len(done) < len(left):
            assert run.returncode < 0, run.stderr  # an error of ours, not a crash of OpenCV's
            results[left[len(done)]] = "the process ended"
    return results


@pytest.mark.skipif(importlib.util.find_spec("cv2") is None, reason="OpenCV is not installed")
def test_opencv_agrees_on_every_net_it_takes():
    tested = [
        str(case)
        for case in cases("layers") + cases("nets")
        if json.loads((case / "case.json").read_text())["phase"] == "TEST"
    ]
    results = _run(tested)
    taken = {path: errors for path, errors in results.items() if isinstance(errors, dict)}
    apart = {
        path.rpartition("/")[2].partition("_")[2]
        for path, errors in taken.items()
        if max(errors.values(), default=0) > LIMIT
    }
    assert apart <= set(DEPARTS)
    assert len(taken) > 120
