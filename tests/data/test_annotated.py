"""AnnotatedData: databases of images with boxes as SSD's Caffe read them, and errors."""

from __future__ import annotations

import io

import lmdb
import numpy as np
import pytest
import torch
from PIL import Image

from caffe_port import NetSpec
from caffe_port.errors import DataError, LayerError
from caffe_port.net import Net
from caffe_port.proto import caffe_pb2, parse_net
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import net_of

CASES = sorted((GOLDENS / "annotated").iterdir())
BOX = (0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_ssds_caffe_read(case):
    spec = NetSpec.read(case / "net.prototxt", phase="TEST", variables={"ROOT": str(case)})
    net = Net(spec)
    with np.load(case / "case.npz") as recorded:
        assert spec.shapes["data"] == recorded["0/data"].shape
        for batch in range(3):
            blobs = net({})
            for name in ("data", "label"):
                np.testing.assert_array_equal(blobs[name].numpy(), recorded[f"{batch}/{name}"])


def record(box=BOX, typed=True, pixels=(2, 3, 3), encoded=False, label=None):
    message = caffe_pb2.AnnotatedDatum()
    image = np.arange(np.prod(pixels), dtype=np.uint8).reshape(pixels)
    datum = message.datum
    datum.height, datum.width, datum.channels = pixels
    datum.data = np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()
    if encoded:
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        datum.encoded, datum.data = True, stream.getvalue()
    if typed:
        message.type = caffe_pb2.AnnotatedDatum.BBOX
    if label is not None:
        datum.label = label
    if box is not None:
        bbox = message.annotation_group.add(group_label=7).annotation.add(instance_id=2).bbox
        bbox.xmin, bbox.ymin, bbox.xmax, bbox.ymax = box
        bbox.difficult = True
    return message


def text(tmp_path, records, options="", batch=1):
    with lmdb.open(str(tmp_path / "db")) as database, database.begin(write=True) as writing:
        for i, message in enumerate(records):
            content = message if isinstance(message, bytes) else message.SerializeToString()
            writing.put(f"{i:08}".encode(), content)
    return (
        'layer { name: "d" type: "AnnotatedData" top: "data" top: "label" data_param { '
        f'source: "{tmp_path / "db"}" batch_size: {batch} backend: LMDB }} {options} }}'
    )


def test_a_row_per_box(tmp_path):
    net = net_of(text(tmp_path, [record(), record(None), record((0, 0, 0.5, 2))], batch=3))
    assert net.spec.shapes == {"data": (3, 3, 2, 3), "label": (1, 1, 1, 8)}
    label = net({})["label"]
    assert label.tolist() == [[[[0, 7, 2, 0.25, 0.5, 0.75, 1, 1], [2, 7, 2, 0, 0, 0.5, 1, 1]]]]


def test_no_box_is_a_row_of_minus_one(tmp_path):
    assert net_of(text(tmp_path, [record(None)]))({})["label"].tolist() == [[[[-1] * 8]]]


def test_anno_type_counts_for_records_without_a_type(tmp_path):
    options = "annotated_data_param { anno_type: BBOX }"
    net = net_of(text(tmp_path, [record(typed=False)], options))
    assert net({})["label"].shape == (1, 1, 1, 8)


@pytest.mark.parametrize(
    "options",
    [
        "transform_param { mirror: true }",
        "transform_param { crop_size: 2 }",
        "transform_param { crop_h: 2 crop_w: 2 }",
        "transform_param { noise_param { decolorize: true } }",
        "transform_param { distort_param { brightness_prob: 0.5 } }",
        "transform_param { expand_param { max_expand_ratio: 4 } }",
        "transform_param { emit_constraint { emit_type: CENTER } }",
        "transform_param { resize_param { height: 4 } }",
        "transform_param { resize_param { height: 4 width: 4 prob: 0.5 } }",
        "transform_param { resize_param { height: 4 width: 4 resize_mode: FIT_SMALL_SIZE } }",
        "transform_param { resize_param { height: 4 width: 4 interp_mode: AREA } }",
        "transform_param { resize_param { height: 4 width: 4 interp_mode: LINEAR "
        "interp_mode: NEAREST } }",
        "annotated_data_param { batch_sampler { sampler { min_scale: 0.3 } } }",
        "annotated_data_param { batch_sampler { sampler { max_aspect_ratio: 2 } } }",
        "annotated_data_param { batch_sampler { sample_constraint { min_jaccard_overlap: 0.1 } } }",
    ],
)
def test_random_changes_are_refused_but_data_can_be_given(tmp_path, options):
    name = options.split("{")[1].split()[0].rstrip(":")
    layer = text(tmp_path, [record(encoded=True)], options)
    for phase in ("TEST", "TRAIN"):
        with pytest.raises(LayerError, match=rf"\(AnnotatedData\): {name}.*give the net its data"):
            net_of(layer, phase=phase)
    shapes = {"data": (1, 3, 4, 4), "label": (1, 1, 1, 8)}
    net = Net(NetSpec.build(parse_net(layer).message, phase="TRAIN", input_shapes=shapes))
    given = {blob: np.ones(shape, np.float32) for blob, shape in shapes.items()}
    assert torch.equal(net(given, keep="all")["data"], torch.ones(1, 3, 4, 4))
    with pytest.raises(LayerError, match=name):
        net({})


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([b"\xff\xff"], "", "not an AnnotatedDatum"),
        ([b""], "", "without an image"),
        ([record(), record(typed=False)], "", "no type, which the first record has"),
        ([record(typed=False, label=1), record(typed=False)], "", "neither boxes nor a label"),
        ([record(), record(pixels=(4, 4, 3))], "", "the first one of its batch"),
        (
            [record()],
            "transform_param { resize_param { height: 4 width: 4 } }",
            "resizes encoded images only",
        ),
        (
            [record(pixels=(2, 3, 4), encoded=True)],
            "annotated_data_param { batch_sampler { } }",
            "4 channels, which JPEG cannot hold",
        ),
    ],
)
def test_damaged_records(tmp_path, records, options, message):
    with pytest.raises((DataError, LayerError), match=message):
        net_of(text(tmp_path, records, options, batch=len(records)))({})


def test_boxes_of_a_resized_image_need_its_size(tmp_path):
    message = record(encoded=True)
    message.datum.ClearField("width")
    options = "transform_param { resize_param { height: 4 width: 4 } }"
    with pytest.raises(DataError, match="no height and width"):
        net_of(text(tmp_path, [message], options))({})
