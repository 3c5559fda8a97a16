"""transform_param, which Data, ImageData, MemoryData and WindowData share."""

from __future__ import annotations

from dataclasses import dataclass

from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import expect


@dataclass(frozen=True)
class Transform:
    """How items are made into blobs: (pixel - mean) * scale, cropped and mirrored.

    Attributes:
        scale: multiplies what the mean leaves.
        mirror: flips half of the items.
        crop_size: side of a square crop, 0 for none.
        mean_file: a mean image, or ''.
        mean_values: one per channel, one for all, or none.
        color: how encoded records are read: True in colour, False in grey, None as they are.
    Source: BVLC/caffe data_transformer.cpp.
    """

    scale: float = 1.0
    mirror: bool = False
    crop_size: int = 0
    mean_file: str = ""
    mean_values: tuple[float, ...] = ()
    color: bool | None = None

    @classmethod
    def parse(cls, o: caffe_pb2.TransformationParameter) -> Transform:
        expect(
            not (o.mean_file and len(o.mean_value)), "mean_file and mean_value exclude one another"
        )
        expect(
            not (o.force_color and o.force_gray), "force_color and force_gray exclude one another"
        )
        expect(
            not (o.scale_factors or o.crop_height or o.crop_width),
            "scale_factors, crop_height and crop_width are of ImageSegData only",
        )
        color = True if o.force_color else False if o.force_gray else None
        return cls(o.scale, o.mirror, o.crop_size, o.mean_file, tuple(o.mean_value), color)

    def draws(self, phase: str) -> bool:
        """Whether Caffe's transformer takes random numbers: it mirrors, or crops in TRAIN."""
        return self.mirror or (phase == "TRAIN" and self.crop_size > 0)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what an item of this size becomes."""
        crop = self.crop_size
        expect(crop <= min(height, width), f"crop_size {crop} of an item of {width}x{height}")
        return (crop, crop) if crop else (height, width)
