"""HDF5Output, after upstream's own unit test (test_hdf5_output_layer.cpp); no recording."""

import h5py
import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from tests.layers.helpers import net_of

TEXT = 'layer {{ name: "o" type: "HDF5Output" bottom: "b0" bottom: "b1" {} }}'


def test_what_is_read_back_is_what_was_written(tmp_path):
    path = tmp_path / "new folder" / "out.h5"
    option = f'hdf5_output_param {{ file_name: "{path}" }}'
    net = net_of(TEXT.format(option), (5, 8, 5, 5), (5, 1))
    data, label = torch.rand(5, 8, 5, 5), torch.arange(5.0)[:, None]
    net({"b0": data, "b1": label})
    assert not path.exists()  # a net writes only when it may
    net.write_files = True
    for factor in (1, 2):  # the second pass replaces the first one's file
        net({"b0": data * factor, "b1": label})
        with h5py.File(path) as file:
            assert sorted(file) == ["data", "label"]
            np.testing.assert_array_equal(file["data"], data.numpy() * factor)
            np.testing.assert_array_equal(file["label"], label.numpy()[:, :, None, None])


@pytest.mark.parametrize(
    ("option", "shapes", "message"),
    [
        ("", [(2, 3), (2, 1)], "file_name is empty"),
        ('hdf5_output_param { file_name: "x" }', [(2, 3), (3, 1)], "bottoms of 2 and 3 items"),
        ('hdf5_output_param { file_name: "x" }', [(), ()], r"bottom 0 has shape \(\)"),
    ],
)
def test_what_it_refuses(option, shapes, message):
    with pytest.raises(LayerError, match=message):
        net_of(TEXT.format(option), *shapes)
