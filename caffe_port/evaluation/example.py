"""The bundled example, and how a result on it differs from real Caffe's."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caffe_port.crf import CRFParameters
from caffe_port.crf.params import from_mapping
from caffe_port.data.images import PathLike, read_labels
from caffe_port.errors import DataError, UsageError
from caffe_port.evaluation.figures import Reference, class_names, read_reference
from caffe_port.evaluation.pipeline import Result
from caffe_port.files import read_json

CROP = 161  # of the example's test net


@dataclass(frozen=True)
class Difference:
    """Number of pixels whose label differs from Caffe's, before and after the CRF, and of all."""

    before: int
    after: int
    pixels: int

    def rows(self, result: Result, caffe: Reference) -> list[list[str]]:
        """Two table rows: stage, our mean IoU, Caffe's, points apart, pixels that differ."""
        rows = []
        stages = (("before", result.before, self.before), ("after", result.after, self.after))
        for (when, matrix, differing), theirs in zip(stages, caffe.mean_iou, strict=True):
            assert matrix is not None
            assert theirs is not None
            ours = matrix.mean_iou()
            figures = [f"{100 * ours:.3f}", f"{100 * theirs:.3f}", f"{100 * (ours - theirs):+.4f}"]
            rows.append([f"{when} the CRF", *figures, f"{differing:,} of {self.pixels:,}"])
        return rows


HEADERS = ("mean IoU, %", "caffe_port", "Caffe", "points apart", "labels that differ")


class Example:
    """examples/shapes_voc: a model that real Caffe trained, with Caffe's results.

    Args:
        root: its folder.
    Raises:
        UsageError: the folder is not that of the example.
        DataError: Caffe's result is malformed.
    """

    def __init__(self, root: PathLike) -> None:
        self.root = Path(root)
        self.run = self.root / "caffe_run"
        result = self.run / "result_val.json"
        if not result.is_file():
            raise UsageError(
                f"the example is not in {self.root}; it comes with a checkout of the project: "
                "name its examples/shapes_voc with --example"
            )
        self.recording = self.run / "recording"
        self.prototxt = self.recording / "net.prototxt"  # test.prototxt's net with a plain input
        self.weights = self.run / "model" / "train_iter_2400.caffemodel"
        self.caffe = read_reference(result, "Caffe")
        if None in self.caffe.mean_iou:
            raise DataError(f"{result}: figures before and after the CRF are needed")
        self.crf_parameters = _crf_parameters(result)

    def names(self, classes: int) -> list[str]:
        """Names of its classes."""
        return class_names(classes, self.root / "class_names.txt")

    def difference(self, result: Result) -> Difference:
        """Compares every label map on disk with Caffe's.

        Raises:
            DataError: a label map of Caffe's is missing or of another size.
        """
        path, before, after, pixels = self.run / "result_val.npz", 0, 0, 0
        try:
            with np.load(path, allow_pickle=False) as maps:
                for item in result.items:
                    ours = read_labels(result.store.before(item.id))
                    refined = read_labels(result.store.after(item.id))
                    theirs = [maps[f"{key}/{item.id}"] for key in ("raw", "crf")]
                    if {m.shape for m in theirs} != {ours.shape}:
                        raise DataError(f"{path}: the label maps of {item.id} have another size")
                    before += int((ours != theirs[0]).sum())
                    after += int((refined != theirs[1]).sum())
                    pixels += ours.size
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: Caffe's label maps cannot be read: {error}") from error
        return Difference(before, after, pixels)


def find_example() -> Path:
    """The example's folder, in this package's checkout or in the current folder."""
    places = [Path(__file__).resolve().parents[2], Path.cwd()]
    folders = [place / "examples" / "shapes_voc" for place in places]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _crf_parameters(path: Path) -> CRFParameters:
    values = read_json(path)
    try:
        return from_mapping(values["crf_parameters"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: crf_parameters are missing or malformed") from error
