"""Losses and accuracies, recurrent layers, and layers that only one phase or stage has."""

from __future__ import annotations

from typing import Any

import torch

from caffe_port.pycaffe.net_spec import layers as L  # noqa: N812
from tests.any_net.draft import FILLED, Draft, Shape, block, has_axes


@block(
    lambda shape: 2 <= len(shape) <= 4 and shape[1] > 1,
    "SoftmaxWithLoss",
    "SoftmaxWithLossOHEM",
    "Accuracy",
    "SegAccuracy",
    "FeedbackLoss",
)
def loss(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """By labels of classes."""
    labels = draft.labels(shape[0], *([1, *shape[2:]] if shape[2:] else []), below=shape[1])
    options: dict[str, Any] = {"loss_weight": draft.one(1.0, 0.5)} if "Loss" in kind else {}
    if "Softmax" in kind:
        ignored = {"ignore_label": 1} if draft.flag() else {}
        options["loss_param"] = {**ignored, "normalization": draft.upto(3)}
        count = 3 if kind == "SoftmaxWithLossOHEM" else 2
        options["loss_weight"] = [options["loss_weight"], *[0.0] * (count - 1)]
        draft.add(*getattr(L, kind)(top, labels, ntop=count, **options), open=False)
    elif kind == "SegAccuracy" and len(shape) == 4:
        draft.add(L.SegAccuracy(top, labels), open=False)
    elif kind == "FeedbackLoss":
        draft.add(L.FeedbackLoss(top, labels, **options), open=False)
    else:
        draft.add(L.Accuracy(top, labels, top_k=draft.upto(2, 1)), open=False)


@block(has_axes(2), "EuclideanLoss", "SigmoidCrossEntropyLoss", "SmoothL1Loss")
def loss_of_values(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    if kind == "SmoothL1Loss":
        weights = [draft.input(*shape) for _ in range(draft.upto(2))]
        made = L.SmoothL1Loss(top, L.TanH(top), *weights, smooth_l1_loss_param={"sigma": 1.5})
        draft.add(made, open=False)
        return
    if kind == "EuclideanLoss":
        draft.add(L.EuclideanLoss(top, L.TanH(top), loss_weight=2.0), open=False)
    else:
        targets = draft.labels(*shape, below=2)
        draft.add(L.SigmoidCrossEntropyLoss(top, targets), open=False)


@block(lambda shape: len(shape) == 2 and shape[1] > 1, "InfogainLoss")
def infogain_loss(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """In a form that all dialects take: DeepLab's has probabilities as its first bottom."""
    labels = draft.labels(shape[0], below=shape[1])
    gains = draft.input(1, 1, shape[1], shape[1], values=torch.eye(shape[1])[None, None] + 0.1)
    draft.add(L.InfogainLoss(L.Softmax(top), labels, gains, loss_weight=0.5), open=False)


@block(
    lambda shape: len(shape) == 2 and shape[1] > 1,
    "HingeLoss",
    "MultinomialLogisticLoss",
    "ContrastiveLoss",
)
def loss_of_vectors(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    labels = draft.labels(shape[0], below=2)
    if kind == "ContrastiveLoss":
        draft.add(L.ContrastiveLoss(top, L.Sigmoid(top), labels), open=False)
    elif kind == "HingeLoss":
        draft.add(L.HingeLoss(top, labels, norm=draft.upto(2, 1)), open=False)
    else:
        draft.add(L.MultinomialLogisticLoss(L.Softmax(top), labels), open=False)


@block(has_axes(3, 4), "LSTM", "RNN")
def recurrent(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """A blob as steps and streams."""
    going_on = draft.labels(*shape[:2], below=2)
    make = getattr(L, kind)
    draft.add(make(top, going_on, recurrent_param={"num_output": draft.upto(3, 1), **FILLED}))


@block(lambda shape: len(shape) == 3 and shape[0] == 1, "lstm_unit")
def lstm_unit(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    gates = L.Tile(top, axis=2, tiles=4)
    going_on = draft.labels(*shape[:2], below=2)
    draft.add(*L.LSTMUnit(top, gates, going_on, ntop=2))


@block(has_axes(1), "embedded")
def embedded(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """A second branch, from indices."""
    words = draft.labels(2, 3, below=5)
    draft.add(L.Embed(words, input_dim=5, num_output=draft.upto(3, 1), **FILLED))


@block(has_axes(1), "ruled")
def ruled(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """A layer that only one phase, level or stage has."""
    rules = draft.one(
        {"include": [{"phase": 0}]}, {"exclude": [{"phase": 0}]}, {"include": [{"min_level": 1}]},
        {"include": [{"stage": ["deploy"]}, {"phase": 1, "not_stage": ["fast"]}]},
    )  # fmt: skip
    draft.net[f"ruled{len(draft.net.tops)}"] = L.TanH(top, **rules)


@block(
    lambda shape: len(shape) == 4 and shape[1] < 23,
    "SigmoidCrossEntropyBalanceLoss",
    "MultiChannelSigmoidCrossEntropyLoss",
    "MultiChannelReweightedSigmoidCrossEntropyLoss",
    "EltwiseAccuracy",
    "Quantize",
    "Rescale",
)
def edges_and_skeletons(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Of OSVOS, SEAL, DeconvNet and DeepSkeleton."""
    if kind == "SigmoidCrossEntropyBalanceLoss":
        draft.add(L.SigmoidCrossEntropyBalanceLoss(top, draft.labels(*shape, below=2)), open=False)
    elif kind == "Quantize":
        draft.add(L.Quantize(top), open=False)
    elif kind == "Rescale":
        draft.add(*L.Rescale(top, ntop=2, rescale_param={"rf": draft.upto(5, 1)}), open=False)
    elif kind == "EltwiseAccuracy":
        labels = draft.labels(shape[0], 1, *shape[2:], below=shape[1])
        draft.add(L.EltwiseAccuracy(top, labels), open=False)
    else:
        words = torch.randint(2 ** shape[1], (shape[0], 1, *shape[2:]), dtype=torch.int32)
        words = draft.input(*words.shape, values=words.view(torch.float32))
        draft.add(getattr(L, kind)(top, words), open=False)


@block(has_axes(2, 2), "SmoothL1LossOHEM", "BoxAnnotatorOHEM")
def hard_examples(draft: Draft, top: Any, shape: Shape, kind: str) -> None:
    """Of R-FCN."""
    targets = draft.input(*shape)
    made = L.SmoothL1LossOHEM(top, targets, ntop=2, loss_weight=[1.0, 0.0])
    draft.add(*made, open=False)
    if kind == "BoxAnnotatorOHEM":
        regions = draft.input(shape[0], 5, values=torch.zeros(shape[0], 5))
        options = {"roi_per_img": draft.upto(2, 1)}
        labels = draft.labels(shape[0], 1, below=2)
        found = L.BoxAnnotatorOHEM(
            regions, made[1], labels, L.TanH(targets), ntop=2, box_annotator_ohem_param=options
        )
        draft.add(*found, open=False)
