"""The analysis of images: what it refuses."""

import numpy as np
import pytest
from PIL import Image

from caffe_port.errors import UsageError
from caffe_port.evaluation.network import Settings
from caffe_port.unravel.analysis import AnalysisOptions, analyse
from tests.unravel.nets import data, layer, make

ONE_BY_ONE = "convolution_param { num_output: %d kernel_size: 1 }"


@pytest.fixture
def image(tmp_path):
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def net(labels):
    return make(data(1, 3, 6, 6) + layer("Convolution", ONE_BY_ONE % labels))


def test_more_labels_than_a_label_map_holds_are_refused(image):
    options = AnalysisOptions("out", settings=Settings((6, 6)), curves=0, kept=0)
    (analysed,) = analyse(net(255), [(image, None)], options)
    assert analysed.predicted.shape == (4, 5)
    with pytest.raises(UsageError, match=r"'out' has shape \(1, 256, 6, 6\).* at most 255 labels"):
        analyse(net(256), [(image, None)], options)
