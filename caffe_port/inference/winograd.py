"""3 x 3 convolution by Winograd's F(2 x 2, 3 x 3), in torch's own matrix products.

Each 2 x 2 block of the result comes from a 4 x 4 block d of the bottom:

    Y = A' [ (G g G') * (B' d B) ] A

The products over channels become 16 matrix products with 2.25 times fewer multiplications than the
sum over 9 taps; B' and A' only add and subtract. Sums run over C terms, not over 9 C: the result is
as close to the exact one as a direct convolution's, or closer. (Larger blocks, as F(4 x 4, 3 x 3),
lose a digit.)

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2016, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

#: Blocks per chunk, measured: few enough for the cache of a core, enough that the products pay for
#: reading the filters again. Fixed, so that the numbers are the same on every machine.
_BLOCKS = 100
_G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


def transform_filters(weight: Tensor) -> Tensor:
    """G g G' of each filter.

    Args:
        weight: (O, C, 3, 3), best in float64.
    Returns:
        (16, C, O) of the same type.
    """
    g = torch.tensor(_G, dtype=weight.dtype, device=weight.device)
    return torch.einsum("ai,ocij,bj->abco", g, weight, g).flatten(0, 1).contiguous()


@dataclass(frozen=True)
class _Chunk:
    """Blocks that are computed together: those of whole images, or of rows of one image."""

    images: slice
    rows: slice


class Winograd:
    """A 3 x 3 convolution of stride 1 whose padding is its dilation, and the ReLU after it.

    A convolution of dilation d is d * d plain ones, each over every d-th row and column.

    Args:
        filters: from ``transform_filters``.
        bias: (O,), or None.
        dilation: d of both axes.
        slope: of the ReLU for negative values; None for none.
    """

    def __init__(
        self, filters: Tensor, bias: Tensor | None, dilation: int, slope: float | None
    ) -> None:
        self._filters, self._bias, self._dilation, self._slope = filters, bias, dilation, slope

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, O, H, W), in channels_last."""
        pixels = x.permute(0, 2, 3, 1)
        images = self._images(pixels)
        top = x.new_empty(*pixels.shape[:3], self._filters.shape[2])
        height, width = images.shape[1] // 2 - 1, images.shape[2] // 2 - 1
        buffers = _Buffers(images, self._filters, height, width)
        for chunk in buffers.chunks():
            self._write(top, chunk, buffers.results(chunk, self._bias))
        return top.permute(0, 3, 1, 2)

    def _phases(self, pixels: Tensor) -> Iterator[Tensor]:
        """Every d-th row and column of each image, one after the other."""
        d = self._dilation
        for image in pixels:
            for row in range(d):
                for column in range(d):
                    yield image[row::d, column::d]

    def _images(self, pixels: Tensor) -> Tensor:
        """The phases padded with 0 to even numbers of rows and columns: (N d d, H', W', C)."""
        d = self._dilation
        height, width = (2 * -(-size // (2 * d)) + 2 for size in pixels.shape[1:3])
        images = pixels.new_zeros(pixels.shape[0] * d * d, height, width, pixels.shape[3])
        for image, phase in zip(images, self._phases(pixels), strict=True):
            image[1 : phase.shape[0] + 1, 1 : phase.shape[1] + 1] = phase
        return images

    def _write(self, top: Tensor, chunk: _Chunk, results: list[list[Tensor]]) -> None:
        phases = list(self._phases(top))[chunk.images]
        for number, phase in enumerate(phases):
            for i in (0, 1):
                for j in (0, 1):
                    place = phase[2 * chunk.rows.start + i : 2 * chunk.rows.stop : 2, j::2]
                    part = results[i][j][number, : place.shape[0], : place.shape[1]]
                    if self._slope is None:
                        place.copy_(part)
                    elif self._slope == 0:
                        torch.clamp_min(part, 0, out=place)
                    else:
                        place.copy_(functional.leaky_relu(part, self._slope))


class _Buffers:
    """The transformed blocks and products of one chunk, in memory that the next chunk reuses."""

    def __init__(self, images: Tensor, filters: Tensor, height: int, width: int) -> None:
        self._images, self._filters = images, filters
        self._height, self._width = height, width
        count, channels, tops = images.shape[0], filters.shape[1], filters.shape[2]
        self._group = min(count, max(1, _BLOCKS // (height * width)))
        self._rows = min(height, max(1, _BLOCKS // width))
        size = self._group * self._rows * width
        self._half = images.new_empty(4 * self._group * self._rows * (2 * width + 2) * channels)
        self._blocks = images.new_empty(16 * size * channels)
        self._products = images.new_empty(16 * size * tops)
        self._sums = images.new_empty(8 * size * tops)

    def chunks(self) -> Iterator[_Chunk]:
        """The chunks, which cover all blocks."""
        count = self._images.shape[0]
        for first in range(0, count, self._group):
            for row in range(0, self._height, self._rows):
                yield _Chunk(
                    slice(first, min(first + self._group, count)),
                    slice(row, min(row + self._rows, self._height)),
                )

    def results(self, chunk: _Chunk, bias: Tensor | None) -> list[list[Tensor]]:
        """Y[i][j] of every block: (images, rows, columns, O), before the ReLU."""
        shape = (chunk.images.stop - chunk.images.start, chunk.rows.stop - chunk.rows.start)
        blocks = self._transformed(chunk, shape)
        m = self._take(self._products, 4, 4, *shape, self._width, self._filters.shape[2])
        torch.bmm(blocks, self._filters, out=m.view(16, -1, m.shape[-1]))
        s = self._take(self._sums, 2, 4, *shape, self._width, m.shape[-1])
        torch.add(m[0], m[1], out=s[0]).add_(m[2])
        torch.sub(m[1], m[2], out=s[1]).sub_(m[3])
        for row in s:
            if bias is not None:
                row[0].add_(bias)
                row[3].sub_(bias)
            row[0].add_(row[1]).add_(row[2])
            row[1].sub_(row[2]).sub_(row[3])
        return [[row[0], row[1]] for row in s]

    def _transformed(self, chunk: _Chunk, shape: tuple[int, int]) -> Tensor:
        """B' d B of every block: (16, blocks, C)."""
        rows, columns = shape[1], self._width
        d = self._images[chunk.images, 2 * chunk.rows.start : 2 * chunk.rows.stop + 2]
        half = self._take(self._half, 4, *shape, 2 * columns + 2, d.shape[-1])
        _subtract_and_add([d[:, i : i + 2 * rows : 2] for i in range(4)], list(half))
        taken = [half[:, :, :, i : i + 2 * columns : 2] for i in range(4)]
        blocks = self._take(self._blocks, 4, 4, *shape, columns, d.shape[-1])
        _subtract_and_add(taken, [blocks[:, i] for i in range(4)])
        return blocks.view(16, -1, d.shape[-1])

    @staticmethod
    def _take(memory: Tensor, *shape: int) -> Tensor:
        return memory[: math.prod(shape)].view(shape)


def _subtract_and_add(d: list[Tensor], out: list[Tensor]) -> None:
    """B' along one axis."""
    torch.sub(d[0], d[2], out=out[0])
    torch.add(d[1], d[2], out=out[1])
    torch.sub(d[2], d[1], out=out[2])
    torch.sub(d[1], d[3], out=out[3])
