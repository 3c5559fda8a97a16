"""The points that the code of Seg-Unravel's author found, on three networks, three shift types."""

import json

import numpy as np
import pytest

from caffe_port import load
from caffe_port.unravel import trace
from tests.goldens_dir import FULL_GOLDENS, GOLDENS

BUNDLED = GOLDENS / "unravel"
# the same weights, in V1's words
LARGEFOV_V1 = GOLDENS / "nets" / "deeplab1_largefov_v1_hole"
CASES = sorted(path.parent for path in (BUNDLED).glob("*/case.json"))


def held(case, folder):
    """How many points differ, of how many; the start is given."""
    meta = json.loads((case / "case.json").read_text())
    recorded = np.load(case / "case.npz")
    net = load(folder / "net.prototxt", folder / "net.caffemodel")
    found = trace(
        net, {"data": recorded["input/data"]}, meta["top"], meta["classes"], meta["shift_type"],
        meta["K"], recorded["label_map"],
    )  # fmt: skip
    apart = total = 0
    for label in meta["classes"]:
        prefix = f"class{label}/"
        keys = [key for key in recorded.files if key.startswith(prefix)]
        want = {key.removeprefix(prefix): recorded[key] for key in keys}
        assert set(found[label]) == set(want)
        for blob, rows in found[label].items():
            assert rows.dtype == np.int32
            assert np.array_equal(rows, np.unique(rows, axis=0))
            apart += len({*map(tuple, rows.tolist())} ^ {*map(tuple, want[blob].tolist())})
            total += len(want[blob])
    return apart, total


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_bundled_cases(case):
    fcn = GOLDENS / "nets" / "bvlc_fcn_alexnet"
    apart, total = held(case, fcn if "fcn" in case.name else LARGEFOV_V1)
    assert total > 50
    assert apart == 0


@pytest.mark.skipif(FULL_GOLDENS is None, reason="the other recordings are not here")
@pytest.mark.parametrize("shift", ["full_shift", "no_shift", "partial_shift"])
@pytest.mark.parametrize("net", ["deeplab_largefov_v2", "deeplab_resnet101_msc"])
def test_the_other_cases(net, shift):
    case = FULL_GOLDENS / "unravel" / f"{net}_{shift}"
    apart, total = held(case, FULL_GOLDENS / "nets" / net)
    assert total > 1000
    assert apart == 0
