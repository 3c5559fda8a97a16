"""Reading ahead: what it changes (the thread) and what it does not."""

import copy
import threading

import numpy as np
import pytest

from caffe_port.errors import DataError
from tests.layers.helpers import net_of

TEXT = (
    'layer { name: "d" type: "ImageData" top: "data" top: "label" '
    'transform_param { crop_size: 2 } image_data_param { source: "gone" } }'
)


class Counting:
    """A reader of numbered batches that knows who asked, and fails at the fourth."""

    def __init__(self):
        self.threads = []

    def next_batch(self):
        self.threads.append(threading.get_ident())
        if len(self.threads) == 4:
            raise DataError("line 4")
        number = np.full((1,), len(self.threads), np.float32)
        return np.zeros((1, 3, 2, 2), np.float32), number


def reading(phase):
    net = net_of(TEXT, phase=phase)
    layer = net.module("d")
    layer.reader = Counting()
    return net, layer


def test_training_reads_ahead_in_one_other_thread():
    net, layer = reading("TRAIN")
    assert [int(net({})["label"][0]) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(DataError, match="line 4"):
        net({})
    first, *others = layer.reader.threads
    assert first == threading.get_ident()
    assert len(set(others)) == 1
    assert first not in others


def test_testing_reads_what_is_needed():
    net, layer = reading("TEST")
    for _ in range(3):
        net({})
    assert layer.reader.threads == [threading.get_ident()] * 3


def test_after_an_error_reading_continues():
    net, _ = reading("TRAIN")
    for _ in range(3):
        net({})
    with pytest.raises(DataError):
        net({})
    assert int(net({})["label"][0]) == 5


def test_a_copy_reopens_its_files():
    net, _ = reading("TRAIN")
    net({})
    other = copy.deepcopy(net)
    with pytest.raises(DataError, match="gone: the list cannot be read"):
        other({})
    assert int(net({})["label"][0]) == 2
