"""The gathered rules against slow, obvious loops over one point at a time, on random layers."""

import itertools

import numpy as np
import pytest
import torch

from caffe_port.unravel import trace
from tests.unravel.nets import data, layer, make


def last_of_the_largest(values, k=1):
    return sorted(range(len(values)), key=lambda i: (values[i], i))[-k:]


def clamp(y, x, shape):
    return min(max(y, 0), shape[0] - 1), min(max(x, 0), shape[1] - 1)


def by_channel(products, channels, k):
    """products: (channel, place) -> value; the k best channels and their best place."""
    sums = [sum(v for (c, _), v in products.items() if c == channel) for channel in channels]
    for i in last_of_the_largest(sums, k):
        own = [(place, v) for (c, place), v in products.items() if c == channels[i]]
        (best,) = last_of_the_largest([v for _, v in own])
        yield channels[i], own[best][0]


def convolved(x, weight, point, o, k):
    out, y, z = point
    per = x.shape[0] // o["group"]
    first = out // (weight.shape[0] // o["group"]) * per
    products = {}
    for c, i, j in itertools.product(range(per), *map(range, weight.shape[2:])):
        row = y * o["stride"] - o["pad"] + i * o["dilation"]
        column = z * o["stride"] - o["pad"] + j * o["dilation"]
        inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
        value = x[first + c, row, column] * weight[out, c, i, j] if inside else 0.0
        products[first + c, (row, column)] = value
    channels = list(range(first, first + per))
    return {(c, *clamp(*place, x.shape[1:])) for c, place in by_channel(products, channels, k)}


def deconvolved(x, weight, point, o, k):
    out, y, z = point
    each, per = weight.shape[1], x.shape[0] // o["group"]
    first = out // each * per
    products = {}
    for row, column in itertools.product(*map(range, x.shape[1:])):
        for c, i, j in itertools.product(range(per), *map(range, weight.shape[2:])):
            lands = (
                row * o["stride"] - o["pad"] + i * o["dilation"],
                column * o["stride"] - o["pad"] + j * o["dilation"],
            )
            if lands == (y, z):
                value = x[first + c, row, column] * weight[first + c, out % each, i, j]
                products[first + c, (row, column)] = value
    if not products:
        return set()
    channels = list(range(first, first + per))
    return {(c, *place) for c, place in by_channel(products, channels, k)}


def pooled(x, point, kernel, stride, pad):
    c, y, z = point
    window = {}
    for i, j in itertools.product(range(kernel), range(kernel)):
        row, column = y * stride - pad + i, z * stride - pad + j
        if row >= x.shape[1] + pad or column >= x.shape[2] + pad:
            continue
        inside = 0 <= row < x.shape[1] and 0 <= column < x.shape[2]
        window[row, column] = x[c, row, column] if inside else 0.0
    (best,) = last_of_the_largest(list(window.values()))
    return {(c, *clamp(*list(window)[best], x.shape[1:]))}


def check(text, seed, reference, sparse):
    """All points of all labels at once, on values with many ties, against the loops."""
    rng = np.random.default_rng(seed)
    net = make(text)
    with torch.no_grad():
        for blob in net.parameters():
            blob.copy_(torch.from_numpy(rng.integers(-3, 4, tuple(blob.shape))))
    x = rng.integers(-4 if seed % 2 else 0, 5, net.spec.shapes["data"]).astype(np.float32)
    size = net.spec.shapes["out"][2:]
    map_ = rng.integers(0, net.spec.shapes["out"][1], size)
    if sparse:  # so few that the blob is not turned as a whole
        map_.flat[rng.permutation(map_.size)[2:]] = 255
    weight = next((blob.detach().numpy() for blob in net.parameters()), None)
    for k in (1, 2) if weight is not None else (1,):
        found = trace(net, x, "out", k=k, label_map=map_)
        for label, blobs in found.items():
            places = zip(*(map_ == label).nonzero(), strict=True)
            want = set().union(*(reference(x[0], weight, (label, *at), k) for at in places))
            got = {tuple(row) for row in blobs.get("data", np.empty((0, 3))).tolist()}
            assert got == want
        assert found


FILTERS = "convolution_param {{ num_output: 4 kernel_size: 3 bias_term: false {} }}"


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("type", "reference"), [("Convolution", convolved), ("Deconvolution", deconvolved)]
)
def test_filters(type, reference, seed, sparse):
    rng = np.random.default_rng(seed)
    options = {
        "stride": int(rng.integers(1, 4)), "pad": int(rng.integers(0, 3)),
        "dilation": int(rng.integers(1, 3)), "group": int(rng.choice([1, 2, 4])),
    }  # fmt: skip
    words = " ".join(f"{name}: {value}" for name, value in options.items())
    text = data(1, 4, 7, 6) + layer(type, FILTERS.format(words))
    check(text, seed, lambda x, w, at, k: reference(x, w, at, options, k), sparse)


@pytest.mark.parametrize("seed", range(3))
def test_filters_larger_than_the_padded_blob(seed):
    """Caffe has one window there; what it reads behind the blob is 0."""
    options = {"stride": 4, "pad": seed, "dilation": 4 + seed, "group": 2}  # spans 9, 11, 13
    words = " ".join(f"{name}: {value}" for name, value in options.items())
    text = data(1, 4, 7, 6) + layer("Convolution", FILTERS.format(words))
    assert make(text).spec.shapes["out"] == (1, 4, 1, 1)
    check(text, seed, lambda x, w, at, k: convolved(x, w, at, options, k), False)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling(method, seed):
    rng = np.random.default_rng(seed)
    kernel, stride = int(rng.integers(2, 4)), int(rng.integers(1, 4))
    pad = int(rng.integers(0, kernel))
    words = f"pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad}"
    text = data(1, 3, 8, 7) + layer("Pooling", f"pooling_param {{ {words} }}")
    check(text, seed, lambda x, w, at, k: pooled(x, at, kernel, stride, pad), False)
