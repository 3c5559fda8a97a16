"""Triton kernels of the feedback losses, in the order in which feedback_triton.py launches them.

Features are (N, D, P), scores (N, C, P), with any strides; the rest is contiguous: `label` (N, P)
int32, -1 where a pixel does not count; `templates` (N, C, D), of unit length; `pull` and `push`
(N, C), the weight of a pixel of the class in each term, `counts` its pixels. Per pixel (N, P):
`mean` (for correlation) and `norm` of its vector, and `d_sums`, the sum over classes of the
similarity times its gradient. `words` (N, ceil(C / 32), P) has a bit per class: whether its
hinge is open. The backward needs nothing else, so no similarity is stored.

BP, BD, BC: pixels, channels and classes of a block. BC is 32, the bits of a word.
"""

# ruff: noqa: N803 - constants are in upper case, as usual in Triton
import triton
import triton.language as tl


@triton.jit
def _block(count, BLOCK: tl.constexpr):
    """Splits the program's number into the index of the outer axes and the block of this axis."""
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(count, BLOCK)
    return pid // blocks, (pid % blocks) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def rate(
    scores, label, own, right, stride_n, stride_c, stride_p, classes, pixels,
    BP: tl.constexpr, BC: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Per pixel the score of its own class, and whether no class scores higher."""
    n, p = _block(pixels, BP)
    y = tl.load(label + n * pixels + p, mask=p < pixels, other=-1)
    largest = tl.full([BP], float("-inf"), ACC)
    mine = tl.zeros([BP], ACC)
    for start in range(0, classes, BC):
        c = start + tl.arange(0, BC)
        place = (
            n * stride_n + p[:, None].to(tl.int64) * stride_p + c[None, :].to(tl.int64) * stride_c
        )
        mask = (y >= 0)[:, None] & (c < classes)[None, :]
        x = tl.load(scores + place, mask=mask, other=float("-inf")).to(ACC)
        largest = tl.maximum(largest, tl.max(x, 1))
        mine += tl.sum(tl.where(c[None, :] == y[:, None], x, 0.0), 1)
    tl.store(own + n * pixels + p, mine, mask=p < pixels)
    tl.store(right + n * pixels + p, (mine >= largest).to(tl.int8), mask=p < pixels)


@triton.jit
def _of_class(label, right, first, pixels, c, start, BP: tl.constexpr):
    """Pixels of a block, which are labelled c, and which of these are predicted right."""
    p = start + tl.arange(0, BP)
    y = tl.load(label + first + p, mask=p < pixels, other=-1)
    r = tl.load(right + first + p, mask=p < pixels, other=0)
    return p, y == c, (y == c) & (r != 0)


@triton.jit
def _next_best(
    own, label, right, first, pixels, c, rights, last, last_p, BP: tl.constexpr, ACC: tl.constexpr
):
    """The candidate that comes after ``last`` by score, then row order; ``pixels`` for none."""
    best = tl.full([1], float("-inf"), ACC)
    best_p = tl.full([1], 0, tl.int32) + pixels
    for start in range(0, pixels, BP):
        p, mine, good = _of_class(label, right, first, pixels, c, start, BP)
        mine = tl.where(rights > 0, good, mine)
        x = tl.load(own + first + p, mask=mine, other=float("-inf"))
        mine = mine & ((x < last) | ((x == last) & (p > last_p)))
        top = tl.max(tl.where(mine, x, float("-inf")), 0)
        top_p = tl.min(tl.where(mine & (x == top), p, pixels), 0)
        better = (top_p < pixels) & ((best_p == pixels) | (top > best))
        best = tl.where(better, top, best)
        best_p = tl.where(better, top_p, best_p)
    return best, best_p


@triton.jit
def choose(
    own, right, label, share, counts, classes, pixels, most,
    BP: tl.constexpr, CORRECT_ONLY: tl.constexpr, MEAN: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """A program per image and class: its pixels counted, and shares given to the chosen ones."""
    n, c = tl.program_id(0).to(tl.int64) // classes, tl.program_id(0) % classes
    first = n * pixels
    count, rights = 0, 0
    for start in range(0, pixels, BP):
        _, mine, good = _of_class(label, right, first, pixels, c, start, BP)
        count += tl.sum(mine.to(tl.int32))
        rights += tl.sum(good.to(tl.int32))
    tl.store(counts + tl.program_id(0), count.to(ACC))
    if not CORRECT_ONLY:
        rights *= 0
    number = tl.where(rights > 0, rights, count)
    if not MEAN:
        number = tl.minimum(number, most)
    each = tl.full([1], 1.0, ACC) / tl.maximum(number, 1).to(ACC)
    if MEAN:
        for start in range(0, pixels, BP):
            p, mine, good = _of_class(label, right, first, pixels, c, start, BP)
            mine = tl.where(rights > 0, good, mine)
            tl.store(share + first + p, tl.broadcast_to(each, [BP]), mask=mine)
    else:
        last = tl.full([1], float("inf"), ACC)
        last_p = tl.full([1], -1, tl.int32)
        for _ in range(number):
            last, last_p = _next_best(
                own, label, right, first, pixels, c, rights, last, last_p, BP, ACC
            )
            tl.store(share + first + last_p, each, mask=last_p < pixels)


@triton.jit
def gather(
    features, label, share, out, stride_n, stride_d, stride_p, classes, channels, pixels,
    BP: tl.constexpr, BD: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The templates: sums of the chosen pixels' vectors by their shares. Reads only those."""
    item, d = _block(channels, BD)
    n, c = item // classes, item % classes
    total = tl.zeros([BD], ACC)
    for start in range(0, pixels, BP):
        p = start + tl.arange(0, BP)
        y = tl.load(label + n * pixels + p, mask=p < pixels, other=-1)
        w = tl.load(share + n * pixels + p, mask=y == c, other=0.0)
        place = (
            n * stride_n + p[:, None].to(tl.int64) * stride_p + d[None, :].to(tl.int64) * stride_d
        )
        mask = (w > 0)[:, None] & (d < channels)[None, :]
        x = tl.load(features + place, mask=mask, other=0.0).to(ACC)
        total += tl.sum(x * w[:, None], 0)
    tl.store(out + item * channels + d, total, mask=d < channels)


@triton.jit
def _template_block(templates, n, c, d, classes, channels):
    """(BC, BD) of an image's templates, 0 outside their range."""
    place = (n * classes + c[:, None]) * channels + d[None, :]
    mask = (c < classes)[:, None] & (d < channels)[None, :]
    return tl.load(templates + place, mask=mask, other=0.0)


@triton.jit
def _vectors(base, counted, d, channels, stride_d, origin, ACC: tl.constexpr):
    """(BP, BD) of the features less ``origin``, 0 where there is no pixel that counts."""
    mask = counted[:, None] & (d < channels)[None, :]
    x = tl.load(base[:, None] + d[None, :].to(tl.int64) * stride_d, mask=mask, other=0.0).to(ACC)
    return tl.where(mask, x - origin[:, None], 0.0), mask


@triton.jit
def _origin(base, counted, CENTRED: tl.constexpr, BP: tl.constexpr, ACC: tl.constexpr):
    """The first element of each vector; minus it, a constant vector is exactly 0."""
    origin = tl.zeros([BP], ACC)
    if CENTRED:
        origin = tl.load(base, mask=counted, other=0.0).to(ACC)
    return origin


@triton.jit
def _compare(
    base, counted, origin, templates, n, c, stride_d, classes, channels,
    BP: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr, CENTRED: tl.constexpr,
    EPS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """(BP, BC) similarities, and the mean and norm of each vector."""
    dots = tl.zeros([BP, BC], ACC)
    mean, squares = tl.zeros([BP], ACC), tl.zeros([BP], ACC)
    for start in range(0, channels, BD):
        d = start + tl.arange(0, BD)
        x, mask = _vectors(base, counted, d, channels, stride_d, origin, ACC)
        t = _template_block(templates, n, c, d, classes, channels)
        dots += tl.dot(x, tl.trans(t), input_precision="ieee")
        if CENTRED:
            # means and squares of parts combined (Chan, Golub and LeVeque 1983)
            part = tl.minimum(channels - start, BD)
            step = tl.sum(x, 1) / part - mean
            x = tl.where(mask, x - (mean + step)[:, None], 0.0)
            squares += step * step * part * start / (part + start)
            mean += step * part / (part + start)
        squares += tl.sum(x * x, 1)
    norm = tl.sqrt(squares + tl.full([BP], EPS, ACC))
    return dots / norm[:, None], mean, norm


@triton.jit
def similar(
    features, label, templates, counts, pull, push, losses, mean, norm, d_sums, words,
    stride_n, stride_d, stride_p, classes, channels, pixels, words_each,
    BP: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr, CENTRED: tl.constexpr,
    MARGIN: tl.constexpr, EPS: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The forward: norms, similarities, both terms, and the values for the backward."""
    n, p = _block(pixels, BP)
    inside, here = p < pixels, n * pixels + p
    y = tl.load(label + here, mask=inside, other=-1)
    counted = y >= 0
    a = tl.load(pull + n * classes + y, mask=counted, other=0.0)
    b = tl.load(push + n * classes + y, mask=counted, other=0.0)
    base = features + n * stride_n + p * stride_p
    origin = _origin(base, counted, CENTRED, BP, ACC)
    centre, length, loss, d_sum = a * 0, a * 0, a * 0, a * 0
    for word in range(words_each):
        c = word * BC + tl.arange(0, BC)
        similarity, centre, length = _compare(
            base, counted, origin, templates, n, c, stride_d, classes, channels,
            BP, BD, BC, CENTRED, EPS, ACC,
        )  # fmt: skip
        own = c[None, :] == y[:, None]
        present = tl.load(counts + n * classes + c, mask=c < classes, other=0.0) > 0
        hinge = similarity - tl.full([BP, BC], MARGIN, ACC)
        is_open = (hinge > 0) & present[None, :] & counted[:, None] & (own == 0)
        loss += tl.sum(tl.where(own, a[:, None] * (1 - similarity), 0.0), 1)
        loss += tl.sum(tl.where(is_open, b[:, None] * hinge, 0.0), 1)
        d_similarity = tl.where(own, -a[:, None], tl.where(is_open, b[:, None], 0.0))
        d_sum += tl.sum(d_similarity * similarity, 1)
        bits = is_open.to(tl.int64) << tl.arange(0, BC)[None, :].to(tl.int64)
        place = words + (n * words_each + word) * pixels + p
        tl.store(place, tl.sum(bits, 1).to(tl.int32), mask=inside)
    tl.store(losses + tl.program_id(0), tl.sum(loss))
    if CENTRED:
        tl.store(mean + here, centre, mask=inside)
    tl.store(norm + here, length, mask=inside)
    tl.store(d_sums + here, d_sum, mask=inside)


@triton.jit
def _similarity_gradients(words, pull, push, n, p, y, word, classes, pixels, words_each,
                   BC: tl.constexpr):  # fmt: skip
    """(BP, BC): the loss's gradient with respect to the similarity of a pixel and a template."""
    counted = y >= 0
    a = tl.load(pull + n * classes + y, mask=counted, other=0.0)
    b = tl.load(push + n * classes + y, mask=counted, other=0.0)
    bits = tl.load(words + (n * words_each + word) * pixels + p, mask=counted, other=0)
    is_open = ((bits[:, None] >> tl.arange(0, BC)[None, :]) & 1) != 0
    own = (word * BC + tl.arange(0, BC))[None, :] == y[:, None]
    return tl.where(own, -a[:, None], tl.where(is_open, b[:, None], 0.0))


@triton.jit
def _unit_vectors(
    features, mean, norm, n, p, d, counted, stride_n, stride_d, stride_p, channels, pixels,
    CENTRED: tl.constexpr, BP: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """(BP, BD) of the vectors as compared, and their norms."""
    base = features + n * stride_n + p * stride_p
    origin = _origin(base, counted, CENTRED, BP, ACC)
    x, mask = _vectors(base, counted, d, channels, stride_d, origin, ACC)
    if CENTRED:
        centre = tl.load(mean + n * pixels + p, mask=counted, other=0.0)
        x = tl.where(mask, x - centre[:, None], 0.0)
    length = tl.load(norm + n * pixels + p, mask=counted, other=1.0)
    return x / length[:, None], length


@triton.jit
def template_gradients(
    features, label, pull, push, mean, norm, words, out,
    stride_n, stride_d, stride_p, classes, channels, pixels, words_each,
    BP: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr, CENTRED: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """(N, C, D): the loss's gradient with respect to the unit templates, where they have one."""
    item, d = _block(channels, BD)
    n, word = item // words_each, item % words_each
    total = tl.zeros([BC, BD], ACC)
    for start in range(0, pixels, BP):
        p = (start + tl.arange(0, BP)).to(tl.int64)
        y = tl.load(label + n * pixels + p, mask=p < pixels, other=-1)
        g = _similarity_gradients(words, pull, push, n, p, y, word, classes, pixels, words_each, BC)
        x, _ = _unit_vectors(
            features, mean, norm, n, p, d, y >= 0, stride_n, stride_d, stride_p, channels, pixels,
            CENTRED, BP, ACC,
        )  # fmt: skip
        total += tl.dot(tl.trans(g), x, input_precision="ieee")
    c = word * BC + tl.arange(0, BC)
    place = (n * classes + c[:, None]) * channels + d[None, :]
    tl.store(out + place, total, mask=(c < classes)[:, None] & (d < channels)[None, :])


@triton.jit
def feature_gradients(
    features, label, templates, pull, push, mean, norm, d_sums, words, share, d_template, factor,
    out, stride_n, stride_d, stride_p, out_n, out_d, out_p, classes, channels, pixels, words_each,
    BP: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr, CENTRED: tl.constexpr,
    LEARNED: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """The backward: (sum over classes of d_similarity * template - d_sum * unit vector) / norm."""
    item, d = _block(channels, BD)
    blocks = tl.cdiv(pixels, BP)
    n, p = item // blocks, (item % blocks) * BP + tl.arange(0, BP)
    y = tl.load(label + n * pixels + p, mask=p < pixels, other=-1)
    counted = y >= 0
    total = tl.zeros([BP, BD], ACC)
    for word in range(words_each):
        g = _similarity_gradients(words, pull, push, n, p, y, word, classes, pixels, words_each, BC)
        c = word * BC + tl.arange(0, BC)
        t = _template_block(templates, n, c, d, classes, channels)
        total += tl.dot(g, t, input_precision="ieee")
    x, length = _unit_vectors(
        features, mean, norm, n, p, d, counted, stride_n, stride_d, stride_p, channels, pixels,
        CENTRED, BP, ACC,
    )  # fmt: skip
    d_sum = tl.load(d_sums + n * pixels + p, mask=counted, other=0.0)
    total = (total - d_sum[:, None] * x) / length[:, None]
    if LEARNED:
        w = tl.load(share + n * pixels + p, mask=counted, other=0.0)
        place = (n * classes + y)[:, None] * channels + d[None, :]
        mask = (w > 0)[:, None] & (d < channels)[None, :]
        total += w[:, None] * tl.load(d_template + place, mask=mask, other=0.0)
    total = tl.where(counted[:, None], total * tl.load(factor), 0.0)
    place = n * out_n + p[:, None] * out_p + d[None, :].to(tl.int64) * out_d
    tl.store(out + place, total, mask=(p < pixels)[:, None] & (d < channels)[None, :])
