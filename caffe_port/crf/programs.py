"""DeepLab's programs prog_refine_pascal and prog_refine_pascal_v4, which refine whole folders."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caffe_port.crf.dense_crf import DenseCRF, map_labels
from caffe_port.crf.files import (
    MAT_SUFFIX,
    SUFFIXES,
    is_probabilities,
    read_array,
    read_bin,
    read_scores,
    write_array,
    write_bin,
)
from caffe_port.errors import CaffePortError, DataError, FormatError, UsageError
from caffe_port.files import read_json, write_text

Kind = Literal["bin", "mat", "npy", "npz", "h5"]
KIND_SUFFIXES: dict[Kind, str] = {
    "bin": ".bin", "mat": MAT_SUFFIX, "npy": ".npy", "npz": ".npz", "h5": ".h5",
}  # fmt: skip
IMAGE_SUFFIXES = (".ppm", ".jpg", ".jpeg", ".png", ".PPM", ".JPG", ".JPEG", ".PNG")
RECORD = "crf.json"
LARGEST_IN_PNG = 255


@dataclass(frozen=True)
class Kernels:
    """Weights and widths of the two kernels, by axis and channel."""

    iterations: int
    position_width: tuple[float, float]
    position_weight: float
    bilateral_width: tuple[float, float]
    colour_width: tuple[float, float, float]
    bilateral_weight: float


# Source: refine_pascal's and refine_pascal_v4's own settings.
DEFAULTS: dict[Kind, Kernels] = {
    "bin": Kernels(10, (3, 3), 3, (60, 60), (20, 20, 20), 10),
    "mat": Kernels(10, (3, 3), 3, (70, 70), (5, 5, 5), 5),
}
DEFAULTS |= dict.fromkeys(("npy", "npz", "h5"), DEFAULTS["mat"])


@dataclass(frozen=True)
class Item:
    """One image: its name, its features and its file."""

    name: str
    features: Path
    image: Path | None


def find_kind(features: Path) -> Kind:
    """The kind of a folder's files: .bin probabilities, .mat scores, or arrays of either.

    Raises:
        UsageError: there is none, or more than one.
    """
    kinds = KIND_SUFFIXES.items()
    found = [kind for kind, suffix in kinds if any(features.glob(f"*{suffix}"))]
    if len(found) == 1:
        return found[0]
    if found:
        held = "both " + " and ".join(f"*{KIND_SUFFIXES[kind]}" for kind in found)
    else:
        held = f"neither *.bin nor *{MAT_SUFFIX} nor *.npy, *.npz or *.h5"
    raise UsageError(f"{features} holds {held} files; expected one kind (--kind)")


def find_items(images: Path, features: Path, kind: Kind) -> list[Item]:
    """The images that a folder of features has, by name."""
    suffix = KIND_SUFFIXES[kind]
    items = []
    for path in sorted(features.glob(f"*{suffix}")):
        name = path.name[: -len(suffix)]
        candidates = (images / f"{name}{ending}" for ending in IMAGE_SUFFIXES)
        items.append(Item(name, path, next((p for p in candidates if p.is_file()), None)))
    return items


def read_item_image(item: Item) -> NDArray[np.uint8]:
    """The image (H, W, 3) of an item, red first.

    Raises:
        DataError: it is missing or broken.
    """
    from caffe_port.data.images import read_rgb

    if item.image is None:
        raise DataError(f"{item.features}: there is no image {item.name}.ppm, .jpg or .png")
    return read_rgb(item.image)


def unary_of(path: Path, kind: Kind, height: int, width: int) -> NDArray[np.float32]:
    """Energies (C, height, width): -log of probabilities, unclipped, or -scores cut to that size.

    An array that is 0 to 1 and sums to 1 at each pixel is taken for probabilities.

    Raises:
        CaffePortError: the file is broken, or not of the image's size.
    """
    if kind not in ("bin", "mat"):
        array = read_array(path)
        if array.ndim == 3 and not is_probabilities(array.astype(np.float32, copy=False)):
            return _of_scores(path, array.astype(np.float32, copy=False), height, width)
        return _of_probabilities(path, array, height, width)
    if kind == "mat":
        return _of_scores(path, read_scores(path), height, width)
    return _of_probabilities(path, read_bin(path), height, width)


def _of_scores(
    path: Path, scores: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    if scores.shape[1] < height or scores.shape[2] < width:
        raise DataError(f"{path}: scores {scores.shape} do not cover {height} x {width} pixels")
    return -scores[:, :height, :width]


def _of_probabilities(path: Path, p: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    if p.ndim != 3 or p.shape[1:] != (height, width):
        raise DataError(f"{path}: shape {p.shape}; expected (C, {height}, {width})")
    if not p.min() >= 0:
        raise DataError(f"{path}: a probability is negative or NaN")
    with np.errstate(divide="ignore"):
        return -np.log(p.astype(np.float32, copy=False))


def refine_item(
    item: Item, kind: Kind, kernels: Kernels, *, threads: int = 1
) -> NDArray[np.float32]:
    """The probabilities (C, H, W) of one image.

    Raises:
        CaffePortError: a file is missing, broken or of another size.
    """
    image = read_item_image(item)
    unary = unary_of(item.features, kind, *image.shape[:2])
    try:
        height, width = image.shape[:2]
        crf = DenseCRF(height, width, len(unary), threads=threads)
        crf.add_gaussian(kernels.position_width, weight=kernels.position_weight)
        crf.add_bilateral(
            kernels.bilateral_width, kernels.colour_width, image, weight=kernels.bilateral_weight
        )
        return crf.infer(unary, kernels.iterations)
    except UsageError as error:
        raise DataError(f"{item.features}: {error}") from error


def write_item(folder: Path, name: str, q: NDArray[np.float32], *, png: bool, array: str) -> None:
    """Writes what was asked for and then NAME.bin, which marks the image as done.

    Args:
        folder: where to.
        name: of the image.
        q: its probabilities (C, H, W).
        png: whether to write NAME.png; labels above 255 get none.
        array: the kind of the file of probabilities, a name of ``files.SUFFIXES``, or ''.
    """
    from caffe_port.data.images import write_labels

    labels = map_labels(q)
    if array:
        write_array(folder / f"{name}{SUFFIXES[array]}", q, "probabilities")
    if png and labels.max() <= LARGEST_IN_PNG:
        write_labels(folder / f"{name}.png", labels.astype(np.uint8))
    write_bin(folder / f"{name}.bin", labels)


def unfinished(
    items: list[Item], folder: Path, kernels: Kernels, kind: Kind, *, png: bool, array: str = ""
) -> list[Item]:
    """Items without results that are newer than their files and made with the same settings."""
    settings = json.loads(json.dumps({"kind": kind, **asdict(kernels)}))
    record = folder / RECORD
    try:
        same = read_json(record) == settings
    except FormatError:
        same = False
    if not same:
        write_text(record, json.dumps(settings, indent=1) + "\n")
        return items
    done = (item for item in items if _is_done(item, folder, record))
    kept = {
        item.name
        for item in done
        if not (png and _lacks_png(folder, item.name))
        and (not array or (folder / f"{item.name}{SUFFIXES[array]}").is_file())
    }
    return [item for item in items if item.name not in kept]


def _is_done(item: Item, folder: Path, record: Path) -> bool:
    result = folder / f"{item.name}.bin"
    if item.image is None or not result.is_file():
        return False
    sources = (item.features, item.image, record)
    return result.stat().st_mtime_ns >= max(path.stat().st_mtime_ns for path in sources)


def _lacks_png(folder: Path, name: str) -> bool:
    """Whether a PNG could hold the label map but is missing."""
    if (folder / f"{name}.png").is_file():
        return False
    try:
        return bool(read_bin(folder / f"{name}.bin").max() <= LARGEST_IN_PNG)
    except CaffePortError:
        return True


def refine_items(
    items: list[Item],
    folder: Path,
    kind: Kind,
    kernels: Kernels,
    *,
    jobs: int,
    png: bool,
    array: str = "",
) -> Iterator[tuple[Item, CaffePortError | OSError | None]]:
    """Refines images on several threads and writes each; after an error the others continue.

    Yields:
        Each item in turn, with its error or None.
    """
    alone = len(items) == 1 and jobs > 1

    def work(item: Item) -> CaffePortError | OSError | None:
        try:
            q = refine_item(item, kind, kernels, threads=jobs if alone else 1)
            write_item(folder, item.name, q, png=png, array=array)
        except (CaffePortError, OSError) as error:
            return error
        return None

    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from zip(items, pool.map(work, items), strict=True)
        except GeneratorExit:
            pool.shutdown(cancel_futures=True)
            raise
