"""ROIPooling and Proposal against recordings; PSROIPooling against plain loops."""

import math

import numpy as np
import pytest
import torch

from caffe_port.errors import LayerError
from caffe_port.layers.regions import _quick_sorted
from caffe_port.net import Net
from caffe_port.parity import read_recording
from caffe_port.spec import NetSpec
from tests.goldens_dir import GOLDENS
from tests.layers.helpers import check_gradients, layer

RECORDED = {
    "rcnn_roi_pooling": ["p0", "p1", "p2"],
    "rcnn_proposal": ["r0", "c0", "r1", "c1", "r2", "c2"],
    "rcnn_proposal_ties": ["r0", "c0", "r1", "c1", "r2", "c2"],
}


@pytest.mark.parametrize("name", RECORDED)
def test_every_number_is_caffes(name):
    folder = GOLDENS / "layers" / name
    recording = read_recording(folder)
    net = Net(NetSpec.read(folder / "net.prototxt"))
    inputs = {name: torch.from_numpy(x) for name, x in recording.inputs.items()}
    for top, blob in net(inputs, keep=RECORDED[name]).items():
        np.testing.assert_array_equal(blob.numpy(), recording.data[top])


def pooled(type, options, features, regions):
    text = f'type: "{type}" bottom: "b0" bottom: "b1" top: "y" {options}'
    return layer(text, tuple(features.shape), tuple(regions.shape))


MAX = "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.5 }"
MEAN = "psroi_pooling_param { output_dim: 2 group_size: 3 spatial_scale: 0.25 }"


def test_the_diff_goes_to_the_first_maximum():
    features = torch.ones(1, 1, 4, 4, requires_grad=True)
    regions = torch.tensor([[0.0, 0, 0, 6, 6]])
    pooled("ROIPooling", MAX, features, regions)(features, regions)[0].sum().backward()
    wanted = torch.zeros(4, 4)
    wanted[::2, ::2] = 1
    torch.testing.assert_close(features.grad[0, 0], wanted)


def mean_by_loops(features, regions, group, scale):
    outputs = features.shape[1] // group**2
    top = torch.zeros(len(regions), outputs, group, group)
    for n, (image, *corners) in enumerate(regions.tolist()):
        x1, y1, x2, y2 = (math.floor(abs(v) + 0.5) * (1 if v > 0 else -1) for v in corners)
        x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
        tall, wide = max(y2 - y1, 0.1) / group, max(x2 - x1, 0.1) / group
        for c in range(outputs):
            for i in range(group):
                for j in range(group):
                    rows = range(
                        max(math.floor(i * tall + y1), 0),
                        min(math.ceil((i + 1) * tall + y1), features.shape[2]),
                    )
                    columns = range(
                        max(math.floor(j * wide + x1), 0),
                        min(math.ceil((j + 1) * wide + x1), features.shape[3]),
                    )
                    own = features[int(image), (c * group + i) * group + j]
                    cell = [own[y, x] for y in rows for x in columns]
                    top[n, c, i, j] = sum(cell) / len(cell) if cell else 0
    return top  # fmt: skip


def test_a_cell_has_the_mean_of_its_own_channels():
    features = torch.randn(2, 18, 7, 9, generator=torch.Generator().manual_seed(1))
    regions = torch.tensor(
        [[0.0, 0, 0, 35, 27], [1, 3.5, 2.5, 19.4, 20.6], [1, -9, -9, -5, -5], [0, 8, 8, 8, 8]]
    )
    (y,) = pooled("PSROIPooling", MEAN, features, regions)(features, regions)
    torch.testing.assert_close(y, mean_by_loops(features, regions, 3, 0.25))
    assert y[2].abs().max() == 0
    # each of its numbers takes two passes
    small = features[:, :, :6, :7].contiguous()
    check_gradients(pooled("PSROIPooling", MEAN, small, regions), small, regions)


def test_no_region_gives_an_empty_top():
    features, regions = torch.zeros(1, 1, 4, 4), torch.zeros(0, 5)
    assert pooled("ROIPooling", MAX, features, regions)(features, regions)[0].shape == (0, 1, 2, 2)


def test_a_region_of_no_image_is_refused():
    features, regions = torch.zeros(1, 1, 4, 4), torch.tensor([[1.0, 0, 0, 1, 1]])
    with pytest.raises(LayerError, match="a region of image 1 of 1"):
        pooled("ROIPooling", MAX, features, regions)(features, regions)


PROPOSAL = (
    'type: "Proposal" bottom: "b0" bottom: "b1" bottom: "b2" top: "y" proposal_param {{ {} }}'
)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (PROPOSAL.format("scale: 1"), [(1, 2, 3, 3), (1, 4, 3, 3), (1, 3)], "no ratio"),
        (PROPOSAL.format("ratio: 0 scale: 1"), [(1, 2, 3, 3), (1, 4, 3, 3), (1, 3)], "ratio is 0"),
        (PROPOSAL.format("ratio: 1 scale: 1"), [(1, 4, 3, 3), (1, 4, 3, 3), (1, 3)],
         r"scores of shape \(1, 4, 3, 3\); expected \(N, 2, H, W\)"),
        (PROPOSAL.format("ratio: 1 scale: 1"), [(1, 2, 3, 3), (1, 4, 3, 3), (1, 2)], "sizes of"),
        ('type: "ROIPooling" bottom: "b0" bottom: "b1" top: "y"', [(1, 1, 4, 4), (1, 5)],
         "pooled_h is 0"),
        (f'type: "PSROIPooling" bottom: "b0" bottom: "b1" top: "y" {MEAN}',
         [(1, 17, 4, 4), (1, 5)], "17 channels; expected 18"),
        (f'type: "ROIPooling" bottom: "b0" bottom: "b1" top: "y" {MAX}', [(1, 1, 4, 4), (1, 4)],
         r"regions of shape \(1, 4\); expected \(R, 5\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text, *shapes)


def swapped_one_by_one(scores: list[float], wanted: int) -> list[int]:
    """The order of upstream's sort_box, a pair at a time."""
    order, ranges = list(range(len(scores))), [(0, len(scores) - 1)]
    while ranges:
        start, end = ranges.pop()
        pivot, left, right = scores[order[start]], start + 1, end
        while left <= right:
            while left <= end and scores[order[left]] >= pivot:
                left += 1
            while right > start and scores[order[right]] <= pivot:
                right -= 1
            if left <= right:
                order[left], order[right] = order[right], order[left]
                left, right = left + 1, right - 1
        order[start], order[right] = order[right], order[start]
        ranges += [(start, right - 1)] if start < right - 1 else []
        ranges += [(right + 1, end)] if right + 1 < min(wanted, end) else []
    return order


@pytest.mark.parametrize("seed", range(40))
def test_equal_scores_are_in_the_order_of_upstreams_sort(seed):
    random = np.random.RandomState(seed)
    scores = random.randint(0, random.randint(2, 30), random.randint(40, 80)).astype(np.float32)
    wanted = int(random.randint(1, 90))
    assert _quick_sorted(scores, wanted).tolist() == swapped_one_by_one(scores.tolist(), wanted)


def test_a_set_of_many_equal_scores_is_sorted_at_once():
    assert _quick_sorted(np.zeros(300_000, np.float32), 6000).tolist() == list(range(300_000))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2.0**24])
@pytest.mark.parametrize("place", range(5))
def test_a_region_of_numbers_that_are_no_places(value, place):
    region = torch.ones(1, 5)
    region[0, place] = value
    with pytest.raises(LayerError, match="expected numbers below 2"):
        pooled("ROIPooling", MAX, torch.zeros(2, 1, 4, 4), region)(torch.zeros(2, 1, 4, 4), region)


def test_no_items_have_no_proposals():
    shapes = [(0, 2, 4, 4), (0, 4, 4, 4), (1, 4)]
    module = layer(PROPOSAL.format("ratio: 1 scale: 1"), *shapes)
    assert module(*map(torch.zeros, shapes))[0].shape == (0, 5)


OHEM = (
    'type: "SmoothL1LossOHEM" bottom: "b0" bottom: "b1" bottom: "b2" top: "l" top: "each" '
    "loss_weight: 1 loss_weight: 0 loss_param { %s }"
)


@pytest.mark.parametrize(
    ("options", "divisor"),
    [("", 3), ("normalization: BATCH_SIZE", 3), ("normalization: NONE", 1),
     ("normalization: PRE_FIXED pre_fixed_normalizer: 128", 128)],
)  # fmt: skip
def test_the_loss_of_each_region(options, divisor):
    """Hand calculation after intel/caffe smooth_L1_loss_ohem_layer.cpp."""
    x = torch.tensor([[0.5, 3.0], [-2.0, 0.0], [9.0, 9.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 1], [1, 1], [0, 0]])
    made = layer(OHEM % options, x.shape, x.shape, weights.shape)
    loss, each = made(x, torch.zeros(3, 2), weights)
    same = layer(OHEM % options, x.shape, (3, 2, 1, 1), weights.shape)  # as Caffe's old four axes
    assert torch.equal(same(x, torch.zeros(3, 2, 1, 1), weights)[0], loss)
    assert each.flatten().tolist() == [0.125 + 2.5, 1.5, 0]
    assert each.shape == (3, 1, 1, 1)
    assert loss.item() == pytest.approx((2.625 + 1.5) / divisor)
    loss.backward()
    wanted = torch.tensor([[0.5, 1], [-1, 0], [0, 0]]) / divisor
    torch.testing.assert_close(x.grad, wanted)


def test_a_loss_weight_has_no_default():
    text = OHEM.replace("loss_weight: 1 loss_weight: 0", "") % ""
    with pytest.raises(LayerError, match="no loss_weight for each top"):
        layer(text, (3, 2), (3, 2), (3, 2))


def test_hard_examples_keep_their_labels():
    text = (
        'type: "BoxAnnotatorOHEM" bottom: "b0" bottom: "b1" bottom: "b2" bottom: "b3" top: "y" '
        'top: "w" box_annotator_ohem_param { roi_per_img: 2 ignore_label: -1 }'
    )
    images = torch.tensor([0.0, 0, 0, 1, 1])
    regions = torch.cat([images[:, None], torch.zeros(5, 4)], 1)
    losses = torch.tensor([[1.0], [3], [2], [0.5], [0.1]])
    labels = torch.tensor([[4.0], [5], [6], [7], [8]])
    made = layer(text, (5, 5), (5, 1), (5, 1), (5, 8))
    y, w = made(regions, losses, labels, torch.ones(5, 8))
    assert y.flatten().tolist() == [-1, 5, 6, 7, 8]
    assert y.shape == (5, 1, 1, 1)
    assert w[:, :, 0, 0].sum(1).tolist() == [0, 8, 8, 8, 8]
    with pytest.raises(LayerError, match="roi_per_img is 0"):
        layer(text.replace("roi_per_img: 2", ""), (5, 5), (5, 1), (5, 1), (5, 8))
