"""Triton kernels of the softmax loss: a program per block of pixels, all classes of a pixel in it.

Scores are (N, C, P) with any strides. `label` is (N, P) int32, -1 where a pixel does not count.
"""

# ruff: noqa: N803 - constants are written large, as Triton's users do
import triton
import triton.language as tl


@triton.jit
def _block(blocks, pixels, BP: tl.constexpr):
    """The image of this program, its pixels, and which of them there are."""
    pid = tl.program_id(0).to(tl.int64)
    p = (pid % blocks) * BP + tl.arange(0, BP)
    return pid // blocks, p, p < pixels


@triton.jit
def softmax_forward(
    scores, label, weights, top, total, sums, counts,
    stride_n, stride_c, stride_p, classes, pixels, blocks,
    BP: tl.constexpr, BC: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr,
    SUM_WEIGHTS: tl.constexpr,
):  # fmt: skip
    """Per program the sum of -w log p and what counts; per pixel the softmax's two numbers."""
    n, p, inside = _block(blocks, pixels, BP)
    y = tl.load(label + n * pixels + p, mask=inside, other=-1)
    largest = tl.full([BP], float("-inf"), ACC)
    denominator = tl.zeros([BP], ACC)
    own = tl.zeros([BP], ACC)
    counted = y >= 0
    # a pixel that does not count is not read, and all its scores are 0
    absent = tl.where(counted, float("-inf"), 0.0)[:, None]
    base = scores + n * stride_n + p[:, None] * stride_p
    for start in range(0, classes, BC):
        c = (start + tl.arange(0, BC)).to(tl.int64)
        mask = counted[:, None] & (c < classes)[None, :]
        x = tl.load(base + c[None, :] * stride_c, mask=mask, other=0.0).to(ACC)
        x = tl.where(mask, x, absent)
        before = largest
        largest = tl.maximum(largest, tl.max(x, 1))
        # a block of -inf alone must not give inf - inf
        pivot = tl.where(largest == float("-inf"), 0.0, largest)
        denominator = denominator * tl.exp(before - pivot) + tl.sum(tl.exp(x - pivot[:, None]), 1)
        own += tl.sum(tl.where(c[None, :] == y[:, None], x, 0.0), 1)
    tl.store(top + n * pixels + p, largest, mask=inside)
    tl.store(total + n * pixels + p, denominator, mask=inside)
    weight = counted.to(ACC)
    if WEIGHTED:
        weight = tl.load(weights + y, mask=counted, other=0.0).to(ACC)
    # Caffe's floor, FLT_MIN; NaN stays
    floor = tl.full([BP], 1.1754943508222875e-38, ACC)
    probability = tl.exp(own - largest) / denominator
    probability = tl.where(probability < floor, floor, probability)
    loss = tl.where(counted, -tl.log(probability) * weight, 0.0)
    tl.store(sums + tl.program_id(0), tl.sum(loss))
    tl.store(counts + tl.program_id(0), tl.sum(weight if SUM_WEIGHTS else counted.to(ACC)))


@triton.jit
def softmax_backward(
    scores, label, weights, top, total, factor, out,
    stride_n, stride_c, stride_p, out_n, out_c, out_p, classes, pixels, blocks,
    BP: tl.constexpr, BC: tl.constexpr, WEIGHTED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """(p - 1[c = label]) * w * factor, 0 where a pixel does not count."""
    n, p, inside = _block(blocks, pixels, BP)
    y = tl.load(label + n * pixels + p, mask=inside, other=-1)
    counted = y >= 0
    largest = tl.load(top + n * pixels + p, mask=inside, other=0.0)
    denominator = tl.load(total + n * pixels + p, mask=inside, other=1.0)
    weight = counted.to(ACC)
    if WEIGHTED:
        weight = tl.load(weights + y, mask=counted, other=0.0).to(ACC)
    weight = weight * tl.load(factor)
    base = scores + n * stride_n + p[:, None] * stride_p
    target = out + n * out_n + p[:, None] * out_p
    for start in range(0, classes, BC):
        c = (start + tl.arange(0, BC)).to(tl.int64)
        mask = counted[:, None] & (c < classes)[None, :]
        x = tl.load(base + c[None, :] * stride_c, mask=mask, other=0.0).to(ACC)
        probability = tl.exp(x - largest[:, None]) / denominator[:, None]
        one = (c[None, :] == y[:, None]).to(ACC)
        diff = tl.where(counted[:, None], (probability - one) * weight[:, None], 0.0)
        mask = inside[:, None] & (c < classes)[None, :]
        tl.store(target + c[None, :] * out_c, diff, mask=mask)
