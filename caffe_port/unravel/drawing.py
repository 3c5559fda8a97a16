"""Drawings of traced points: dots on the image, and heat maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe_port.reports.images import resized, scale
from caffe_port.unravel.points import Points

if TYPE_CHECKING:
    from PIL import Image


Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height, width

NEAR_RADIUS = 0.02  # of the canvas's diagonal
MIN_NEAR = 0.05  # of all points: with at most this share near it, a point is an outlier
HEAT_SHARE = 0.6

# from no heat over blue, green and yellow to red
_COLOURS = np.array(
    [[40, 60, 190], [20, 150, 220], [60, 200, 110], [250, 215, 50], [225, 40, 30]], np.float64
)


def clustered(points: Points, canvas: Size) -> Points:
    """The points that are not outliers.

    A point is kept where more than 5 % of all points, itself included, are nearer to it than 2 % of
    the canvas's diagonal. A pixel with points in several channels counts for each.

    Args:
        points: (P, 3) channel, y, x in the input.
        canvas: the input's height and width (upstream: always 513 by 513).
    Source: Seg-Unravel.
    """
    if not len(points):
        return points
    from scipy.spatial import cKDTree

    places = points[:, 1:].astype(np.float64)
    # the tree counts points at the radius too, which are not nearer
    radius = np.nextafter(NEAR_RADIUS * math.hypot(*canvas), 0)
    near = cKDTree(places).query_ball_point(places, radius, return_length=True)
    kept: Points = points[near > MIN_NEAR * len(points)]
    return kept


def spread(canvas: Size) -> float:
    """Standard deviation of a point's heat in pixels.

    Upstream draws dots of 75 * (height + width) / 875 pixels (87 on 513 by 513) that fade out
    towards their edge, which is taken as two standard deviations.
    """
    return 75 * sum(canvas) / 875 / 4


def density(points: Points, canvas: Size) -> Floats:
    """A Gaussian density over the canvas, its peak 1; zeros where there are no points.

    Args:
        points: (P, 3) channel, y, x in the input.
        canvas: height and width.
    Returns:
        (height, width).
    """
    from scipy.ndimage import gaussian_filter

    counts = np.zeros(canvas)
    np.add.at(counts, (points[:, 1], points[:, 2]), 1.0)
    heat: Floats = gaussian_filter(counts, spread(canvas), mode="constant", truncate=3)
    return heat / heat.max() if len(points) else heat


def heat_map(points: Points, canvas: Size) -> Floats:
    """The density without outliers; of all points where all are outliers (upstream stops)."""
    kept = clustered(points, canvas)
    return density(kept if len(kept) else points, canvas)


def overlay(image: Bytes, heat: Floats) -> Bytes:
    """An image blended with its heat: 0.4 image and 0.6 heat, less heat where it is low.

    Args:
        image: (h, w, 3) uint8 RGB; the upper left part of the canvas.
        heat: (H, W) in 0..1, at least as large.
    Returns:
        (h, w, 3) uint8.
    """
    own = heat[: image.shape[0], : image.shape[1]]
    steps = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(own, steps, _COLOURS[:, i]) for i in range(3)], 2)
    # heat of at least a tenth of the peak is drawn in full, as upstream's dots are
    share = HEAT_SHARE * np.clip(own * 10, 0, 1)[:, :, None]
    blended: Bytes = np.rint(image * (1 - share) + colour * share).astype(np.uint8)
    return blended


YELLOW = (255, 225, 0)
DARK = (20, 20, 20)
SMALLEST, LARGEST = 320, 640  # pixels of the longer side of a drawing


def enlargement(size: tuple[int, int]) -> float:
    """The factor by which an image of that height and width is enlarged, or reduced."""
    return scale(size, SMALLEST, LARGEST)


def with_points(
    image: Bytes, places: npt.NDArray[np.floating], *, radius: float = 2.5
) -> Image.Image:
    """The image with a dot at every place; dimmed a little, so that the dots can be seen.

    Args:
        image: (h, w, 3) uint8 RGB.
        places: (P, 2) y, x in the image; those outside of it are left out.
        radius: of a dot, in pixels of the result.
    """
    from PIL import Image, ImageDraw

    factor = enlargement((image.shape[0], image.shape[1]))
    drawing = resized(Image.fromarray((image * 0.75).astype(np.uint8)), factor)
    draw = ImageDraw.Draw(drawing)
    inside = (places >= -0.5).all(1) & (places < np.array(image.shape[:2]) - 0.5).all(1)
    for y, x in (places[inside] + 0.5) * factor:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), YELLOW, DARK)
    return drawing
