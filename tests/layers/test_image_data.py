"""ImageData as a layer: shapes and options. Recorded values: tests/data/test_recorded.py."""

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.rng import CaffeRandom, seeded
from caffe_port.errors import LayerError
from tests.layers.helpers import net_of


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((4, 6, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"/{i}.png {i}\n" for i in range(3)))
    return tmp_path


def text(folder, options="", transform=""):
    return (
        f'layer {{ name: "d" type: "ImageData" top: "data" top: "label" '
        f"transform_param {{ {transform} }} image_data_param {{ {options} "
        f'source: "{folder}/list.txt" root_folder: "{folder}" }} }}'
    )


@pytest.mark.parametrize(
    ("options", "transform", "shape"),
    [
        ("", "", (1, 3, 4, 6)),
        ("batch_size: 2 is_color: false", "", (2, 1, 4, 6)),
        ("new_height: 5 new_width: 7", "", (1, 3, 5, 7)),
        ("new_height: 5 new_width: 7", "crop_size: 3", (1, 3, 3, 3)),
    ],
)
def test_shapes(folder, options, transform, shape):
    net = net_of(text(folder, options, transform))
    assert net.spec.shapes == {"data": shape, "label": shape[:1]}
    blobs = net({})
    assert tuple(blobs["data"].shape) == shape
    assert blobs["label"].tolist() == list(range(shape[0]))


def test_skipping_takes_a_draw_after_the_shuffle(folder):
    with seeded(CaffeRandom(2)):
        net = net_of(text(folder, "shuffle: true rand_skip: 2"), phase="TRAIN")
    shuffling, skipping = CaffeRandom(2).draws(2).tolist()
    order = [0, 1, 2]
    random = CaffeRandom(shuffling)
    random.shuffle(order)
    want = order[skipping % 2 :]
    random.shuffle(order)
    want += order
    assert [int(net({})["label"][0]) for _ in want] == want


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("batch_size: 0", "batch_size is 0"),
        ("new_height: 4", "new_height and new_width go together"),
        ("max_labels: 2", "max_labels is 2; one label per image"),
    ],
)
def test_what_it_refuses(folder, options, message):
    with pytest.raises(LayerError, match=message):
        net_of(text(folder, options))


def test_a_missing_list(folder):
    (folder / "list.txt").unlink()
    with pytest.raises(LayerError, match=r"shape follows from the first image: .*list\.txt: the"):
        net_of(text(folder))
    assert net_of(text(folder, transform="crop_size: 3")).spec.shapes["data"] == (1, 3, 3, 3)
