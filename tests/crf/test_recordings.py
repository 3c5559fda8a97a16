"""The DenseCRF layer's arithmetic against every recording of real DeepLab Caffe."""

import numpy as np
import pytest

from caffe_port.crf import dense_crf_forward, map_labels
from tests.crf import recordings
from tests.goldens_dir import cases


@pytest.fixture(params=cases("crf"), ids=lambda folder: folder.name)
def recording(request):
    return recordings.read(request.param)


def test_it_is_caffe_s_result_bit_for_bit(recording):
    r = recording
    q = dense_crf_forward(r.scores, r.data_dim, r.data, r.parameters, r.output_probability)
    assert q.shape == r.scores.shape
    assert q.dtype == np.float32
    assert np.array_equal(map_labels(q[0]), r.labels)
    got = q[:, :, :: r.step, :: r.step]
    if r.output_probability:
        assert np.array_equal(got, r.top)
    else:  # the C library's logf is within one unit of the nearest float32
        np.testing.assert_array_max_ulp(got, r.top, maxulp=1)


def test_the_cases_are_there():
    names = [folder.name for folder in cases("crf")]
    assert len(names) >= 12, names
    assert any("padded" in name for name in names)
    assert any("1iter" in name for name in names)
