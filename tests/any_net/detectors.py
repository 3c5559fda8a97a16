"""The layers of SSD, Faster R-CNN and R-FCN, on heads of their own."""

from __future__ import annotations

from typing import Any

import torch

from caffe_port.pycaffe.net_spec import layers as L  # noqa: N812
from tests.any_net.draft import FILLED, MOST_VALUES, Draft, Shape, block, has_axes

_CODES = (1, 2, 3)  # CORNER, CENTER_SIZE, CORNER_SIZE


def _is_small_map(shape: Shape) -> bool:
    """(N, C, H, W) whose heads have few boxes."""
    return len(shape) == 4 and shape[0] * shape[2] * shape[3] <= MOST_VALUES // 20


def _prior_boxes(draft: Draft, top: Any, shape: Shape) -> tuple[Any, int]:
    """A PriorBox, and how many boxes each cell has."""
    options: dict[str, Any] = {"min_size": [draft.one(4.0, 9.5)], "clip": draft.flag()}
    count = 1
    if draft.flag():
        options["max_size"] = [16.0]
        count += 1
    if draft.flag():
        options["aspect_ratio"] = [2.0]
        options["flip"] = draft.flag()
        count += 2 if options["flip"] else 1
    if draft.flag():
        options["variance"] = [0.1, 0.1, 0.2, 0.2]
    if draft.flag():
        options |= {"img_size": 40, "step": draft.one(4.0, 7.5), "offset": 0.25}
    image = draft.input(1, 3, 32, 48)
    priors = L.PriorBox(top, image, prior_box_param=options)
    draft.add(priors)
    return priors, count


def _head(top: Any, outputs: int) -> Any:
    """Values of each cell, cell by cell: (N, H W outputs)."""
    made = L.TanH(L.Convolution(top, num_output=outputs, kernel_size=1, **FILLED))
    return L.Flatten(L.Permute(made, order=[0, 2, 3, 1]))


def _true_boxes(draft: Draft, items: int, classes: int) -> Any:
    """Rows (image, class, instance, xmin, ymin, xmax, ymax, difficult); the last is no box."""
    rows = []
    for i in range(draft.upto(4, 1)):
        x, y = draft.chance.uniform(0, 0.5), draft.chance.uniform(0, 0.5)
        box = [x, y, x + draft.chance.uniform(0.2, 0.5), y + draft.chance.uniform(0.2, 0.5)]
        image, label = draft.upto(items - 1), draft.upto(classes - 1, 1)
        rows.append([image, label, i, *box, draft.upto(1)])
    values = torch.tensor([*rows, [-1.0] * 8])[None, None]
    return draft.input(*values.shape, values=values)


@block(_is_small_map, "PriorBox", "DetectionOutput", "DetectionEvaluate")
def detections(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    priors, count = _prior_boxes(draft, top, shape)
    if kind == "PriorBox":
        return
    classes, shared = draft.upto(4, 2), draft.flag()
    places = _head(top, 4 * count * (1 if shared else classes))
    scores = L.Sigmoid(_head(top, count * classes))
    options = {
        "num_classes": classes, "share_location": shared, "code_type": draft.one(*_CODES),
        "variance_encoded_in_target": draft.flag(), "keep_top_k": draft.one(-1, 5),
        "confidence_threshold": draft.one(0.01, 0.5, 2.0),
        "nms_param": {"nms_threshold": 0.4, "top_k": 10, "eta": draft.one(1.0, 0.9)},
    }  # fmt: skip
    found = L.DetectionOutput(places, scores, priors, detection_output_param=options)
    draft.add(found, open=False)
    if kind == "DetectionEvaluate":
        options = {"num_classes": classes, "evaluate_difficult_gt": draft.flag()}
        truth = _true_boxes(draft, shape[0], classes)
        draft.add(L.DetectionEvaluate(found, truth, detection_evaluate_param=options), open=False)


@block(_is_small_map, "MultiBoxLoss")
def multi_box_loss(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    priors, count = _prior_boxes(draft, top, shape)
    classes, mining = draft.upto(4, 2), draft.upto(2)
    shared = bool(mining) or draft.flag()
    options: dict[str, Any] = {
        "num_classes": classes, "share_location": shared, "mining_type": mining,
        "loc_loss_type": draft.upto(1), "conf_loss_type": draft.upto(1),
        "match_type": draft.upto(1), "overlap_threshold": 0.2,
        "use_prior_for_matching": draft.flag(), "use_difficult_gt": draft.flag(),
        "code_type": draft.one(*_CODES), "encode_variance_in_target": draft.flag(),
        "ignore_cross_boundary_bbox": draft.flag(), "bp_inside": draft.flag(), "sample_size": 6,
    }  # fmt: skip
    if draft.flag():
        options["nms_param"] = {"nms_threshold": 0.5, "top_k": 8}
    bottoms = (
        _head(top, 4 * count * (1 if shared else classes)), _head(top, count * classes), priors,
        _true_boxes(draft, shape[0], classes),
    )  # fmt: skip
    loss = {"normalization": draft.upto(3)}
    made = L.MultiBoxLoss(*bottoms, multibox_loss_param=options, loss_param=loss)
    draft.add(made, open=False)


@block(_is_small_map, "Proposal", "proposed ROIPooling")
def proposals(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    ratios, scales = draft.one([1.0], [0.5, 2.0]), draft.one([1.0], [0.5, 1.5])
    anchors = len(ratios) * len(scales)
    scores = L.Sigmoid(L.Convolution(top, num_output=2 * anchors, kernel_size=1, **FILLED))
    moves = L.TanH(L.Convolution(top, num_output=4 * anchors, kernel_size=1, **FILLED))
    sizes = [8.0 * shape[2], 8.0 * shape[3], *draft.one([1.0], [1.5, 1.25])]
    info = draft.input(1, len(sizes), values=torch.tensor([sizes]))
    options = {
        "feat_stride": 8, "base_size": 8, "min_size": draft.upto(4, 1), "ratio": ratios,
        "scale": scales, "pre_nms_topn": 20, "post_nms_topn": draft.upto(6, 2),
    }  # fmt: skip
    made = L.Proposal(scores, moves, info, ntop=2, proposal_param=options)
    draft.add(*made, open=False)
    if kind != "Proposal":
        options = {"pooled_h": 2, "pooled_w": draft.upto(3, 1), "spatial_scale": 0.125}
        draft.add(L.ROIPooling(top, made[0], roi_pooling_param=options), open=False)


@block(has_axes(4, 4), "ROIPooling", "PSROIPooling")
def regions(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Of an input, some of which leave the image."""
    chosen = []
    for _ in range(draft.upto(4, 1)):
        x, y = draft.upto(4 * shape[3], -4), draft.upto(4 * shape[2], -4)
        chosen.append([draft.upto(shape[0] - 1), x, y, x + draft.upto(12), y + draft.upto(12)])
    values = torch.tensor(chosen).float()
    given = draft.input(*values.shape, values=values)
    if kind == "ROIPooling":
        options = {"pooled_h": draft.upto(3, 1), "pooled_w": draft.upto(3, 1)}
        draft.add(L.ROIPooling(top, given, roi_pooling_param={**options, "spatial_scale": 0.25}))
        return
    group, outputs = draft.upto(2, 1), draft.upto(2, 1)
    maps = L.Convolution(top, num_output=outputs * group**2, kernel_size=1, **FILLED)
    options = {"output_dim": outputs, "group_size": group, "spatial_scale": 0.25}
    draft.add(L.PSROIPooling(maps, given, psroi_pooling_param=options))


def _is_one_map(shape: Shape) -> bool:
    """A small map of one image."""
    return _is_small_map(shape) and shape[0] == 1 and shape[2] * shape[3] > 3


@block(_is_one_map, "RPNProposal", "RPNAnchorTarget", "RPNProposalTarget")
def rpn(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Of py-faster-rcnn, whose settings are a text."""
    scales, ratios = draft.one([1], [0.5, 1]), draft.one([1], [0.5, 2])
    anchors = len(scales) * len(ratios)
    own = f"'feat_stride': 8, 'scales': {scales}, 'ratios': {ratios}"
    scores = L.Sigmoid(L.Convolution(top, num_output=2 * anchors, kernel_size=1, **FILLED))
    info = draft.input(1, 3, values=torch.tensor([[8.0 * shape[2], 8.0 * shape[3], 1.0]]))
    truth = draft.input(1, 5, values=torch.tensor([[1.0, 2, 12, 14, draft.upto(2, 1)]]))
    if kind == "RPNAnchorTarget":
        text = f"{{{own}, 'allowed_border': 99}}"
        made = L.RPNAnchorTarget(scores, truth, info, ntop=4, python_param={"param_str": text})
        draft.add(*made, open=False)
        return
    moves = L.TanH(L.Convolution(top, num_output=4 * anchors, kernel_size=1, **FILLED))
    text = f"{{{own}, 'RPN_MIN_SIZE': 2, 'RPN_POST_NMS_TOP_N': {draft.upto(6, 1)}}}"
    found = L.RPNProposal(scores, moves, info, ntop=2, python_param={"param_str": text})
    draft.add(*found, open=False)
    if kind == "RPNProposalTarget":
        text = f"{{'num_classes': {draft.one(2, 3)}}}"
        made = L.RPNProposalTarget(found[0], truth, ntop=5, python_param={"param_str": text})
        draft.add(*made, open=False)


@block(_is_small_map, "BoxOutput", "DetectionLoss", "DetectionAccuracy")
def mscnn(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """One head of MS-CNN."""
    head = L.TanH(L.Convolution(top, num_output=6, kernel_size=1, **FILLED))
    size = {"field_h": 16, "field_w": 12, "downsample_rate": 8}
    if kind == "BoxOutput":
        options: dict[str, Any] = {name: [value] for name, value in size.items()}
        options |= {"fg_thr": draft.one(-1.0, 0.1), "min_size": 2, "max_post_nms_num": 5}
        draft.add(*L.BoxOutput(head, ntop=2, box_output_param=options), open=False)
        return
    labels = torch.zeros(shape[0], 6, *shape[2:])
    labels[:, 0, 0] = 1
    labels[:, 1:5] = 12
    given = draft.input(*labels.shape, values=labels)
    options = {"cls_num": 2, **size}
    if kind == "DetectionLoss":
        options["sample_mode"] = draft.one("bootstrap", "all")
        draft.add(L.DetectionLoss(head, given, detection_loss_param=options), open=False)
    else:
        made = L.DetectionAccuracy(head, given, ntop=2, detection_accuracy_param=options)
        draft.add(*made, open=False)
