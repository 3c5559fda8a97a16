"""Test-time options the slow and obvious way: loops over pixels and windows, in float64."""

from __future__ import annotations

import math

import numpy as np
import torch


def resized(planes, height, width):
    """Caffe's Interp: bilinear, corner on corner, at positions in float32."""
    old_height, old_width = planes.shape[1:]
    result = np.zeros((len(planes), height, width))
    for y in range(height):
        top, share_y = position(y, old_height, height)
        bottom = min(top + 1, old_height - 1)
        for x in range(width):
            left, share_x = position(x, old_width, width)
            right = min(left + 1, old_width - 1)
            upper = (1 - share_x) * planes[:, top, left] + share_x * planes[:, top, right]
            lower = (1 - share_x) * planes[:, bottom, left] + share_x * planes[:, bottom, right]
            result[:, y, x] = (1 - share_y) * upper + share_y * lower
    return result


def position(place, old, new):
    """The element before a place, and how far the place is behind it."""
    ratio = np.float32(old - 1) / np.float32(new - 1) if new > 1 else np.float32(0)
    exact = ratio * np.float32(place)
    return int(exact), float(exact - np.float32(int(exact)))


def run(net, blob, planes):
    """The net's scores of one input."""
    with torch.no_grad():
        data = torch.from_numpy(planes[None].astype(np.float32))
        return net({"data": data}, keep=[blob])[blob][0].numpy().astype(np.float64)


def windowed(net, blob, planes, crop, overlap):
    """Scores of an image of any size: padded to the crop, or windows of it, averaged."""
    _, height, width = planes.shape
    total, count = None, np.zeros((height, width))
    for y in starts(height, crop[0], overlap):
        for x in starts(width, crop[1], overlap):
            tile = np.zeros((3, *crop))
            for i in range(crop[0]):
                for j in range(crop[1]):
                    if y + i < height and x + j < width:
                        tile[:, i, j] = planes[:, y + i, x + j]
            scores = run(net, blob, tile)
            if total is None:
                total = np.zeros((len(scores), height, width))
            for i in range(min(crop[0], height - y)):
                for j in range(min(crop[1], width - x)):
                    total[:, y + i, x + j] += scores[:, i, j]
                    count[y + i, x + j] += 1
    return total / count


def starts(side, crop, overlap):
    """0, and steps of the crop less the overlap; the last window ends with the image."""
    found = [0]
    while found[-1] + crop < side:
        found.append(min(found[-1] + math.floor(crop * (1 - overlap)), side - crop))
    return found


def whole(net, blob, planes, multiple):
    """Scores of an input of the next size that is 1 more than a multiple of something."""
    _, height, width = planes.shape
    sizes = [multiple * math.ceil((side - 1) / multiple) + 1 for side in (height, width)]
    tile = np.zeros((3, *sizes))
    tile[:, :height, :width] = planes
    return run(net, blob, tile)[:, :height, :width]


def merged(net, blob, rgb, mean, *, scales, flip, merge, crop, overlap=1 / 3, multiple=None):
    """(C, h, w) scores of an image under test-time options."""
    planes = rgb[:, :, ::-1].astype(np.float64).transpose(2, 0, 1)
    planes = planes - np.array(mean)[:, None, None]
    height, width = planes.shape[1:]
    found = []
    for scale in scales:
        size = [1 + math.floor(scale * (side - 1)) for side in (height, width)]
        scaled = resized(planes, *size)
        for mirrored in (False, True) if flip else (False,):
            given = scaled[:, :, ::-1] if mirrored else scaled
            if multiple is None:
                scores = windowed(net, blob, given, crop, overlap)
            else:
                scores = whole(net, blob, given, multiple)
            scores = scores[:, :, ::-1] if mirrored else scores
            found.append(resized(scores, height, width))
    return np.max(found, axis=0) if merge == "max" else np.mean(found, axis=0)
