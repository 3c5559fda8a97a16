"""The files of every recorded net. The nets themselves are compared in parity/test_goldens.py."""

import numpy as np
import pytest

import caffe_port.pycaffe as caffe
from caffe_port.parity import read_recording
from caffe_port.proto.dialects import ENVIRONMENT
from tests.goldens_dir import cases, dialect_of
from tests.verifying import unknown_types

CASES = cases("nets")
KNOWN = [folder for folder in CASES if not unknown_types(folder)]
HDF5 = [folder for folder in KNOWN if (folder / "net.caffemodel.h5").is_file()]
#: Types of recorded nets that are not built yet; it may only shrink.
NOT_YET: set[str] = set()


def test_no_other_type_is_left_out():
    assert set().union(*(unknown_types(folder) for folder in CASES)) <= NOT_YET
    assert len(KNOWN) >= 2


@pytest.mark.parametrize("folder", HDF5, ids=lambda folder: folder.name)
def test_both_weight_files_of_caffe_hold_the_same(folder, monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, dialect_of(folder))
    phase = getattr(caffe, read_recording(folder).meta.phase)
    prototxt, weights = str(folder / "net.prototxt"), str(folder / "net.caffemodel")
    one = caffe.Net(prototxt, weights, phase)
    two = caffe.Net(prototxt, weights + ".h5", phase)
    for layer, blobs in one.params.items():
        for mine, other in zip(blobs, two.params[layer], strict=True):
            assert np.array_equal(mine.data, other.data)
