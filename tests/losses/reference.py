"""The feedback losses as slow, obvious loops over float64 numbers: the reference's reference."""

from __future__ import annotations

import math


def compared(vector, options):
    """A vector as it is compared: centred or not, of unit length."""
    if options.similarity == "correlation":
        mean = sum(vector) / len(vector)
        vector = [v - mean for v in vector]
    length = math.sqrt(sum(v * v for v in vector) + options.eps)
    return [v / length for v in vector]


def template_of(pixels, label, options):
    """The template of a class from its pixels, (vector, scores) in row order."""
    right = [p for p in pixels if max(p[1]) <= p[1][label]]
    candidates = right if options.correct_only and right else pixels
    if options.template != "mean":
        # sorted keeps the order of equals
        candidates = sorted(candidates, key=lambda p: -p[1][label])
        candidates = candidates[: 1 if options.template == "best" else options.k]
    return [
        sum(column) / len(candidates) for column in zip(*(p[0] for p in candidates), strict=True)
    ]


def slow_loss(features, labels, scores, options):
    """Features (N, D, H, W), labels (N, H, W), scores (N, C, H, W), all as float64 tensors."""
    pulls, pushes = [], []
    for feature, label, score in zip(features, labels, scores, strict=True):
        by_class = {}
        for y in range(label.shape[0]):
            for x in range(label.shape[1]):
                name = int(label[y, x])
                if name not in options.ignore_labels and (name or options.include_background):
                    pixel = feature[:, y, x].tolist(), score[:, y, x].tolist()
                    by_class.setdefault(name, []).append(pixel)
        for c, own in by_class.items():
            template = compared(template_of(own, c, options), options)
            for d, pixels in by_class.items():
                similar = [
                    sum(a * b for a, b in zip(template, compared(vector, options), strict=True))
                    for vector, _ in pixels
                ]
                if c == d:
                    pulls.append(sum(1 - s for s in similar) / len(pixels))
                else:
                    hinges = [max(0, s - options.margin) for s in similar]
                    pushes.append(sum(hinges) / len(pixels))
    pull = sum(pulls) / max(len(pulls), 1)
    push = sum(pushes) / max(len(pushes), 1)
    return options.pull_weight * pull + options.push_weight * push


def slow_softmax_loss(scores, labels, ignored, normalization, weights):
    """Scores (N, C, H, W) and labels (N, H, W) as float64 tensors; weights a list or None."""
    total, counted, weighed = 0.0, 0, 0.0
    for score, label in zip(scores, labels, strict=True):
        for y in range(label.shape[0]):
            for x in range(label.shape[1]):
                name = int(label[y, x])
                if name in ignored:
                    continue
                vector = score[:, y, x].tolist()
                largest = max(vector)
                powers = [math.exp(v - largest) for v in vector]
                weight = 1.0 if weights is None else weights[name]
                total -= weight * math.log(max(powers[name] / sum(powers), 2.0**-126))
                counted += 1
                weighed += weight
    divisors = {
        "VALID": counted, "FULL": labels.numel(), "BATCH_SIZE": labels.shape[0], "NONE": 1
    }  # fmt: skip
    if normalization == "WEIGHTS":
        return total / weighed if weighed else 0.0
    return total / max(divisors[normalization], 1)
