"""A small VOC2012 and SBD on disk, in the layout of the downloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from caffe_port.data.images import Bytes, write_labels

HEIGHT, WIDTH = 18, 24
TRAIN, VAL = ("2007_000003", "2007_000001", "2008_000005"), ("2007_000002", "2008_000006")
SBD_TRAIN = ("2008_000007", "2007_000003", "2007_000002")  # of VOC's train and val, too
SBD_VAL = ("2008_000004",)
AUG = ("2007_000001", "2007_000003", "2008_000004", "2008_000005", "2008_000007")


def labels_of(id: str, source: str) -> Bytes:
    """Labels that tell the image and whose mask it is."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[3:9, 2:13] = int(id[-1])
    labels[10:15, 5:20] = 20 if source == "SBD" else 10
    if source == "VOC":
        labels[9] = 255
    return labels


def write_sbd(path: Path, labels: Bytes) -> None:
    """A .mat file with the struct that SBD's have."""
    boundaries = np.empty((20, 1), object)
    for i in range(20):
        boundaries[i, 0] = np.zeros(labels.shape, np.uint8)
    fields = {"Boundaries": boundaries, "Segmentation": labels, "CategoriesPresent": [1.0, 20.0]}
    savemat(path, {"GTcls": fields}, do_compression=True)


def write_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> None:
    """A photograph of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path, "JPEG", quality=80)


def make(root: Path) -> tuple[Path, Path]:
    """Writes both downloads; returns VOC2012 and SBD's dataset."""
    voc, sbd = root / "VOCdevkit" / "VOC2012", root / "benchmark_RELEASE" / "dataset"
    lists = voc / "ImageSets" / "Segmentation"
    for folder in (lists, voc / "JPEGImages", voc / "SegmentationClass", sbd / "cls"):
        folder.mkdir(parents=True)
    for name, ids in (("train", TRAIN), ("val", VAL), ("trainval", sorted(TRAIN + VAL))):
        (lists / f"{name}.txt").write_text("".join(f"{id}\n" for id in ids))
    for name, ids in (("train", SBD_TRAIN), ("val", SBD_VAL)):
        (sbd / f"{name}.txt").write_text("".join(f"{id}\n" for id in ids))
    for id in {*TRAIN, *VAL, *SBD_TRAIN, *SBD_VAL}:
        write_image(voc / "JPEGImages" / f"{id}.jpg")
    for id in (*TRAIN, *VAL):
        write_labels(voc / "SegmentationClass" / f"{id}.png", labels_of(id, "VOC"))
    for id in (*SBD_TRAIN, *SBD_VAL):
        write_sbd(sbd / "cls" / f"{id}.mat", labels_of(id, "SBD"))
    return voc, sbd
