"""Pictures of traced points: on the image, and as heat maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from caffe_port.reports.images import resized, scale
from caffe_port.unravel.points import Points

if TYPE_CHECKING:
    from PIL import Image


# Where a label's points are dense: outliers left out, then a Gaussian density.

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Size = tuple[int, int]  # height, width

NEAR = 0.02  # of the canvas's diagonal
FEWEST = 0.05  # of all points
HEAT_SHARE = 0.6

# how hot: from none over blue, green and yellow to red
_COLOURS = np.array(
    [[40, 60, 190], [20, 150, 220], [60, 200, 110], [250, 215, 50], [225, 40, 30]], np.float64
)


def clustered(points: Points, canvas: Size) -> Points:
    """The points that are not alone.

    A point stays when more than 5 % of all points, itself among them, are nearer to it than 2 % of
    the canvas's diagonal. A pixel that several channels have points in counts for each.

    Args:
        points: (P, 3) channel, y, x in the input.
        canvas: the input's height and width (upstream: always 513 by 513).
    Source: Seg-Unravel.
    """
    if not len(points):
        return points
    from scipy.spatial import cKDTree

    places = points[:, 1:].astype(np.float64)
    # "nearer than": the tree's radius would count those just as far
    radius = np.nextafter(NEAR * math.hypot(*canvas), 0)
    near = cKDTree(places).query_ball_point(places, radius, return_length=True)
    kept: Points = points[near > FEWEST * len(points)]
    return kept


def spread(canvas: Size) -> float:
    """Standard deviation of a point's heat in pixels.

    Upstream draws dots of 75 * (height + width) / 875 pixels (87 on 513 by 513) that fade out
    towards their rim; the rim is taken for two standard deviations.
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
    """The density of the points that are not alone; of all, where every one is (upstream stops)."""
    kept = clustered(points, canvas)
    return density(kept if len(kept) else points, canvas)


def overlay(picture: Bytes, heat: Floats) -> Bytes:
    """A picture under its heat: 0.4 picture and 0.6 heat, fading out where the heat does.

    Args:
        picture: (h, w, 3) uint8 RGB; the upper left part of the canvas.
        heat: (H, W) in 0..1, at least as large.
    Returns:
        (h, w, 3) uint8.
    """
    own = heat[: picture.shape[0], : picture.shape[1]]
    steps = np.linspace(0, 1, len(_COLOURS))
    colour = np.stack([np.interp(own, steps, _COLOURS[:, i]) for i in range(3)], 2)
    # from a tenth of the peak on the heat is drawn in full, as upstream's dots are
    share = HEAT_SHARE * np.clip(own * 10, 0, 1)[:, :, None]
    blended: Bytes = np.rint(picture * (1 - share) + colour * share).astype(np.uint8)
    return blended


# Points on a picture, and pictures as files' bytes.

YELLOW = (255, 225, 0)
DARK = (20, 20, 20)
SMALLEST, LARGEST = 320, 640  # pixels of a drawn picture's longer side


def enlargement(size: tuple[int, int]) -> float:
    """By how much a picture of that height and width is drawn larger (or smaller)."""
    return scale(size, SMALLEST, LARGEST)


def with_points(
    picture: Bytes, places: npt.NDArray[np.floating], *, radius: float = 2.5
) -> Image.Image:
    """The picture with a dot at every place; dimmed a little, so that the dots stand out.

    Args:
        picture: (h, w, 3) uint8 RGB.
        places: (P, 2) y, x in the picture; those outside of it are left out.
        radius: of a dot, in pixels of the result.
    """
    from PIL import Image, ImageDraw

    factor = enlargement((picture.shape[0], picture.shape[1]))
    image = resized(Image.fromarray((picture * 0.75).astype(np.uint8)), factor)
    draw = ImageDraw.Draw(image)
    inside = (places >= -0.5).all(1) & (places < np.array(picture.shape[:2]) - 0.5).all(1)
    for y, x in (places[inside] + 0.5) * factor:
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), YELLOW, DARK)
    return image
