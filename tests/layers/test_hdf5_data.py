"""HDF5Data, after upstream's own unit test (test_hdf5data_layer.cpp); there is no recording."""

import h5py
import numpy as np
import pytest

from caffe_port.errors import LayerError
from tests.layers.helpers import net_of


@pytest.fixture
def source(tmp_path):
    """Upstream's sample: two files of ten rows, numbered through."""
    for i in range(2):
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["data"] = np.arange(10 * 8 * 6 * 5, dtype="f4").reshape(10, 8, 6, 5) + i * 2400
            file["label"] = 1 + np.arange(10, dtype="f4")[:, None]
            file["label2"] = file["label"][()] + 1
    (tmp_path / "list.txt").write_text(f"{tmp_path}/0.h5\n{tmp_path}/1.h5\n")
    return tmp_path / "list.txt"


def text(source, more="batch_size: 5", transform=""):
    return (
        'layer { name: "h" type: "HDF5Data" top: "data" top: "label" top: "label2" '
        f'hdf5_data_param {{ source: "{source}" {more} }} {transform} }}'
    )


def test_upstreams_ten_batches(source):
    net = net_of(text(source))
    assert net.spec.shapes == {"data": (5, 8, 6, 5), "label": (5, 1), "label2": (5, 1)}
    for turn in range(10):
        blobs, start = net({}), (turn % 4) * 5 * 8 * 6 * 5
        assert blobs["label"].ravel().tolist() == [1 + (turn % 2) * 5 + i for i in range(5)]
        assert blobs["label2"].ravel().tolist() == [2 + (turn % 2) * 5 + i for i in range(5)]
        want = np.arange(start, start + 5 * 8 * 6 * 5).reshape(5, 8, 6, 5)
        np.testing.assert_array_equal(blobs["data"].numpy(), want)


def test_shuffled_runs_are_alike_and_whole(source):
    runs = []
    for _ in range(2):
        net = net_of(text(source, "batch_size: 5 shuffle: true"))
        runs.append([float(v) for _ in range(4) for v in net({})["data"][:, 0, 0, 0]])
    assert runs[0] == runs[1] != sorted(runs[0])
    assert sorted(runs[0]) == [240.0 * i for i in range(20)]


def test_what_it_refuses(source):
    with pytest.raises(LayerError, match="HDF5Data transforms nothing"):
        net_of(text(source, transform="transform_param { scale: 2 }"))
    with pytest.raises(LayerError, match="batch_size is 0"):
        net_of(text(source, ""))
    with pytest.raises(LayerError, match="shapes follow from the first file: gone: the list"):
        net_of(text("gone"))
