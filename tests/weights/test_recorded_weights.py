"""Every weight file of real Caffe holds the parameters that it recorded."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_port.weights import read_mean, read_weights
from tests.goldens_dir import FULL_GOLDENS, GOLDENS, SHAPES
from tests.weights.making import assert_same_layers, same_bits

ROOT = FULL_GOLDENS or GOLDENS
MODEL = SHAPES / "caffe_run"


def cases(pattern: str) -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


LAYERS = cases("layers/*/net.caffemodel")
NETS = cases("nets/*/net.caffemodel")
HDF5 = cases("nets/*/net.caffemodel.h5")


def test_goldens_are_there() -> None:
    assert len(LAYERS) > 40
    assert len(NETS) >= 2


@pytest.mark.parametrize("case", LAYERS)
def test_parameters_equal_the_recorded_ones(case: str) -> None:
    path = ROOT / case
    layers = {x.name: x for x in read_weights(path).layers}
    compared = 0
    with np.load(path.with_name("case.npz")) as recorded:
        for key in recorded.files:
            kind, _, rest = key.partition("/")
            if kind == "param":
                name, _, index = rest.rpartition("/")
                blob = layers[name].blobs[int(index)]
                assert same_bits(blob.data, recorded[key]), key
                assert same_bits(blob.aligned(), recorded[key]), key
                compared += 1
    assert compared == sum(len(x.blobs) for x in layers.values())


@pytest.mark.parametrize("case", NETS)
def test_networks(case: str) -> None:
    weights = read_weights(ROOT / case)
    v1 = "deeplab1" in case
    assert weights.generation == ("V1" if v1 else "V2")
    assert weights.name
    assert not any(x.type.startswith("V1:") for x in weights.layers)
    blobs = [b for x in weights.layers for b in x.blobs]
    assert all(b.legacy == v1 for b in blobs)
    assert all(np.isfinite(b.data).all() for b in blobs)
    assert sum(b.data.size for b in blobs) * 4 > 0.8 * (ROOT / case).stat().st_size


@pytest.mark.parametrize("case", HDF5)
def test_hdf5_equals_the_binary_file(case: str) -> None:
    path = ROOT / case
    binary = sorted(read_weights(path.with_suffix("")).layers, key=lambda x: x.name)
    assert_same_layers(read_weights(path).layers, binary, types=False)


def test_hdf5_snapshot() -> None:
    (path,) = (ROOT / "io").glob("hdf5/*.caffemodel.h5")
    layers = read_weights(path).layers
    assert [x.name for x in layers] == ["conv1", "conv2", "input", "loss", "relu1"]
    assert [b.data.shape for b in layers[0].blobs] == [(6, 3, 3, 3), (6,)]


def test_the_examples_model() -> None:
    weights = read_weights(MODEL / "model" / "train_iter_2400.caffemodel")
    assert (weights.name, weights.generation, len(weights.layers)) == ("shapes-largefov", "V2", 46)
    conv1 = weights.layers[[x.name for x in weights.layers].index("conv1_1")]
    assert conv1.type == "Convolution"
    assert [b.data.shape for b in conv1.blobs] == [(8, 3, 3, 3), (8,)]


@pytest.mark.skipif(FULL_GOLDENS is None, reason="needs all of the recordings")
def test_mean_made_by_caffe() -> None:
    assert FULL_GOLDENS is not None
    run = FULL_GOLDENS.parent / "shapes_voc" / "caffe_run"
    mean = read_mean(run / "lmdb" / "mean.binaryproto")
    assert mean.shape == (3, 32, 40)
    assert mean.dtype == np.float32
    assert 0 < mean.min() <= mean.max() < 255
    assert mean.mean() == pytest.approx(128.63, abs=0.01)
