"""exact_sums: the convolutions of a comparison round as well as a product of matrices."""

import json
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from caffe_port.parity.bench import exact_sums
from caffe_port.parity.verify import verify
from tests.goldens_dir import GOLDENS
from tests.verifying import recorded_net

#: Sums of 4,608 products: in one row they are off by 1.4e-6 of the peak and more, in blocks by 4e-7
#: at most.
LIMIT = 6e-7


def _tensor(rng, *shape):
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def _gradients(function, *parts):
    leaves = [part.clone().requires_grad_() for part in parts[:3]]
    top = function(*leaves)
    top.backward(parts[3].to(top.dtype))
    return [top.detach(), *(leaf.grad for leaf in leaves)]


def errors(kind="conv", images=1):
    """Largest errors of top, bottom diff, weight diff and bias diff, as parts of their peaks."""
    rng = np.random.default_rng(5)
    if kind == "conv":
        x, weight = _tensor(rng, images, 512, 16, 16).relu(), _tensor(rng, 32, 512, 3, 3)
        diff = _tensor(rng, images, 32, 16, 16)
    else:
        x, weight = _tensor(rng, images, 32, 12, 12), _tensor(rng, 32, 512, 4, 4)
        diff = _tensor(rng, images, 512, 24, 24).relu()
    parts = [x, weight, _tensor(rng, weight.shape[0 if kind == "conv" else 1]), diff]

    def run(x, weight, bias):
        if kind == "conv":
            return functional.conv2d(x, weight, bias, padding=1)
        return functional.conv_transpose2d(x, weight, bias, stride=2, padding=1)

    found, exact = _gradients(run, *parts), _gradients(run, *(part.double() for part in parts))
    return [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True)]


@pytest.mark.parametrize("kind", ["conv", "transposed"])
def test_long_sums_round_as_a_product_of_matrices(kind):
    with exact_sums():
        assert max(errors(kind)) < LIMIT


def test_batches_do_not_go_to_nnpack_where_onednn_is_off():
    """NNPACK takes batches from 16 on, and is off by 1e-5 of the peak."""
    before = torch.backends.mkldnn.enabled
    try:
        torch.backends.mkldnn.enabled = False
        with exact_sums():
            assert max(errors(images=16)) < LIMIT
        assert not torch.backends.mkldnn.enabled
    finally:
        torch.backends.mkldnn.enabled = before


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="kernels of x86-64")
def test_on_processors_whose_kernels_add_in_a_row():
    """oneDNN's kernels for SSE4.1; those for AVX2 round alike, those for AVX-512 better."""
    script = (
        "import json; from tests.parity.test_summation import errors, exact_sums\n"
        "plain = errors()\n"
        "with exact_sums(): print(json.dumps([plain, errors()]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True,
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41"},
    )  # fmt: skip
    plain, inside = json.loads(found.stdout)
    assert max(inside) < LIMIT
    if torch.backends.mkldnn.is_available():
        assert max(plain) > LIMIT  # else exact_sums is no longer needed


def test_verify_uses_them():
    net, recording = recorded_net(GOLDENS / "layers" / "bvlc_conv_3x3_pad1")
    seen = []
    net.module("op").register_forward_hook(
        lambda *_: seen.append(torch.backends.mkldnn.enabled)  # the copies have it too
    )
    for isolate in (False, True):
        seen.clear()
        assert verify(net, recording, isolate=isolate).passed
        assert seen
        assert not any(seen)


def test_the_switches_are_restored():
    def switches():
        cudnn = torch.backends.cudnn.enabled
        return torch.backends.mkldnn.enabled, torch._C._get_nnpack_enabled(), cudnn

    def fail():
        with exact_sums():
            with exact_sums():
                assert switches() == (False, False, False)
            assert switches() == (False, False, False)
            raise KeyError

    before = switches()
    with pytest.raises(KeyError):
        fail()
    assert switches() == before


def test_matrix_products_are_not_rounded_on_a_gpu():
    torch.set_float32_matmul_precision("high")
    try:
        with exact_sums():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
