"""WindowData as a layer; windows and crops: tests/data/test_window.py."""

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.rng import CaffeRandom, seeded
from caffe_port.data.window_file import WindowReader
from caffe_port.errors import LayerError
from tests.layers.helpers import net_of


@pytest.fixture
def folder(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (9, 9, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "w.txt").write_text("# 0 /a.png 3 9 9 3\n4 1 0 0 4 4\n5 1 2 2 8 8\n4 0 3 3 5 8\n")
    return tmp_path


def text(folder, options="batch_size: 4", transform="crop_size: 6 mirror: true"):
    return (
        'layer { name: "w" type: "WindowData" top: "data" top: "label" '
        f"transform_param {{ {transform} }} window_data_param {{ {options} "
        f'source: "{folder}/w.txt" root_folder: "{folder}" }} }}'
    )


def test_windows_are_drawn_from_the_second_draw_of_four(folder):
    with seeded(CaffeRandom(6)) as thread:
        net = net_of(text(folder), phase="TRAIN")
    draws = CaffeRandom(6)
    seeds = [draws.draw() for _ in range(5)]
    assert thread.draw() == seeds[4]  # transformer, windows, transformer, thread
    reader = WindowReader(net.spec.layers[0].op, None, CaffeRandom(seeds[1]))
    for _ in range(3):
        blobs, (data, label) = net({}), reader.next_batch()
        np.testing.assert_array_equal(blobs["data"].numpy(), data)
        assert blobs["label"].tolist() == label.tolist()
        assert label.tolist()[:3] == [0, 0, 0]
        assert label[3] in (4, 5)


@pytest.mark.parametrize(
    ("options", "transform", "message"),
    [
        ("", "crop_size: 6", "batch_size is 0"),
        ("batch_size: 1", "", "crop_size is 0; it is the size windows are warped to"),
        ("batch_size: 1 context_pad: 3", "crop_size: 6", "context_pad 3 leaves no pixel of crop 6"),
        ("batch_size: 1 fg_fraction: 2", "crop_size: 6", "fg_fraction is 2"),
        ("batch_size: 1 crop_mode: 'round'", "crop_size: 6", "expected warp or square"),
    ],
)
def test_what_it_refuses(folder, options, transform, message):
    with pytest.raises(LayerError, match=message):
        net_of(text(folder, options, transform))
