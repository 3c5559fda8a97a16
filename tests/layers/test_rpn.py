"""py-faster-rcnn's Python layers, computed without their code, next to plain loops.

No recording: the original code is not run. The loops follow the paper (Ren et al., 2015) and the
published rules; the nine anchors are those that py-faster-rcnn documents.
"""

import math
import sys

import numpy as np
import pytest
import torch

from caffe_port import NetSpec
from caffe_port.data import rng
from caffe_port.errors import CaffePortError, DialectWarning, LayerError
from caffe_port.layers.rpn import anchors, moved, moves
from caffe_port.proto import parse_net
from caffe_port.spec.ops.python_layer import PUBLISHED
from caffe_port.spec.ops.rpn import settings
from tests.layers.helpers import net_of

PYTHON = (
    'layer {{ name: "op" type: "Python" {} python_param {{ module: "{}" layer: "{}" '
    'param_str: "{}" }} {} }}'
)
SMALL = "'feat_stride': 8, 'scales': [1, 2], 'ratios': [0.5, 1]"


def python_layer(module, param, shapes, tops, phase="TEST", more=""):
    (name,) = [name for where, name in PUBLISHED if where == module]
    blobs = [f'bottom: "b{i}"' for i in range(len(shapes))] + [f'top: "t{i}"' for i in range(tops)]
    text = PYTHON.format(" ".join(blobs), module, name, param, more)
    with pytest.warns(DialectWarning, match=f"'op' \\({module}.{name}\\)"):
        return net_of(text, *shapes, phase=phase)


def proposal(param, shapes, tops=2, phase="TEST"):
    return python_layer("rpn.proposal_layer", param, shapes, tops, phase).module("op")


def test_the_nine_anchors_are_the_published_ones():
    wanted = [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199], [-56, -56, 71, 71],
        [-120, -120, 135, 135], [-248, -248, 263, 263], [-36, -80, 51, 95], [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]  # fmt: skip
    assert anchors((8, 16, 32), (0.5, 1, 2)).tolist() == wanted


def overlap(a, b):
    """Both ends of a box belong to it."""
    sides = [max(min(a[i + 2], b[i + 2]) - max(a[i], b[i]) + 1, 0) for i in (0, 1)]
    area = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return sides[0] * sides[1] / (sum(area) - sides[0] * sides[1])


def proposals_by_loops(scores, by, sizes, before, after, limit, least):
    height, width, scale = sizes
    found = []
    for y in range(scores.shape[2]):
        for x in range(scores.shape[3]):
            for a, (x1, y1, x2, y2) in enumerate(anchors((1, 2), (0.5, 1)).tolist()):
                wide, tall = x2 - x1 + 1, y2 - y1 + 1
                dx, dy, dw, dh = by[0, 4 * a : 4 * a + 4, y, x].tolist()
                cx, cy = x1 + 8 * x + wide / 2 + dx * wide, y1 + 8 * y + tall / 2 + dy * tall
                wide, tall = math.exp(dw) * wide, math.exp(dh) * tall
                box = [cx - wide / 2, cy - tall / 2, cx + wide / 2, cy + tall / 2]
                ends = [width, height] * 2
                box = [min(max(v, 0), end - 1) for v, end in zip(box, ends, strict=True)]
                sides = box[2] - box[0] + 1, box[3] - box[1] + 1
                if min(sides) >= least * scale:
                    found.append((float(scores[0, 4 + a, y, x]), box))
    found.sort(key=lambda entry: -entry[0])
    kept = []
    for score, box in found[:before]:
        if all(overlap(box, other) <= limit for _, other in kept):
            kept.append((score, box))
    return kept[:after]


@pytest.mark.parametrize(("before", "after", "limit"), [(6000, 300, 0.7), (20, 4, 0.3)])
def test_proposals_are_those_of_plain_loops(before, after, limit):
    draw = torch.Generator().manual_seed(5)
    scores, by = torch.rand(1, 8, 5, 6, generator=draw), torch.randn(1, 16, 5, 6, generator=draw)
    sizes = torch.tensor([[40.0, 48.0, 1.5]])
    param = (
        f"{{{SMALL}, 'RPN_MIN_SIZE': 4, 'RPN_PRE_NMS_TOP_N': {before}, "
        f"'RPN_POST_NMS_TOP_N': {after}, 'RPN_NMS_THRESH': {limit}}}"
    )
    made = proposal(param, [(1, 8, 5, 6), (1, 16, 5, 6), (1, 3)])
    regions, points = made(scores, 0.3 * by, sizes)
    wanted = proposals_by_loops(scores, 0.3 * by, sizes[0].tolist(), before, after, limit, 4)
    assert points.shape == (len(wanted), 1)
    assert 3 < len(wanted) <= after
    np.testing.assert_allclose(points[:, 0], [score for score, _ in wanted])
    np.testing.assert_allclose(regions[:, 1:], [box for _, box in wanted], atol=1e-4)
    assert not regions[:, 0].any()


def test_proposals_have_the_settings_of_the_phase():
    shapes = [(1, 18, 40, 40), (1, 36, 40, 40), (1, 3)]
    op = proposal("'feat_stride': 16", shapes, 1).spec.op
    assert (op.before, op.after, op.nms, op.least, op.stride) == (6000, 300, 0.7, 16, 16)
    op = proposal("'feat_stride': 16", shapes, 1, "TRAIN").spec.op
    assert (op.before, op.after) == (12000, 2000)
    assert op.top_shapes(shapes) == [(2000, 5), (2000, 1)]


def test_of_equal_scores_the_last_is_first_and_small_boxes_are_left_out():
    param = f"{{{SMALL}, 'RPN_MIN_SIZE': 20, 'RPN_NMS_THRESH': 1}}"
    made = proposal(param, [(1, 8, 1, 2), (1, 16, 1, 2), (1, 3)], 1)
    (regions,) = made(
        torch.ones(1, 8, 1, 2), torch.zeros(1, 16, 1, 2), torch.tensor([[99.0, 99, 1]])
    )
    assert 0 < len(regions) < 8
    widths = regions[:, 3:] - regions[:, 1:3] + 1
    assert (widths >= 20).all()
    assert regions[0, 3] > regions[-1, 3]


def test_moves_are_the_inverse_of_moved():
    boxes, targets = np.array([[0.0, 0, 9, 19]]), np.array([[5.0, 5, 24, 24]])
    by = moves(boxes, targets)
    # from a centre of (5, 10) and a size of 10 x 20 to (15, 15) and 20 x 20
    np.testing.assert_allclose(by, [[1, 0.25, math.log(2), 0]])
    np.testing.assert_allclose(moved(boxes, by), [[5, 5, 25, 25]])  # its end is one beyond


def anchor_target(param, shapes, phase="TRAIN"):
    return python_layer("rpn.anchor_target_layer", param, shapes, 4, phase)


def test_anchor_targets_are_those_of_plain_loops():
    truth = [[0.0, 2, 20, 18, 3], [30, 10, 46, 30, 1]]
    shapes = [(1, 8, 5, 6), (2, 5), (1, 3), (1, 3, 40, 48)]
    made = anchor_target(f"{{{SMALL}, 'allowed_border': 4}}", shapes).module("op")
    sizes = torch.tensor([[40.0, 48.0, 1]])
    labels, by, inside, outside = made(
        torch.zeros(shapes[0]), torch.tensor(truth), sizes, torch.zeros(shapes[3])
    )
    rows = []
    for y in range(5):
        for x in range(6):
            for a, first in enumerate(anchors((1, 2), (0.5, 1)).tolist()):
                box = [v + 8 * s for v, s in zip(first, (x, y, x, y), strict=True)]
                if min(box[:2]) >= -4 and box[2] < 52 and box[3] < 44:
                    rows.append((a, y, x, box, [overlap(box, true) for true in truth]))
    best = [max(row[4][i] for row in rows) for i in (0, 1)]
    wanted = torch.full((4, 5, 6), -1.0)
    for a, y, x, box, found in rows:
        nearest = found.index(max(found))
        positive = max(found) >= 0.7 or any(v == b for v, b in zip(found, best, strict=True))
        wanted[a, y, x] = 1 if positive else 0 if max(found) < 0.3 else -1
        goal = moves(np.array([box]), np.array([truth[nearest][:4]]))[0]
        np.testing.assert_allclose(by[0, 4 * a : 4 * a + 4, y, x], goal, rtol=1e-5, atol=1e-6)
    assert labels.shape == (1, 1, 20, 6)
    assert torch.equal(labels.reshape(4, 5, 6), wanted)
    assert {-1.0, 0.0, 1.0} == set(wanted.flatten().tolist())
    weights = inside.reshape(4, 4, 5, 6)
    assert torch.equal(weights, (wanted == 1)[:, None].expand(4, 4, 5, 6).float())
    share = (wanted >= 0) / (wanted >= 0).sum()
    torch.testing.assert_close(outside.reshape(4, 4, 5, 6), share[:, None].expand(4, 4, 5, 6))


def test_anchor_targets_are_sampled():
    shapes = [(1, 8, 20, 20), (1, 5), (1, 3)]
    param = f"{{{SMALL}, 'RPN_BATCHSIZE': 16, 'RPN_POSITIVE_OVERLAP': 0.5}}"
    given = (torch.zeros(shapes[0]), torch.tensor([[40.0, 40, 90, 90, 1]]),
             torch.tensor([[160.0, 160, 1]]))  # fmt: skip
    found = []
    for seed in (1, 1, 2):
        with rng.seeded(rng.CaffeRandom(seed)):
            module = anchor_target(param, shapes).module("op")
        labels = module(*given)[0]
        assert (labels >= 0).sum() == 16
        assert (labels == 1).sum() <= 8
        found.append(labels)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_an_image_without_an_anchor_is_refused():
    module = anchor_target("'feat_stride': 16", [(1, 18, 2, 2), (1, 5), (1, 3)]).module("op")
    with pytest.raises(LayerError, match="no anchor lies in the image of 32 x 32 pixels"):
        module(torch.zeros(1, 18, 2, 2), torch.zeros(1, 5), torch.tensor([[32.0, 32, 1]]))


def target(param, regions, truth):
    net = python_layer("rpn.proposal_target_layer", param, [regions.shape, truth.shape], 5)
    return net.module("op")(regions, truth)


def test_targets_of_proposals():
    regions = torch.tensor([[0.0, 0, 0, 9, 19], [0, 30, 30, 39, 39], [0, 0, 0, 11, 19]])
    truth = torch.tensor([[0.0, 0, 9, 19, 2]])
    rois, labels, by, inside, outside = target("'num_classes': 3", regions, truth)
    # two regions and the true box itself are objects; the other touches none
    assert labels.tolist() == [2, 2, 2, 0]
    assert rois.tolist() == [regions[0].tolist(), regions[2].tolist(), [0, *truth[0, :4].tolist()],
                             regions[1].tolist()]  # fmt: skip
    wanted = [(5 - 6) / 12 / 0.1, 0, math.log(10 / 12) / 0.2, 0]
    torch.testing.assert_close(by[1], torch.tensor([0.0] * 8 + wanted))
    assert inside[:, 8:].tolist() == [[1.0] * 4] * 3 + [[0.0] * 4]
    assert not inside[:, :8].any()
    assert torch.equal(inside, outside)


def test_targets_are_sampled_and_class_agnostic_ones_have_two_columns():
    draw = torch.Generator().manual_seed(2)
    corner = 40 * torch.rand(300, 2, generator=draw)
    regions = torch.cat([torch.zeros(300, 1), corner, corner + 20], 1)
    truth = torch.tensor([[10.0, 10, 30, 30, 7]])
    param = "{'num_classes': 2, 'BATCH_SIZE': 32}"
    rois, labels, by, inside, _ = target(param, regions, truth)
    assert rois.shape == (32, 5)
    assert (labels == 7).sum() == 8  # a quarter
    assert by.shape == (32, 8)
    assert torch.equal(inside[:, 4:].any(1), labels > 0)
    every = target("{'num_classes': 2, 'BATCH_SIZE': -1}", regions, truth)[0]
    assert len(every) == 301
    with pytest.raises(LayerError, match="class 7 of a true box; expected below 7"):
        target("'num_classes': 7", regions, truth)


@pytest.mark.parametrize(
    ("module", "param", "shapes", "tops", "message"),
    [
        ("rpn.proposal_layer", "'feat_stride': 16", [(1, 8, 3, 3), (1, 36, 3, 3), (1, 3)], 1,
         r"scores of shape \(1, 8, 3, 3\); expected \(1, 18, H, W\)"),
        ("rpn.proposal_layer", "'feat_stride': 16", [(1, 18, 3, 3), (1, 36, 3, 2), (1, 3)], 1,
         "moves of shape"),
        ("rpn.proposal_layer", "'use_clip': 1", [(1, 18, 3, 3), (1, 36, 3, 3), (1, 3)], 1,
         "param_str sets 'use_clip'; known are feat_stride, scales"),
        ("rpn.proposal_layer", "'scales': []", [(1, 18, 3, 3), (1, 36, 3, 3), (1, 3)], 1,
         "scales of "),
        ("rpn.proposal_layer", "feat_stride = 3", [(1, 18, 3, 3), (1, 36, 3, 3), (1, 3)], 1,
         "expected 'name': value"),
        ("rpn.proposal_target_layer", "", [(4, 5), (1, 5)], 5, "num_classes is 0"),
        ("rpn.proposal_target_layer", "'num_classes': 21", [(4, 4), (1, 5)], 5,
         r"regions of shape \(4, 4\)"),
        ("rpn.anchor_target_layer", "'feat_stride': 16", [(1, 18, 3, 3), (1, 4), (1, 3)], 4,
         r"true boxes of shape \(1, 4\)"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(module, param, shapes, tops, message):
    with pytest.raises(LayerError, match=message):
        python_layer(module, param, shapes, tops)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("'feat_stride': 16", {"feat_stride": 16}),
        ("{'a': 1, 'b': [2, 3.5], 'c': 'x', 'd': True}",
         {"a": 1, "b": (2, 3.5), "c": "x", "d": 1}),
        ("'a': 16 \n'b': !!python/tuple [4, 8]", {"a": 16, "b": (4, 8)}),
        ("{ 'a': (1, 2) }", {"a": (1, 2)}),
        ("", {}),
    ],
)  # fmt: skip
def test_settings_of_a_text(text, wanted):
    assert settings(text) == wanted


@pytest.mark.parametrize("text", ["'a'", "{'a': }", "'a': __import__('os')", "'a': nan", "'a': {}"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="param_str"):
        settings(text)


def test_bvlcs_example_of_a_python_loss_is_euclidean_loss():
    text = PYTHON.format('bottom: "b0" bottom: "b1" top: "t0"', "pyloss", "EuclideanLossLayer", "",
                         "loss_weight: 1")  # fmt: skip
    with pytest.warns(DialectWarning, match="as EuclideanLoss"):
        net = net_of(text, (2, 3), (2, 3), phase="TRAIN")
    assert net({"b0": torch.ones(2, 3), "b1": torch.zeros(2, 3)})["t0"].item() == 1.5  # 6 / 2 / 2
    with pytest.warns(DialectWarning):  # without a weight it is no loss
        net = net_of(text.replace("loss_weight: 1", ""), (2, 3), (2, 3))
    assert net.spec.layer("op").loss_weights == (0,)
    with pytest.raises(CaffePortError, match="must not make code run"):  # its diff has weight 1
        net_of(text.replace("loss_weight: 1", "loss_weight: 2"), (2, 3), (2, 3))


@pytest.mark.parametrize(("phase", "own"), [("TEST", "TRAIN"), ("TRAIN", "TEST")])
def test_enets_dropout_has_a_phase_of_its_own_and_scales_always(phase, own):
    module = python_layer(
        "spatial_dropout", f"{{'phase': '{own}', 'p': '0.5'}}", [(8, 16, 2, 3)], 1, phase
    ).module("op")
    (y,) = module(torch.ones(8, 16, 2, 3))
    found = set(y.flatten().tolist())
    assert found == ({0.0, 2.0} if own == "TRAIN" else {2.0})
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))


@pytest.mark.parametrize("param", ["{'phase': 'TEST'}", "{'phase': 'X', 'p': 0.1}",
                                   "{'phase': 'TEST', 'p': '1'}"])  # fmt: skip
def test_a_dropout_without_phase_or_share_is_refused(param):
    with pytest.raises(LayerError, match=r"expected"):
        python_layer("spatial_dropout", param, [(1, 2)], 1)


def test_where_code_may_run_the_users_own_class_is_used(monkeypatch):
    monkeypatch.delitem(sys.modules, "spatial_dropout", raising=False)  # another test's
    text = PYTHON.format('bottom: "b0" top: "t0"', "spatial_dropout", "SpatialDropoutLayer", "", "")
    parsed = parse_net('input: "b0" input_shape { dim: 1 dim: 2 } ' + text)
    with pytest.raises(ImportError, match="spatial_dropout"):
        NetSpec.build(parsed.message, allow_python_layers=True)
