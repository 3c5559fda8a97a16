from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.layers.boxes import SMALL_RANGE, decode, descending, overlaps
from caffe_port.net import Net
from caffe_port.parity import read_recording
from caffe_port.spec import NetSpec
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import layer

TEXT = (
    'type: "DetectionOutput" bottom: "b0" bottom: "b1" bottom: "b2" top: "y" '
    "detection_output_param {{ {} }}"
)
CASES = sorted((GOLDENS / "layers").glob("ssd_detection_output_*"))


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_the_same_rows_as_caffe(folder: Path):
    recording = read_recording(folder)
    net = Net(NetSpec.read(folder / "net.prototxt"))
    inputs = {name: torch.from_numpy(x) for name, x in recording.inputs.items()}
    tops = [name for name in recording.data if name.startswith("det")]
    found = net(inputs, keep=tops)
    assert tops
    for name in tops:
        wanted = recording.data[name]
        assert found[name].shape == wanted.shape
        np.testing.assert_array_equal(found[name][..., :3].numpy(), wanted[..., :3])
        np.testing.assert_allclose(found[name][..., 3:].numpy(), wanted[..., 3:], 1e-6, 2e-7)


def test_the_recordings_suppress_and_tie():
    rows = [read_recording(folder).data for folder in CASES]
    counts = [data[name].shape[2] for data in rows for name in data if name.startswith("det")]
    assert len(counts) >= 50
    assert len(set(counts)) > 20
    ties = read_recording(GOLDENS / "layers" / "ssd_detection_output_ties").data["conf"]
    assert len(np.unique(ties)) < 25


PRIORS = torch.tensor([[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.32, 0.3], [0.6, 0.6, 0.9, 0.8]])


def detect(options, scores, items=1):
    module = layer(TEXT.format(options), (items, 12), (items, 6), (1, 2, 12))
    priors = torch.stack([PRIORS.reshape(-1), torch.full((12,), 0.1)])[None]
    conf = torch.tensor(scores).reshape(items, 6)
    return module(torch.zeros(items, 12), conf, priors)[0][0, 0]


def test_overlapping_boxes_of_a_class_are_dropped():
    scores = [0.2, 0.8, 0.1, 0.9, 0.4, 0.6]
    rows = detect("num_classes: 2 nms_param { nms_threshold: 0.5 }", scores)
    torch.testing.assert_close(rows[:, :3], torch.tensor([[0, 1, 0.9], [0, 1, 0.6]]))
    torch.testing.assert_close(rows[:, 3:], PRIORS[[1, 2]])
    rows = detect("num_classes: 2 nms_param { nms_threshold: 0.95 }", scores)
    torch.testing.assert_close(rows[:, 2], torch.tensor([0.9, 0.8, 0.6]))


def test_the_best_of_an_image_are_kept():
    options = "num_classes: 2 background_label_id: -1 keep_top_k: 2 nms_param { nms_threshold: 1 }"
    rows = detect(options, [0.2, 0.8, 0.1, 0.9, 0.85, 0.6])
    torch.testing.assert_close(rows[:, 1:3], torch.tensor([[0, 0.85], [1, 0.9]]))


def test_no_detection_gives_a_row_of_minus_1_per_image():
    rows = detect("num_classes: 2 confidence_threshold: 0.95", [0.5] * 12, items=2)
    assert rows.tolist() == [[0] + [-1] * 6, [1] + [-1] * 6]


def test_one_item_without_detections_has_no_row():
    rows = detect("num_classes: 2 confidence_threshold: 0.6", [0.5] * 6 + [0.1, 0.9] * 3, items=2)
    assert set(rows[:, 0].tolist()) == {1}


def test_double_precision_keeps_the_same_boxes():
    module = layer(TEXT.format("num_classes: 3 keep_top_k: 9"), (2, 120), (2, 90), (1, 2, 120))
    generator = torch.Generator().manual_seed(3)
    priors = torch.rand(30, 2, generator=generator)
    priors = torch.cat([priors * 0.5, priors * 0.5 + 0.4], 1).reshape(-1)
    bottoms = [
        torch.randn(2, 120, generator=generator),
        torch.rand(2, 90, generator=generator),
        torch.stack([priors, torch.full_like(priors, 0.1)])[None],
    ]
    (single,), (double,) = module(*bottoms), module(*(x.double() for x in bottoms))
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(double.float(), single)


def test_decoding_by_hand():
    prior, variance = torch.tensor([0.2, 0.2, 0.6, 0.4]), torch.tensor([0.1, 0.1, 0.2, 0.2])
    loc = torch.tensor([1.0, -2.0, 0.5, 3.0])
    corner = torch.tensor([0.3, 0.0, 0.7, 1.0])
    torch.testing.assert_close(decode(loc, prior, variance, "CORNER"), corner)
    sized = torch.tensor([0.24, 0.16, 0.64, 0.52])
    torch.testing.assert_close(decode(loc, prior, variance, "CORNER_SIZE"), sized)
    width, height = 0.4 * np.exp(0.1), 0.2 * np.exp(0.6)
    centred = torch.tensor(
        [0.44 - width / 2, 0.26 - height / 2, 0.44 + width / 2, 0.26 + height / 2]
    ).float()
    torch.testing.assert_close(decode(loc, prior, variance, "CENTER_SIZE"), centred)


def test_a_prior_without_area_is_refused_by_name():
    module = layer(TEXT.format("num_classes: 2 code_type: CENTER_SIZE"), (1, 4), (1, 2), (1, 2, 4))
    with pytest.raises(LayerError, match="a prior box has no area"):
        module(torch.zeros(1, 4), torch.zeros(1, 2), torch.zeros(1, 2, 4))


def test_overlap_by_hand():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [2, 2, 1, 1]], np.float32)
    np.testing.assert_allclose(overlaps(boxes[0], boxes), [1, 1 / 7, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(overlaps(boxes[0], boxes[:3], True), [1, 4 / 14, 0], rtol=1e-6)


@pytest.mark.parametrize("size", [1, SMALL_RANGE, 17, 40, 500])
def test_equal_scores_are_ordered_but_not_stably(size):
    scores = np.random.default_rng(size).integers(0, 4, size).astype(np.float32)
    order = descending(scores)
    assert sorted(order) == list(range(size))
    assert (np.diff(scores[order]) <= 0).all()
    stable = np.argsort(-scores, kind="stable")
    assert np.array_equal(order, stable) == (size <= SMALL_RANGE)


@pytest.mark.parametrize(
    ("options", "shapes", "message"),
    [
        ("", [(1, 12), (1, 6), (1, 2, 12)], "num_classes is missing"),
        ("num_classes: 2 nms_param { eta: 0 }", [(1, 12), (1, 6), (1, 2, 12)], "eta is 0"),
        ("num_classes: 2 nms_param { nms_threshold: -1 }", [(1, 12), (1, 6), (1, 2, 12)],
         "nms_threshold is -1"),
        ("num_classes: 2", [(1, 12), (1, 6), (1, 1, 12)], "expected .1, 2, 4 K."),
        ("num_classes: 2", [(1, 8), (1, 6), (1, 2, 12)], "expected .N, 12., 4 per prior"),
        ("num_classes: 2", [(1, 12), (1, 9), (1, 2, 12)], "expected .N, 6., 2 per prior"),
        ("num_classes: 2", [(1, 12), (2, 6), (1, 2, 12)], "1 items of locations, 2 of scores"),
        ("num_classes: 2 share_location: false", [(1, 12), (1, 6), (1, 2, 12)],
         "expected .N, 24., 8 per prior"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(options, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(TEXT.format(options), *shapes)
