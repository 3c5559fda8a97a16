"""ImageSegReader against what DeepLab's Caffe recorded, number for number."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from caffe_port.data.image_seg import ImageSegReader, Transform
from caffe_port.data.rng import CaffeRandom
from caffe_port.data.transformer import RandomStreams
from caffe_port.errors import DataError, UsageError
from caffe_port.proto import read_net
from tests.goldens_dir import SHAPES, VOC_SAMPLE, cases

TOPS = ("data", "label", "data_dim")


def imageseg(kind):
    return [case for case in cases(kind) if case.name.startswith("deeplab_imageseg")]


def reader_of(case, root, meta):
    layer = read_net(case / "net.prototxt", variables={"ROOT": str(root)}).layer[0]
    options, data = layer.transform_param, layer.image_data_param
    transform = Transform(
        tuple(options.mean_value),
        options.scale,
        options.crop_size,
        options.crop_height,
        options.crop_width,
        options.mirror,
        tuple(options.scale_factors),
    )
    rng = shuffle_rng = None
    if meta["seed"] is not None:
        transforms = options.mirror or (meta["phase"] == "TRAIN" and transform.crop is not None)
        streams = RandomStreams(
            CaffeRandom(meta["seed"]), "deeplab2", transforms=transforms, orders=data.shuffle
        )
        rng, shuffle_rng = streams.transformer, streams.order
    return ImageSegReader(
        data.source,
        data.root_folder,
        batch_size=data.batch_size,
        label_type=data.LabelType.Name(data.label_type),
        ignore_label=data.ignore_label,
        transform=transform,
        phase=meta["phase"],
        shuffle=data.shuffle,
        rng=rng,
        shuffle_rng=shuffle_rng,
    )


def assert_equal_to_caffe(case, root):
    meta = json.loads((case / "case.json").read_text())
    reader = reader_of(case, root, meta)
    with np.load(case / "case.npz") as recorded:
        for batch in range(meta["batches"]):
            arrays = reader.next_batch()
            assert tuple(array.shape for array in arrays) == reader.shapes()
            for name, array in zip(TOPS, arrays, strict=True):
                assert array.dtype == np.float32
                np.testing.assert_array_equal(array, recorded[f"{batch}/{name}"])


@pytest.mark.parametrize("case", imageseg("data_shapes"), ids=lambda case: case.name)
def test_batches_on_shapes_equal_caffes(case):
    assert_equal_to_caffe(case, SHAPES)


if VOC_SAMPLE is not None:

    @pytest.mark.parametrize("case", imageseg("data"), ids=lambda case: case.name)
    def test_batches_on_photographs_equal_caffes(case):
        assert_equal_to_caffe(case, VOC_SAMPLE)


@pytest.fixture
def folder(tmp_path):
    """Two images of two sizes with labels, and a list of them."""
    for name, (height, width) in {"a": (4, 6), "b": (5, 3)}.items():
        colours = np.zeros((height, width, 3), np.uint8)
        colours[..., 0] = np.arange(height * width).reshape(height, width)
        Image.fromarray(colours).save(tmp_path / f"{name}.png")
        labels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
        Image.fromarray(labels).save(tmp_path / f"{name}_label.png")
    (tmp_path / "list.txt").write_text("/a.png /a_label.png\n/b.png /b_label.png\n")
    return tmp_path


def read(folder, **options):
    options = {"label_type": "PIXEL", **options}
    return ImageSegReader(folder / "list.txt", str(folder), **options)


def test_padding_is_right_and_below_and_the_list_wraps(folder):
    transform = Transform((10.0, 20.0, 30.0), 0.5, crop_size=8)
    data, label, dim = read(folder, batch_size=3, transform=transform).next_batch()
    assert dim.reshape(3, 2).tolist() == [[4, 6], [5, 3], [4, 6]]
    assert (label[0, 0, 4:] == 255).all()
    assert (label[0, 0, :, 6:] == 255).all()
    assert (data[0, :, 4:] == 0).all()
    assert data[0, 2, 0, 5] == (5 - 30) * 0.5  # red is last
    assert data[0, 0, 0, 0] == (0 - 10) * 0.5
    np.testing.assert_array_equal(data[0], data[2])


def test_without_a_crop_the_first_image_sets_the_size(folder):
    reader = read(folder)
    assert reader.shapes() == ((1, 3, 4, 6), (1, 1, 4, 6), (1, 1, 1, 2))
    reader.next_batch()
    with pytest.raises(DataError, match=r"list\.txt: line 2: image /b\.png is 3x5"):
        reader.next_batch()


def test_the_test_crop_is_the_middle_rounded_down(folder):
    label = read(folder, transform=Transform(crop_height=1, crop_width=3)).next_batch()[1]
    assert label.ravel().tolist() == [7, 8, 9]  # row 1 of 4, columns 1 to 3 of 6


def test_the_order_is_redrawn_at_every_end_of_the_list(folder):
    (folder / "list.txt").write_text("".join(f"/a.png {i}\n" for i in range(4)))
    reader = read(folder, label_type="IMAGE", shuffle=True, shuffle_rng=CaffeRandom(6))
    order, random, expected = list(range(4)), CaffeRandom(6), []
    for _ in range(3):
        random.shuffle(order)
        expected += order
    assert [int(reader.next_batch()[1][0, 0, 0, 0]) for _ in expected] == expected
    assert expected[:4] != expected[4:8]


def test_one_mean_serves_all_channels_and_grey_has_one(folder):
    one = read(folder, transform=Transform((3.0,), crop_size=4)).next_batch()[0]
    assert one[0, :, 0, 0].tolist() == [-3, -3, -2]  # the centre crop starts at the second pixel
    grey = read(folder, transform=Transform((3.0,), crop_size=8), is_color=False)
    assert grey.next_batch()[0].shape == (1, 1, 8, 8)


def test_image_labels_fill_the_image(folder):
    (folder / "list.txt").write_text("/a.png 7\n")
    label = read(folder, label_type="IMAGE").next_batch()[1]
    assert (label == 7).all()


@pytest.mark.parametrize(
    ("line", "value"),
    [("/a.png", 0), ("/a.png /a_label.png", 0), ("/a.png 7", 7), ("/a.png 9x", 9),
     ("/a.png 300", 255), ("/a.png -3", 0)],
)  # fmt: skip
def test_unread_labels_are_deeplabs(folder, line, value):
    """DeepLab v1 image_seg_data_layer.cpp: atoi of the second word, as the colour of a byte."""
    (folder / "list.txt").write_text(line + "\n")
    data, label, dim = read(folder, label_type="IMAGE", has_label=False).next_batch()
    assert (label == value).all()
    assert data.shape == (1, 3, 4, 6)
    assert dim.ravel().tolist() == [4, 6]


def test_a_list_without_labels_gives_0_with_a_warning(folder):
    (folder / "list.txt").write_text("/a.png 7\n/a.png\n/a.png\n")
    with pytest.warns(UserWarning, match=r"2 of 3 lines have no label \(the first is line 2\)"):
        reader = read(folder, label_type="IMAGE", batch_size=3)
    assert reader.next_batch()[1][:, 0, 0, 0].tolist() == [7, 0, 0]
    assert (read(folder, label_type="NONE").next_batch()[1] == 255).all()


def test_resizing_keeps_labels_whole(folder):
    reader = read(folder, new_height=8, new_width=12)
    data, label, dim = reader.next_batch()
    assert data.shape == (1, 3, 8, 12)
    assert dim.ravel().tolist() == [8, 12]
    assert np.array_equal(label[0, 0, ::2, ::2], np.arange(24).reshape(4, 6))


def test_mirrored_items_are_flipped_with_their_labels(folder):
    (folder / "list.txt").write_text("/a.png /a_label.png\n")
    seen = set()
    reader = read(folder, transform=Transform(mirror=True), rng=CaffeRandom(1))
    for _ in range(16):
        data, label, _ = reader.next_batch()
        np.testing.assert_array_equal(data[0, 2], label[0, 0])  # red holds the label's number
        seen.add(bool(label[0, 0, 0, 0]))
    assert seen == {True, False}


def test_training_crops_stay_inside(folder):
    transform = Transform((9.0, 9.0, 9.0), crop_height=3, crop_width=2)
    reader = read(folder, transform=transform, phase="TRAIN", rng=CaffeRandom(5), batch_size=20)
    _, label, _ = reader.next_batch()
    assert label.max() < 255
    assert len({patch.tobytes() for patch in label}) > 5


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("/a.png", {}, "line 1: expected 'image label', found '/a.png' alone"),
        ("/a.png /a_label.png", {"label_type": "IMAGE"}, "line 1: label_type IMAGE needs"),
        ("/a.png 300", {"label_type": "IMAGE"}, "needs a label from 0 to 255"),
        (
            "/a.png /b_label.png",
            {},
            "line 1: image /a.png is 6x4 but its label /b_label.png is 3x5",
        ),
        ("/a.png /gone.png", {}, r"line 1: .*gone\.png: cannot be read"),
        ("/gone.png 1", {"label_type": "IMAGE"}, r"line 1: .*gone\.png: cannot be read"),
        ("", {}, "the list is empty"),
    ],
)
def test_bad_lines_are_named(folder, line, options, message):
    (folder / "list.txt").write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read(folder, **options).next_batch()


def test_a_scale_that_leaves_nothing_is_refused(folder):
    transform = Transform(crop_size=4, scale_factors=(0.1,))
    with pytest.raises(DataError, match=r"no pixel left at scale 0\.1"):
        read(folder, transform=transform).next_batch()


@pytest.mark.parametrize(
    "options",
    [
        {"crop_size": 4, "crop_height": 4, "crop_width": 4},
        {"crop_height": 4},
        {"crop_size": -1},
        {"mean_values": (1.0, 2.0)},
        {"scale_factors": (1.0, 0.0)},
    ],
)
def test_transforms_caffe_refuses(options):
    with pytest.raises(UsageError):
        Transform(**options)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"new_height": 4}, {"ignore_label": 256}, {"new_width": -1}]
)
def test_options_caffe_refuses(folder, options):
    with pytest.raises(UsageError):
        read(folder, **options)
