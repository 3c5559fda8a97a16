"""Small problems for the CRF that look like real ones: blocks of colour and of scores."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tests.goldens_dir import SHAPES


def problem(height, width, labels, seed=0):
    """An image (H, W, 3) uint8 of noisy blocks, and unary energies (labels, H, W) float32."""
    rng = np.random.default_rng(seed)

    def blocks(*channels):
        coarse = rng.normal(size=(*channels, height // 5 + 1, width // 5 + 1))
        return coarse.repeat(5, -2).repeat(5, -1)[..., :height, :width]

    colours = 128 + 60 * blocks(3) + 4 * rng.normal(size=(3, height, width))
    image = np.ascontiguousarray(colours.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    unary = 2 * blocks(labels) + 0.5 * rng.normal(size=(labels, height, width))
    return image, unary.astype(np.float32)


def photograph(labels):
    """A photograph of the bundled example, and scores that only blocks of it agree on."""
    path = sorted((SHAPES / "JPEGImages").glob("*.jpg"))[0]
    with Image.open(path) as file:
        image = np.ascontiguousarray(file.convert("RGB"))
    _, unary = problem(*image.shape[:2], labels=labels, seed=7)
    return image, unary * np.float32(0.5)
