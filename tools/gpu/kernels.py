"""The Triton kernels of the losses against the torch path in float64, on the same numbers.

The bound of a dtype is that of its rounding: features, scores and gradients are stored in it, all
sums are in float32 or more. Gradients are compared by the norm of their difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from caffe_port.losses import FeedbackOptions, feedback_loss, softmax_loss
from caffe_port.losses.feedback import SIMILARITIES, TEMPLATES
from tools.gpu.outcome import Row, Setting, within

# the largest error of a loss and of a gradient, relative
BOUNDS = {
    torch.float32: (1e-5, 1e-5),
    torch.float64: (1e-12, 1e-12),
    torch.float16: (1e-5, 1e-3),
    torch.bfloat16: (1e-5, 8e-3),
}
Shape = tuple[int, int, int, int, int]  # images, channels, classes, height, width
SHAPES: dict[str, Shape] = {
    "odd sizes": (2, 5, 4, 5, 7),
    "one pixel": (1, 3, 2, 1, 1),
    "two words of classes": (1, 35, 40, 3, 5),
}
LARGE: dict[str, Shape] = {
    "fc8 of LargeFOV": (10, 21, 21, 41, 41),
    "fc7 of LargeFOV": (10, 1024, 21, 41, 41),
}
FEW = ("odd sizes",)
NORMALIZATIONS = ("VALID", "FULL", "BATCH_SIZE", "NONE", "WEIGHTS", 7.0)
Loss = Callable[[Tensor, str], Tensor]


def run(setting: Setting) -> Iterator[Row]:
    """All cases, float32 first."""
    dtypes = (torch.float32, torch.float16) if setting.small else tuple(BOUNDS)
    shapes = SHAPES if setting.small else {**SHAPES, **LARGE}
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        yield from feedback_options(setting, name, dtype)
        yield from feedback_shapes(setting, name, dtype, shapes)
        yield from softmax_cases(setting, name, dtype, shapes)
    yield from strides(setting)
    yield from repeated(setting)
    if setting.on_gpu:
        yield from far_offsets(setting)


def case(
    shape: Shape, dtype: torch.dtype, device: str, labels: str = "", seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels and scores, drawn in main memory.

    Args:
        shape: images, channels, classes, height, width.
        dtype: of features and scores.
        device: where they are put.
        labels: "few classes" leaves most of them without a pixel, "none" ignores all pixels.
        seed: of the numbers.
    """
    items, channels, classes, height, width = shape
    make = torch.Generator().manual_seed(seed)
    features = torch.randn(items, channels, height, width, generator=make)
    scores = torch.randn(items, classes, height, width, generator=make)
    drawn = 2 if labels == "few classes" else classes + 1
    label = torch.randint(0, drawn, (items, height, width), generator=make)
    label[label == classes] = 255
    if labels == "none":
        label[:] = 255
    return features.to(device, dtype), label.to(device), scores.to(device, dtype)


def compared(group: str, name: str, loss: Loss, leaf: Tensor, scores: Tensor) -> Iterator[Row]:
    """Loss and gradient of the kernels next to those of the torch path in float64.

    Args:
        group, name: of the rows.
        loss: of features or scores, by a path.
        leaf: these.
        scores: those of the classes, for their number.
    """
    # makes up for the loss's means, as float16 is coarse below 6e-5
    factor = 3.5 * scores.numel()
    results = []
    for path, dtype in (("torch", torch.float64), ("triton", leaf.dtype)):
        x = leaf.detach().to(dtype).requires_grad_()
        value = loss(x, path)
        torch.autograd.backward(value, torch.full_like(value, factor))
        assert x.grad is not None
        results.append((float(value.detach()), x.grad.double()))
    (exact, wanted), (found, grad) = results
    value_bound, grad_bound = BOUNDS[leaf.dtype]
    yield within(group, f"{name}, value", abs(found - exact) / max(abs(exact), 1), value_bound)
    # the gradient of one pixel is about 3.5 / its length; where terms cancel, rounding remains
    size = max(float(wanted.norm()), 0.5)
    yield within(group, f"{name}, gradient", float((grad - wanted).norm()) / size, grad_bound)


def feedback_options(setting: Setting, name: str, dtype: torch.dtype) -> Iterator[Row]:
    """Every kind of template and similarity; other options vary along."""
    group = f"feedback losses, {name}: options"
    for similarity, template, detach in itertools.product(SIMILARITIES, TEMPLATES, (True, False)):
        words = f"{similarity}, {template}{'' if detach else ', learned'}"
        if not setting.wants(words):
            continue
        options = FeedbackOptions(
            similarity=similarity, template=template, k=3, detach=detach, margin=0.1,
            include_background=template != "mean", correct_only=similarity == "cosine",
            pull_weight=0.6, push_weight=1.7, ignore_labels=(255, 2), eps=1e-3,
        )  # fmt: skip
        features, label, scores = case(SHAPES["odd sizes"], dtype, setting.device)
        yield from compared(group, words, feedback(label, scores, options), features, scores)


def feedback(label: Tensor, scores: Tensor, options: FeedbackOptions) -> Loss:
    """The loss as a function of the features; scores are not cast, so both choose the same."""
    return lambda x, path: feedback_loss(x, label, scores, options, path=path)


def feedback_shapes(
    setting: Setting, name: str, dtype: torch.dtype, shapes: dict[str, Shape]
) -> Iterator[Row]:
    """Sizes, classes without a pixel, no pixel at all, and scores that tie."""
    group = f"feedback losses, {name}: sizes, empty classes, ties"
    for (words, shape), labels in itertools.product(
        shapes.items(), ("", "few classes", "none", "ties")
    ):
        what = f"{words}{', ' + labels if labels else ''}"
        if not setting.wants(what) or (labels and words not in FEW):
            continue
        # among millions of similarities some are within rounding of a margin inside their range
        margin = -1.0 if words in LARGE else 0.1
        options = FeedbackOptions(
            ignore_labels=(255,), detach=False, template="top-k", k=3, margin=margin
        )
        features, label, scores = case(shape, dtype, setting.device, labels, 1)
        rated = scores.sign() if labels == "ties" else scores
        yield from compared(group, what, feedback(label, rated, options), features, scores)


def softmax_cases(
    setting: Setting, name: str, dtype: torch.dtype, shapes: dict[str, Shape]
) -> Iterator[Row]:
    """The softmax loss: every normalization, with and without weights, and sizes."""
    group = f"softmax loss, {name}"
    cases = [("odd sizes", n, w) for n in NORMALIZATIONS for w in (False, True)]
    cases += [(words, "VALID", False) for words in shapes if words not in FEW]
    for words, normalization, weighted in cases:
        what = f"{words}, {normalization}{', weights' if weighted else ''}"
        if not setting.wants(what):
            continue
        _, label, scores = case(shapes[words], dtype, setting.device, seed=2)
        weights = torch.rand(scores.shape[1]).to(setting.device) if weighted else None
        yield from compared(group, what, softmax(label, normalization, weights), scores, scores)


def softmax(label: Tensor, normalization: str | float, weights: Tensor | None) -> Loss:
    """The loss as a function of the scores."""
    return lambda x, path: softmax_loss(
        x, label, ignore_labels=(255,), normalization=normalization, class_weights=weights,
        path=path,
    )  # fmt: skip


def strides(setting: Setting) -> Iterator[Row]:
    """Tensors that are not contiguous."""
    options = FeedbackOptions(similarity="correlation", ignore_labels=(255,), detach=False)
    features, label, scores = case((2, 3, 3, 5, 3), torch.float32, setting.device, seed=4)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
        "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        "every other element": lambda x: torch.stack([x, x * 7], 4)[..., 0],
    }
    for words, way in ways.items():
        if setting.wants(words):
            loss = feedback(label, way(scores), options)
            yield from compared("feedback losses: strides", words, loss, way(features), scores)
            loss = softmax(label, "VALID", None)
            yield from compared("softmax loss: strides", words, loss, way(scores), scores)


def repeated(setting: Setting) -> Iterator[Row]:
    """A result repeats bit by bit: all sums have a fixed order."""
    if not setting.wants("again"):
        return
    shape = SHAPES["odd sizes"] if setting.small else LARGE["fc7 of LargeFOV"]
    features, label, scores = case(shape, torch.float32, setting.device, seed=5)
    loss = feedback(label, scores, FeedbackOptions(ignore_labels=(255,), detach=False))
    found = []
    for _ in range(2):
        x = features.detach().requires_grad_()
        torch.autograd.backward(loss(x, "triton"))
        assert x.grad is not None
        found.append(x.grad)
    yield Row("a result repeats bit by bit", "again", torch.equal(*found))


def far_offsets(setting: Setting) -> Iterator[Row]:
    """A tensor of more than 2^31 elements, whose offsets need 64 bits: 4.6 GB and its gradient."""
    if not setting.wants("far offsets"):
        return
    free, _ = torch.cuda.mem_get_info(setting.device)
    if free < 40 * 2**30:
        yield Row("offsets beyond 2^31", "far offsets", None, f"left out: {free >> 30} GiB free")
        return
    pixels = 2**31 // 1024 + 4096
    features = torch.zeros(1, 1024, pixels, dtype=torch.float16, device=setting.device)
    features[:, ::7, -999:] = 1
    features[:, 1::5, :999] = 2
    label = torch.full((1, pixels), 255, device=setting.device)
    label[:, :999], label[:, -999:] = 0, 1
    scores = torch.zeros(1, 2, pixels, device=setting.device)
    options = FeedbackOptions(ignore_labels=(255,))
    ends = torch.cat([features[..., :999], features[..., -999:]], 2)
    marked = torch.cat([label[:, :999], label[:, -999:]], 1)
    few = torch.zeros(1, 2, 2 * 999, device=setting.device)
    found = feedback_loss(features.requires_grad_(), label, scores, options, path="triton")
    wanted = feedback_loss(ends.double(), marked, few.double(), options, path="torch")
    torch.autograd.backward(found)
    assert features.grad is not None
    error = abs(float(found.detach()) - float(wanted))
    yield within("offsets beyond 2^31", "far offsets, value", error, 1e-5)
    outside = int(features.grad[..., 999:-999].count_nonzero())
    yield Row("offsets beyond 2^31", "far offsets, gradient", outside == 0
              and bool(features.grad[..., -999:].any()), f"{outside} stray values")  # fmt: skip
