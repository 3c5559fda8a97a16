"""MemoryData, after upstream's own unit tests (test_memory_data_layer.cpp); no recording."""

import numpy as np
import pytest

from caffe_port.data.rng import CaffeRandom, seeded
from caffe_port.errors import LayerError
from tests.layers.helpers import net_of

OPTIONS = "batch_size: 2 channels: 3 height: 4 width: 5"


def made(transform="", phase="TEST", options=OPTIONS):
    net = net_of(
        'layer { name: "m" type: "MemoryData" top: "data" top: "label" '
        f"memory_data_param {{ {options} }} transform_param {{ {transform} }} }}",
        phase=phase,
    )
    return net, net.module("m")


def arrays(n=6):
    data = np.random.default_rng(1).random((n, 3, 4, 5), np.float32)
    return data, np.arange(n, dtype=np.float32)


def test_batches_go_round():
    net, layer = made()
    data, labels = arrays()
    layer.reset(data, labels)
    for turn in range(7):
        part = slice(2 * (turn % 3), 2 * (turn % 3) + 2)
        blobs = net({})
        np.testing.assert_array_equal(blobs["data"].numpy(), data[part])
        assert blobs["label"].shape == (2, 1, 1, 1)
        assert blobs["label"].ravel().tolist() == labels[part].tolist()


def test_the_shapes_it_announces():
    net, _ = made()
    assert net.spec.shapes == {"data": (2, 3, 4, 5), "label": (2,)}


def test_arrays_are_used_live_and_untransformed():
    net, layer = made("scale: 0.5")
    data, labels = arrays(2)
    layer.reset(data, labels)
    data[0] = 7
    assert (net({})["data"][0] == 7).all()


def test_what_is_given_to_the_net_needs_no_arrays():
    data, _ = arrays(2)
    assert net_blobs(data)["data"].shape == (2, 3, 4, 5)


def net_blobs(data):
    return made()[0]({"data": data, "label": np.zeros(2, np.float32)}, keep=["data"])


def test_added_images_are_transformed_with_caffes_draws():
    with seeded(CaffeRandom(3)):
        net, layer = made("crop_size: 4 mean_value: 2 mirror: true", "TRAIN", OPTIONS[:-1] + "4")
    thread = CaffeRandom(3)
    random = CaffeRandom(thread.draw())
    images = np.random.default_rng(2).integers(0, 255, (2, 3, 6, 7), np.uint8)
    layer.add(list(images), [4, 9])
    blobs = net({})
    for image, top in zip(images, blobs["data"].numpy(), strict=True):
        flip, y, x = random.draw() % 2, random.draw() % 3, random.draw() % 4
        want = image[:, y : y + 4, x : x + 4].astype(np.float32) - 2
        np.testing.assert_array_equal(top, want[:, :, ::-1] if flip else want)
    assert blobs["label"].ravel().tolist() == [4, 9]


def test_added_images_are_used_before_others_are_added():
    net, layer = made()
    data, labels = arrays(4)
    layer.add(list(data), labels)
    net({})
    with pytest.raises(LayerError, match="the images added before must be used first"):
        layer.add(list(data), labels)
    with pytest.raises(
        LayerError, match="the images added before must be used before the batch size changes"
    ):
        layer.set_batch_size(4)
    net({})
    layer.add(list(data[:2]), labels[:2])


def test_the_batch_size_can_change():
    net, layer = made()
    data, labels = arrays()
    layer.reset(data, labels)
    layer.set_batch_size(3)
    assert net({})["data"].shape == (3, 3, 4, 5)
    for size in (0, 4):
        with pytest.raises(LayerError, match=f"batch size {size} for 6 items"):
            layer.set_batch_size(size)


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (np.zeros((2, 3, 4, 5)), np.zeros(2), "arrays of float64 and float64; expected float32"),
        (np.zeros((2, 3, 4, 4), "f4"), np.zeros(2, "f4"), r"expected \(n, 3, 4, 5\)"),
        (np.zeros((2, 3, 4, 5), "f4"), np.zeros(3, "f4"), "3 labels for 2 items"),
        (np.zeros((3, 3, 4, 5), "f4"), np.zeros(3, "f4"), "3 items; expected a multiple of .* 2"),
        (np.zeros((0, 3, 4, 5), "f4"), np.zeros(0, "f4"), "0 items; expected a multiple"),
    ],
)
def test_arrays_that_do_not_fit(data, labels, message):
    with pytest.raises(LayerError, match=message):
        made()[1].reset(data, labels)


def test_no_data_given():
    net, layer = made()
    with pytest.raises(LayerError, match="give it with set_input_arrays"):
        net({})
    with pytest.raises(LayerError, match="there is no image to add"):
        layer.add([], [])
    with pytest.raises(LayerError, match=r"image 1 becomes \(3, 4, 4\); expected \(3, 4, 5\)"):
        layer.add([np.zeros((3, 4, 5), "u1"), np.zeros((3, 4, 4), "u1")], [0, 1])


def test_options_without_a_size():
    with pytest.raises(LayerError, match=r"batch_size 2 of items of \(3, 4, 0\)"):
        made(options=OPTIONS[:-8])
