"""The dense CRF the slow and obvious way: kernels as N x N matrices, for tiny images."""

from __future__ import annotations

import itertools

import numpy as np


def positions(height, width, sx, sy):
    """(N, 2) float32 features of every pixel, row after row."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([(x / np.float32(sx)).ravel(), (y / np.float32(sy)).ravel()], 1)


def bilateral(image, sxy, srgb):
    """(N, 5) float32 features of an image (H, W, 3)."""
    height, width = image.shape[:2]
    colours = image.reshape(-1, 3).astype(np.float32) / np.float32(srgb)
    return np.concatenate([positions(height, width, sxy, sxy), colours], 1)


def gaussian_matrix(features):
    """exp(-|f_i - f_j|^2 / 2): the kernel itself, which the lattice approximates."""
    f = features.astype(np.float64)
    return np.exp(-0.5 * ((f[:, None] - f[None]) ** 2).sum(-1))


def locate(features):
    """The d + 1 vertices around each feature and their weights, in float32 as DeepLab does it."""
    n, d = features.shape
    deviation = np.float32(np.sqrt(2 / 3) * (d + 1))
    scale = [np.float32(1 / np.sqrt((i + 1) * (i + 2)) * float(deviation)) for i in range(d)]
    elevated = np.zeros((n, d + 1), np.float32)
    total = np.zeros(n, np.float32)
    for j in range(d, 0, -1):
        scaled = features[:, j - 1] * scale[j - 1]
        elevated[:, j] = total - np.float32(j) * scaled
        total = total + scaled
    elevated[:, 0] = total
    inverse = np.float32(1) / np.float32(d + 1)
    multiple = np.rint(elevated * inverse)
    origin = multiple * np.float32(d + 1)
    residue = elevated - origin
    rank = np.repeat(multiple.sum(1).astype(int)[:, None], d + 1, 1)
    for i, j in itertools.combinations(range(d + 1), 2):
        less = residue[:, i] < residue[:, j]
        rank[:, i] += less
        rank[:, j] += ~less
    wrap = (d + 1) * ((rank < 0).astype(int) - (rank > d))
    rank, origin = rank + wrap, origin + wrap.astype(np.float32)
    ordered = np.empty_like(elevated)
    np.put_along_axis(ordered, rank, (elevated - origin) * inverse, 1)
    weights = np.empty_like(elevated)
    weights[:, 0] = ordered[:, d] + (np.float32(1) - ordered[:, 0])
    for m in range(1, d + 1):
        weights[:, m] = ordered[:, d - m] - ordered[:, d - m + 1]
    steps = [np.where(rank <= d - m, m, m - d - 1) for m in range(d + 1)]
    vertices = np.stack([origin.astype(int) + step for step in steps], 1)[:, :, :d]
    return vertices, weights


def lattice_matrix(features, phantoms=True):
    """What splatting, blurring and slicing do to a constant basis: the lattice as a matrix.

    phantoms: pad N to a multiple of four with zero features that carry no value.
    """
    n, d = features.shape
    pad = -n % 4 if phantoms else 0
    vertices, weights = locate(np.concatenate([features, np.zeros((pad, d), np.float32)]))
    numbers: dict[tuple[int, ...], int] = {}
    for key in vertices.reshape(-1, d):
        numbers.setdefault(tuple(key), len(numbers))
    spread = np.zeros((len(numbers), n))
    for pixel, corner in itertools.product(range(n), range(d + 1)):
        spread[numbers[tuple(vertices[pixel, corner])], pixel] += weights[pixel, corner]
    values = spread.copy()
    for axis in range(d + 1):
        blurred = values.copy()
        for key, row in numbers.items():
            step = np.full(d + 1, -1)
            step[axis] = d
            for neighbour in (np.array(key) + step[:d], np.array(key) - step[:d]):
                found = numbers.get(tuple(neighbour))
                if found is not None:
                    blurred[row] += values[found] / 2
        values = blurred
    return spread.T @ values / (1 + 2.0**-d)


def softmax(scores):
    """Over the first axis."""
    e = np.exp(scores - scores.max(0))
    return e / e.sum(0)


def mean_field(unary, kernels, iterations, symmetric=False):
    """Marginals (labels, N) for kernels [(matrix, weight), ...], in float64."""
    normalized = []
    for matrix, weight in kernels:
        total = matrix.sum(1)
        if symmetric:
            normalized.append(weight * matrix / np.sqrt(total[:, None] * total[None]))
        else:
            normalized.append(weight * matrix / total[:, None])
    q = softmax(-unary)
    for _ in range(iterations):
        q = softmax(-unary + sum((q @ matrix.T for matrix in normalized), np.zeros_like(q)))
    return q
