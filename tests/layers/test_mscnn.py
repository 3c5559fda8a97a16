"""The layers of MS-CNN, by loops and by hand after zhaoweicai/mscnn's sources; no recording."""

import math

import pytest
import torch

from caffe_port.data import rng
from caffe_port.errors import LayerError
from tests.layers.helpers import layer

FIELD = "field_h: 16 field_w: 8 downsample_rate: 4"
LOSS = (
    'type: "DetectionLoss" bottom: "b0" bottom: "b1" top: "l" detection_loss_param {{ cls_num: 3 '
)
LOSS += FIELD + " {} }} {}"
NORM = "bbox_reg_param { bbox_mean: 0.1 bbox_mean: 0 bbox_mean: 0.2 bbox_mean: 0 "
NORM += "bbox_std: 0.1 bbox_std: 0.1 bbox_std: 0.2 bbox_std: 0.3 }"


def drawn(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels_of(n, h, w, seed=2):
    """Some cells of objects, with boxes near their middle; overlaps of 0 to 1."""
    draw = torch.Generator().manual_seed(seed)
    found = torch.rand(n, 6, h, w, generator=draw)
    found[:, 0] = (torch.rand(n, h, w, generator=draw) * 5 - 2).floor().clamp(min=0)
    found[:, 1] = 4 * torch.arange(w) + 4 * found[:, 1]
    found[:, 2] = 4 * torch.arange(h)[:, None] + 4 * found[:, 2]
    found[:, 3:5] = found[:, 3:5] * 20
    return found


def box_loss(cell, true, x, y, means, deviations):
    goal = [
        (true[1] - 4 * (x + 0.5)) / 8, (true[2] - 4 * (y + 0.5)) / 16,
        math.log(max(true[3], 2) / 8), math.log(max(true[4], 2) / 16),
    ]  # fmt: skip
    lost = 0.0
    for i in range(4):
        pair = slice(0, 2) if i < 2 else slice(2, 4)
        mean, deviation = sum(means[pair]) / 2, math.sqrt(math.prod(deviations[pair]))
        most = 0.5 if i < 2 else math.log(2)
        value = min(max(cell[i], (-most - mean) / deviation), (most - mean) / deviation)
        d = abs(value - (goal[i] - means[i]) / deviations[i])
        lost += d * d / 2 if d < 1 else d - 0.5
    return lost


def loss_by_loops(head, labels, by_overlap, balanced, norm):
    """sample_mode all, classes 3, lambda 0.5, bg_multiple 3."""
    means, deviations = ((0.1, 0, 0.2, 0), (0.1, 0.1, 0.2, 0.3)) if norm else ((0,) * 4, (1,) * 4)
    rows, of_boxes, boxes = [], 0.0, 0
    for n in range(len(head)):
        for y in range(head.shape[2]):
            for x in range(head.shape[3]):
                cell, true = head[n, :, y, x].tolist(), labels[n, :, y, x].tolist()
                kind = int(true[0])
                if kind == 0 and true[5] >= 0.5:
                    continue
                total = sum(math.exp(v) for v in cell[:3])
                weight = true[5] if by_overlap and kind else 1.0
                rows.append((kind, -math.log(math.exp(cell[kind]) / total), weight))
                if kind:
                    boxes += 1
                    of_boxes += box_loss(cell[3:], true, x, y, means, deviations)
    if balanced:
        objects = sum(w for kind, _, w in rows if kind)
        others = sum(w for kind, _, w in rows if not kind)
        scale = {True: 0.25 * len(rows) / objects, False: 0.75 * len(rows) / others}
        rows = [(kind, lost, w * scale[bool(kind)]) for kind, lost, w in rows]
    place = 0.5 * of_boxes / (4 * boxes)
    return sum(lost * w for _, lost, w in rows) / len(rows) + place, place


@pytest.mark.parametrize(
    ("by_overlap", "balanced", "norm"),
    [(False, False, False), (True, False, True), (False, True, False), (True, True, True)],
)
def test_the_loss_is_that_of_plain_loops(by_overlap, balanced, norm):
    head, labels = drawn(2, 7, 3, 4), labels_of(2, 3, 4)
    options = 'sample_mode: "all" lambda: 0.5 bg_multiple: 3'
    options += " iou_weighted: true" * by_overlap + " pos_neg_weighted: true" * balanced
    made = layer(LOSS.format(options, NORM * norm), head.shape, labels.shape, phase="TRAIN")
    (loss,) = made(head, labels)
    wanted = loss_by_loops(head, labels, by_overlap, balanced, norm)
    assert loss.shape == (1, 1, 1, 2)
    assert loss.flatten().tolist() == pytest.approx(wanted, rel=1e-5)


def test_gradients_of_the_loss():
    """Boxes well within their limits, which stop no diff."""
    head, labels = 0.1 * drawn(2, 7, 3, 4), labels_of(2, 3, 4).double()
    text = LOSS.format('sample_mode: "bootstrap" pos_neg_weighted: true', "")
    made = layer(text, head.shape, labels.shape, phase="TRAIN").double()
    point = head.double().requires_grad_()

    def total(x):
        return made(x, labels)[0].flatten()[0]

    assert torch.autograd.gradcheck(total, point, eps=1e-6, atol=1e-7)
    beyond = (point.detach() + 30).requires_grad_()
    (diff,) = torch.autograd.grad(total(beyond), beyond)
    objects = (labels[:, :1] > 0).expand(2, 4, 3, 4)
    # smooth L1's diff beyond 1, of the mean over the objects' numbers
    below = diff[:, 3:][objects] < 1 / int(objects.sum()) + 1e-9
    assert below.all()
    assert diff[:, 3:][objects].abs().min() > 0
    assert not diff[:, 3:][~objects].any()
    both = made(point, labels)[0].flatten()
    (one,) = torch.autograd.grad(both[0], point, retain_graph=True)
    (sum_of_both,) = torch.autograd.grad(both.sum(), point)
    assert torch.equal(one, sum_of_both)  # the second number gives no diff


def test_the_hardest_cells_of_background_count():
    """Four of them at least for each class, of equal scores the last ones."""
    head = torch.zeros(1, 7, 2, 5)
    head[0, 1] = torch.tensor([[9.0, 8, 7, 6, 5], [0, 0, 0, 0, 0]])
    labels = torch.zeros(1, 6, 2, 5)
    labels[0, 5, 0, 0] = 0.9  # overlaps too much to be background
    text = LOSS.format('sample_mode: "bootstrap"', "")
    made = layer(text, head.shape, labels.shape, phase="TRAIN")
    kept = made._sampled(head[:, :3], labels[:, 0].long(), labels[:, 5])
    # class 1: the rest of the first row; class 2, all 0: the last four cells
    assert kept[0].tolist() == [[False, True, True, True, True], [False, True, True, True, True]]


def test_samples_follow_the_generator():
    head, labels = torch.zeros(1, 7, 20, 20), torch.zeros(1, 6, 20, 20)
    found = []
    for seed in (1, 1, 2):
        with rng.seeded(rng.CaffeRandom(seed)):
            made = layer(LOSS.format("", ""), head.shape, labels.shape, phase="TRAIN")
        found.append(made._sampled(head[:, :3], labels[:, 0].long(), labels[:, 5]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert 0 < found[0].sum() <= 8  # 4 for each class of objects, with replacement


def test_accuracy_by_hand():
    text = (
        'type: "DetectionAccuracy" bottom: "b0" bottom: "b1" top: "a" top: "o" '
        f"detection_accuracy_param {{ cls_num: 2 {FIELD} }}"
    )
    head = torch.zeros(1, 6, 1, 4)
    head[0, 1] = torch.tensor([1.0, -1, 1, -1])  # objects at 0 and 2
    labels = torch.zeros(1, 6, 1, 4)
    labels[0, 0] = torch.tensor([1.0, 1, 0, 0])
    labels[0, 5, 0, 3] = 0.7  # does not count
    # the true box of cell 0 is the field, 8 x 16 around (2, 2); that of cell 1 is half as far right
    labels[0, 1:5, 0, 0] = torch.tensor([2.0, 2, 8, 16])
    labels[0, 1:5, 0, 1] = torch.tensor([10.0, 2, 8, 16])
    made = layer(text, head.shape, labels.shape)
    accuracy, overlap = made(head, labels)
    assert accuracy.flatten().tolist() == pytest.approx([1 / 3, 1 / 2])
    assert overlap.item() == pytest.approx((1 + 4 / 12) / 2)
    nothing = torch.zeros_like(labels)
    nothing[:, 5] = 0.9
    accuracy, overlap = made(head, nothing)
    assert [*accuracy.flatten().tolist(), overlap.item()] == [-1, -1, -1]


def iou(a, b):
    low = [max(a[i], b[i]) for i in (0, 1)]
    side = [min(a[i] + a[i + 2], b[i] + b[i + 2]) - low[i] for i in (0, 1)]
    shared = max(side[0], 0) * max(side[1], 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def candidates(head, n, tall, wide, step):
    """(score, (x, y, width, height)) of the cells of a head, classes 3, with NORM's numbers."""
    for y in range(head.shape[2]):
        for x in range(head.shape[3]):
            cell = head[n, :, y, x].tolist()
            limits = (0.5, 0.5, math.log(2), math.log(2))
            t = [
                min(max(v * d + m, -most), most)
                for v, d, m, most in zip(
                    cell[3:], (0.1, 0.1, 0.2, 0.3), (0.1, 0, 0.2, 0), limits, strict=True
                )
            ]
            w, h = wide * math.exp(t[2]), tall * math.exp(t[3])
            left = max(t[0] * wide + (x + 0.5) * step - w / 2, 0)
            top = max(t[1] * tall + (y + 0.5) * step - h / 2, 0)
            w, h = min(w, head.shape[3] * step - left), min(h, head.shape[2] * step - top)
            score = max(cell[1:3]) - cell[0]
            if score >= -1 and min(w, h) >= 5:
                yield score, (left, top, w, h)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (9, 3)])
def test_boxes_are_those_of_plain_loops(before, after):
    text = (
        'type: "BoxOutput" bottom: "b0" bottom: "b1" top: "r" top: "s" box_output_param { '
        "field_h: 16 field_w: 8 downsample_rate: 4 field_h: 12 field_w: 12 downsample_rate: 8 "
        f"fg_thr: -1 iou_thr: 0.4 min_size: 5 max_nms_num: {before} max_post_nms_num: {after} }} "
    )
    heads = [drawn(2, 7, 6, 5), drawn(2, 7, 3, 2, seed=3)]
    made = layer(text + NORM, *(head.shape for head in heads))
    regions, scored = made(*heads)
    rows = []
    for n in range(2):
        found = [*candidates(heads[0], n, 16, 8, 4), *candidates(heads[1], n, 12, 12, 8)]
        kept = []
        for score, box in sorted(found, reverse=True)[: before or None]:
            if all(iou(box, other) <= 0.4 for _, other in kept):
                kept.append((score, box))
        rows += [[n, b[0], b[1], b[0] + b[2], b[1] + b[3], s] for s, b in kept[: after or None]]
    assert len(rows) > 4
    torch.testing.assert_close(scored[:, :, 0, 0], torch.tensor(rows), rtol=1e-4, atol=1e-4)
    assert torch.equal(regions, scored[:, :5])


def test_without_a_box_there_is_one_row():
    text = (
        'type: "BoxOutput" bottom: "b0" top: "r" top: "s" '
        f"box_output_param {{ {FIELD} fg_thr: 99 }}"
    )
    regions, scored = layer(text, (1, 7, 2, 2))(torch.zeros(1, 7, 2, 2))
    assert regions.flatten().tolist() == [0, 1, 1, 10, 10]
    assert scored.flatten().tolist() == [0] * 6


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (LOSS.format("", ""), [(1, 6, 2, 2), (1, 6, 2, 2)], r"expected \(N, 7, H, W\)"),
        (LOSS.format("", ""), [(1, 7, 2, 2), (1, 5, 2, 2)], "labels of shape"),
        (LOSS.format("coord_num: 5", ""), [(1, 7, 2, 2), (1, 6, 2, 2)], "coord_num is 5"),
        (LOSS.format("objectness: true", ""), [(1, 7, 2, 2), (1, 6, 2, 2)], "objectness with"),
        ('type: "DetectionLoss" bottom: "b0" bottom: "b1" top: "l"', [(1, 7, 2, 2), (1, 6, 2, 2)],
         "cls_num is 0; expected 2 or more, as in MS-CNN"),
        ('type: "BoxOutput" bottom: "b0" top: "r"', [(1, 7, 2, 2)], "0 of field_h for 1 bottoms"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(text, shapes, message):
    with pytest.raises(LayerError, match=message):
        layer(text, *shapes)
