"""Parts of emitted modules where torch alone differs from Caffe.

Their source text is copied into modules, so each needs only torch and others of this file. All of
it is TorchScript too, which has lists of integers, not tuples of any length.
"""

# ruff: noqa: RUF005 - TorchScript cannot unpack into a list

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class BatchNorm(nn.Module):
    """Caffe's BatchNorm on stored statistics: (x - mean) / sqrt(variance + eps)."""

    mean: Tensor
    variance: Tensor
    factor: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.register_buffer("factor", torch.ones(1))  # both are stored times this

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.where(self.factor == 0, torch.zeros_like(self.factor), 1 / self.factor)
        shape = [-1] + [1] * (x.dim() - 2)
        mean, variance = self.mean * scale, self.variance * scale
        return (x - mean.reshape(shape)) / (variance + self.eps).sqrt().reshape(shape)


class Scale(nn.Module):
    """Multiplies by a weight laid over x from an axis on; may add a bias."""

    def __init__(self, shape: tuple[int, ...], axis: int = 1, bias: bool = False) -> None:
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        shape = list(self.weight.shape) + [1] * (x.dim() - self.axis - self.weight.dim())
        x = x * self.weight.reshape(shape)
        return x if self.bias is None else x + self.bias.reshape(shape)


class Bias(nn.Module):
    """Adds a bias laid over x from an axis on."""

    def __init__(self, shape: tuple[int, ...], axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        shape = list(self.bias.shape) + [1] * (x.dim() - self.axis - self.bias.dim())
        return x + self.bias.reshape(shape)


class BN(nn.Module):
    """SegNet's BN: scale and shift, first normalized by the batch's statistics where it learns."""

    def __init__(self, channels: int, learn: bool) -> None:
        super().__init__()
        self.learn = learn
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.learn:
            deviation = x - x.mean((0, 2, 3), keepdim=True)
            variance = deviation.square().mean((0, 2, 3), keepdim=True)
            x = deviation / (variance + 1e-9).sqrt()
        return x * self.scale + self.shift


class RunningBN(nn.Module):
    """PSPNet's BN, and NVCaffe's with a factor: running statistics, then scale and shift."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, eps: float, factor: bool = False) -> None:
        super().__init__()
        self.eps = eps
        one = torch.ones([channels] if factor else [1, channels, 1, 1])
        self.scale, self.shift = nn.Parameter(one), nn.Parameter(0 * one)
        buffers = {"mean": 0 * one, "variance": one.clone()}
        for name in [*buffers, "factor"] if factor else buffers:
            self.register_buffer(name, buffers.get(name, torch.ones(1)))  # factor is not read

    def forward(self, x: Tensor) -> Tensor:
        shape = [-1] + [1] * (x.dim() - 2)
        x = (x - self.mean.reshape(shape)) * (self.variance + self.eps).rsqrt().reshape(shape)
        return x * self.scale.reshape(shape) + self.shift.reshape(shape)


class Embed(nn.Module):
    """Rows of a table, looked up by index; may add a bias."""

    def __init__(self, rows: int, length: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(rows, length))
        self.bias = nn.Parameter(torch.zeros(length)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        found = F.embedding(x.long(), self.weight)
        return found if self.bias is None else found + self.bias


class InnerProduct(nn.Module):
    """A fully connected layer whose weight is stored (in, out)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class Normalize(nn.Module):
    """weight * x / sqrt(eps + sum of squares), over an item's channels or all of it."""

    def __init__(self, channels: int | None, across_spatial: bool, eps: float) -> None:
        super().__init__()
        self.across_spatial, self.eps = across_spatial, eps
        shape: tuple[int, ...] = () if channels is None else (channels,)
        self.weight = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        axes = list(range(1, x.dim())) if self.across_spatial else [1]
        norm = (x.square().sum(axes, keepdim=True) + self.eps).sqrt()
        weight: Tensor = self.weight
        if weight.dim() > 0:
            weight = weight.reshape([-1] + [1] * (x.dim() - 2))
        return x / norm * weight


class Parameter(nn.Module):
    """A learned blob."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))


def lay_over(blob: Tensor, x: Tensor, axis: int) -> Tensor:
    """A blob with 1s appended to its shape so that it lies over x from an axis on."""
    axis = axis % x.dim() if blob.dim() > 0 else 0
    return blob.reshape(list(blob.shape) + [1] * (x.dim() - axis - blob.dim()))


def pooled_size(size: int, kernel: int, stride: int, pad: int, padded: bool, ceil: bool) -> int:
    """Caffe's output size: rounded up, less a last window that starts beyond x and its padding."""
    span = size + 2 * pad - kernel
    out = (-(-span // stride) if ceil else span // stride) + 1
    return out - 1 if padded and (out - 1) * stride >= size + pad else out


def pooling_frame(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    ceil: bool,
    fill: float,
) -> Tensor:
    """Pads x so that exactly Caffe's windows lie inside."""
    frame: list[int] = []
    for i in (1, 0):
        size = x.shape[2 + i]
        out = pooled_size(size, kernel[i], stride[i], pad[i], max(pad) > 0, ceil)
        right = (out - 1) * stride[i] + kernel[i] - size - pad[i]
        frame += [pad[i], right]  # a negative one cuts off what no window covers
    return F.pad(x, frame, value=fill)


def max_pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    ceil: bool = True,
) -> tuple[Tensor, Tensor]:
    """Maximum of each of Caffe's windows, and its row * width + column (-1 for an empty one)."""
    lowest = -3.4028234663852886e38  # -FLT_MAX
    framed = pooling_frame(x, kernel, stride, pad, ceil, lowest)
    top, index = F.max_pool2d(framed, kernel, stride, return_indices=True)
    row = index // framed.shape[3] - pad[0]
    column = index % framed.shape[3] - pad[1]
    inside = (row >= 0) & (row < x.shape[2]) & (column >= 0) & (column < x.shape[3])
    mask = torch.where(inside, row * x.shape[3] + column, -1)
    return top, mask.to(x.dtype)


def ave_pool(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    ceil: bool = True,
) -> Tensor:
    """Average of each of Caffe's windows; what hangs over beyond the padding does not count."""
    framed = pooling_frame(x, kernel, stride, pad, ceil, 0.0)
    top = F.avg_pool2d(framed, kernel, stride, divisor_override=1)
    areas = []
    for i in (0, 1):
        start = torch.arange(top.shape[2 + i], device=x.device) * stride[i]
        areas.append((start + kernel[i]).clamp(max=x.shape[2 + i] + 2 * pad[i]) - start)
    return top / (areas[0][:, None] * areas[1]).to(x.dtype)


def spp(x: Tensor, levels: int, average: bool) -> Tensor:
    """Caffe's SPP: pools in 1 x 1, 2 x 2, 4 x 4, .. bins and joins the levels, flattened."""
    pooled = []
    for bins in [1 << level for level in range(levels)]:
        kernel = [-(-x.shape[2] // bins), -(-x.shape[3] // bins)]
        over = [kernel[0] * bins - x.shape[2], kernel[1] * bins - x.shape[3]]
        pad = [(over[0] + 1) // 2, (over[1] + 1) // 2]
        whole = ave_pool(x, kernel, kernel, pad) if average else max_pool(x, kernel, kernel, pad)[0]
        pooled.append(whole)
    return pooled[0] if levels == 1 else torch.cat([p.flatten(1) for p in pooled], 1)


def unpool(x: Tensor, mask: Tensor, height: int, width: int) -> Tensor:
    """Zeros, with x's values at the places a pooling's mask names; of several the last stays."""
    values, index = x.flatten(0, 1).flatten(1), mask.long().flatten(0, 1).flatten(1)
    position = torch.arange(values.shape[1], device=x.device).expand_as(index)
    last = index.new_full((len(index), height * width), -1)
    last.scatter_reduce_(1, index, position, "amax")
    found = values.gather(1, last.clamp(min=0))
    top = torch.where(last >= 0, found, torch.zeros_like(found))
    return top.reshape(x.shape[0], x.shape[1], height, width)


def cover(x: Tensor, kernel: list[int], pad: list[int], dilation: list[int]) -> Tensor:
    """Appends the zeros that a window of Caffe's reads where it is larger than the padded x."""
    behind: list[int] = []
    for i in range(1, len(kernel) + 1):
        extent = dilation[-i] * (kernel[-i] - 1) + 1
        behind += [0, max(extent - x.shape[-i] - 2 * pad[-i], 0)]
    return F.pad(x, behind)


def im2col(
    x: Tensor,
    kernel: list[int],
    stride: list[int],
    pad: list[int],
    dilation: list[int],
    axis: int = 1,
) -> Tensor:
    """Each window's values laid out along the channel axis."""
    axes, sizes = len(kernel), x.shape
    around: list[int] = []
    for i in range(1, axes + 1):
        extent = dilation[-i] * (kernel[-i] - 1) + 1
        around += [pad[-i], max(extent - sizes[-i] - pad[-i], pad[-i])]
    columns = F.pad(x, around)
    for i in range(axes):
        columns = columns.unfold(axis + 1 + i, dilation[i] * (kernel[i] - 1) + 1, stride[i])
        columns = columns[..., :: dilation[i]]
    windows = list(range(axis + 1 + axes, axis + 1 + 2 * axes))
    columns = columns.movedim(windows, list(range(axis + 1, axis + 1 + axes)))
    return columns.flatten(axis, axis + axes)


def lrn_within_channel(x: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    """Caffe's LRN over a window of each channel: x * (1 + alpha * mean of squares) ^ -beta."""
    pad = (size - 1) // 2
    mean = ave_pool(x.square(), [size, size], [1, 1], [pad, pad])
    return x * (mean * alpha + 1).pow(-beta)


def tapped(x: Tensor, axis: int, first: list[int], second: list[int], share: list[float]) -> Tensor:
    """A mix of two places of an axis for each new place, by the share of the second."""
    low = x.index_select(axis, torch.tensor(first, device=x.device))
    high = x.index_select(axis, torch.tensor(second, device=x.device))
    weight = torch.tensor(share, dtype=x.dtype, device=x.device)
    return low + (high - low) * weight.reshape([-1] + [1] * (x.dim() - 1 - axis))


def reorg(x: Tensor, stride: int, reverse: bool = False) -> Tensor:
    """YOLO v2's exchange of pixels for channels, in darknet's order."""
    (n, c, h, w), fewer = x.shape, x.shape[1] // (stride * stride)
    if reverse:
        x = x.reshape(n, stride, stride, fewer, h, w).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, fewer, h * stride, w * stride)
    x = x.reshape(n, fewer, h, stride, w, stride).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, c * stride * stride, h // stride, w // stride)


def interp(
    x: Tensor,
    height: int = 0,
    width: int = 0,
    zoom: int = 1,
    shrink: int = 1,
    crop: tuple[int, int] = (0, 0),
) -> Tensor:
    """DeepLab's Interp: crops before and behind, then resizes bilinearly, corner on corner."""
    x = x[:, :, crop[0] : x.shape[2] - crop[1], crop[0] : x.shape[3] - crop[1]]
    size = [height, width]
    if height == 0:
        size = [(side - 1) // shrink * zoom + 1 for side in x.shape[2:]]
    if list(x.shape[2:]) == size:
        return x.clone()
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def mvn(x: Tensor, variance: bool, across_channels: bool, eps: float) -> Tensor:
    """Caffe's MVN: less the mean, divided by standard deviation + eps."""
    shape = (list(x.shape) + [1, 1, 1])[:4]
    rows = x.reshape(shape[0] if across_channels else shape[0] * shape[1], -1)
    rows = rows - rows.mean(1, keepdim=True)
    if variance:
        rows = rows / (rows.square().mean(1, keepdim=True).sqrt() + eps)
    return rows.reshape(shape)


def top_k(x: Tensor, k: int, axis: int) -> tuple[Tensor, Tensor]:
    """The k largest along an axis and their indices; of equals the highest index comes first."""
    values, order = torch.sort(x.flip(axis), dim=axis, descending=True, stable=True)
    index = x.shape[axis] - 1 - order.narrow(axis, 0, k)
    return values.narrow(axis, 0, k), index.to(x.dtype)


def prior_boxes(
    features: Tensor, image: Tensor, sides: list[list[float]], variance: list[float],
    given: list[list[float]], offset: float, clip: bool,
) -> Tensor:  # fmt: skip
    """SSD's boxes around each cell of a feature map, and their variances: (1, 2, 4 K)."""
    sizes = given[0] if given[0][0] > 0 else [float(image.shape[2]), float(image.shape[3])]
    centres: list[Tensor] = []
    for i in range(2):  # centres are float32, what follows double
        cells = features.shape[2 + i]
        step = torch.tensor(sizes[i], dtype=torch.float32) / cells
        if given[1][0] > 0:
            step = torch.tensor(given[1][i], dtype=torch.float32)
        centres.append(((torch.arange(cells, dtype=torch.float32) + offset) * step).double())
    y, x = centres[0][:, None, None], centres[1][None, :, None]
    half = torch.tensor(sides, dtype=torch.float64) / 2
    grid = [features.shape[2], features.shape[3], len(sides)]
    ends = [(x - half[:, 0]).expand(grid), (y - half[:, 1]).expand(grid)]
    ends = ends + [(x + half[:, 0]).expand(grid), (y + half[:, 1]).expand(grid)]
    scales = [sizes[1], sizes[0], sizes[1], sizes[0]]
    boxes = torch.stack([ends[i] / scales[i] for i in range(4)], -1).float().reshape(-1, 4)
    if clip:
        boxes = boxes.clamp(0, 1)
    row = torch.tensor(variance, dtype=torch.float32).expand(boxes.shape)
    return torch.stack([boxes.reshape(-1), row.reshape(-1)])[None].to(features)


def chosen(x: Tensor, selector: Tensor) -> Tensor:
    """The items whose selector is not 0."""
    return x.index_select(0, selector.flatten().nonzero().flatten())


def counted_labels(labels: Tensor, ignore: list[int]) -> tuple[Tensor, Tensor]:
    """Labels as indices, 0 where ignored, and which are not ignored."""
    label = labels.detach().long()
    counted = torch.ones_like(label, dtype=torch.bool)
    for value in ignore:
        counted = counted & (label != value)
    return label.masked_fill(~counted, 0), counted


def image_bias(
    scores: Tensor, labels: Tensor, ignore: list[int], background: float, foreground: float
) -> Tensor:
    """DeepLab's BiasChannel: each label of an item raises its channel, label 0 by less."""
    label, counted = counted_labels(labels.flatten(1), ignore)
    count = counted.to(scores.dtype)
    each = torch.where(label == 0, count * background, count * foreground)
    bias = torch.zeros_like(scores[:, :, 0, 0]).scatter_add(1, label, each)
    return scores + bias[:, :, None, None]


def pixel_bias(
    scores: Tensor,
    labels: Tensor,
    ignore: list[int],
    background: float,
    foreground: float,
    base: int = -1,
) -> Tensor:
    """DeepLab's BiasChannel: a pixel's label raises its channel; all raise the background's."""
    label, counted = counted_labels(labels[:, 0], ignore)
    each = counted.to(scores.dtype) * foreground
    if base >= 0:
        each = each.masked_fill(label == base, 0)
    bias = torch.zeros_like(scores).scatter_add(1, label[:, None], each[:, None])
    if base >= 0:
        bias[:, base] += counted * background
    return scores + bias
