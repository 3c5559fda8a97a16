"""A model and its settings as one call: image in, ``Segmentation`` out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from caffe_port.crf import CRFParameters
from caffe_port.data.images import Bytes, PathLike, read_bgr
from caffe_port.datasets import dataset as find_dataset
from caffe_port.errors import UsageError
from caffe_port.evaluation.figures import class_names
from caffe_port.evaluation.network import Floats
from caffe_port.evaluation.refinement import CRFFactory
from caffe_port.evaluation.score_net import Mean, ScoreNet, Size, preprocessing
from caffe_port.evaluation.test_time import InferenceOptions, merged_scores
from caffe_port.prediction.segmentation import Segmentation

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

    from caffe_port.inference.engines import Engine
    from caffe_port.model_info import CRFColours, ModelInfo
    from caffe_port.net import Net

    ImageLike = PathLike | npt.NDArray[Any] | Image.Image


class Segmenter:
    """Segments images of any size with one model.

    As DeepLab's scripts do it, an image smaller than the crop is padded to it with the mean, below
    and on the right; a larger one is covered by windows of the crop's size that overlap. With
    ``whole_image`` the net's input has the image's size instead.

    Args:
        model: a ``Net``; a prototxt; a .pt or .safetensors that remembers its prototxt; or a model
            folder. What is known of the model (``Net.info``) gives blob, mean, names and colours.
        weights: of a prototxt.
        blob: the score blob; found in the net when absent.
        crop: height and width of the net's input; the net's own when absent, else 513.
        mean: blue, green, red; when absent what the model states, that of the net's data layer, or
            VOC's.
        names: of the classes, or a file with one a line; when absent the data set's, the
            model's, VOC's for 21 classes, or numbers.
        dataset: gives names and colours: a name that ``caffe_port.datasets`` knows, or a JSON
            file that describes one; when absent that which the model was converted with.
        crf: dense CRF: a preset, settings as ``caffe-port evaluate --crf`` takes them,
            ``CRFParameters``, or "model" for that which the model states.
        crf_colours: "layer" (blue green red minus the mean, as Caffe's DenseCRF layer) or "rgb";
            when absent the model's with ``crf="model"``, else "layer".
        device: where the net runs, as torch names it; where it is, when absent.
        optimized, engine: run it as ``Net.optimized`` does.
        load_options: what else ``caffe_port.load`` takes, such as ``variables``.
        options: fields of ``InferenceOptions``: scales, flip, merge, whole_image, overlap, batch.
    Raises:
        CaffePortError: the model cannot be loaded or used so.
    Examples:
        >>> import caffe_port as cp
        >>> run = "examples/shapes_voc/caffe_run"
        >>> net = cp.load(
        ...     f"{run}/recording/net.prototxt", f"{run}/model/train_iter_2400.caffemodel"
        ... )
        >>> segment = cp.Segmenter(net, names="examples/shapes_voc/class_names.txt")
        >>> result = segment("examples/shapes_voc/JPEGImages/shape_val_0001.jpg")
        >>> result.labels.shape
        (120, 160)
        >>> [one.name for one in result.found]
        ['background', 'disc', 'ring', 'triangle']

        Scales, flips and the CRF:

        >>> segment = cp.Segmenter(net, scales=(0.75, 1), flip=True, crf="v1_largefov")
    """

    def __init__(
        self,
        model: Net | PathLike,
        weights: PathLike | None = None,
        *,
        blob: str | None = None,
        crop: Size | None = None,
        mean: Mean | None = None,
        names: Sequence[str] | PathLike | None = None,
        dataset: PathLike | None = None,
        crf: str | CRFParameters | None = None,
        crf_colours: CRFColours | None = None,
        device: str | None = None,
        optimized: bool = False,
        engine: Engine = "auto",
        load_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.options = _options(options)
        net = _loaded(model, weights, load_options or {})
        if device is not None:
            net = net.to(device)
        info = net.info
        self.mean, self.scale = preprocessing(net, mean)
        self.scores = ScoreNet(
            net.eval(), blob or info.blob, crop=crop, optimized=optimized, engine=engine
        )
        classes = self.scores.classes
        self.names, self.colours = _names_and_colours(names, dataset, info, classes)
        if isinstance(crf, str):
            crf, crf_colours = info.chosen_crf(crf, crf_colours)
        self.crf = None if crf is None else CRFFactory(crf, crf_colours or "layer", self.mean)

    def __call__(self, image: ImageLike) -> Segmentation:
        """Segments one image.

        Args:
            image: a file; (h, w, 3) uint8 red green blue, or (h, w) grey; or a Pillow image.
        Raises:
            DataError: the file cannot be read.
            UsageError: it is no such image, or the net or the CRF cannot be used on its size.
        """
        bgr = as_bgr(image)
        return self.finish(bgr, next(self.predict_scores([bgr])))

    def predict_scores(self, images_bgr: Iterable[Bytes]) -> Iterator[Floats]:
        """Scores of images, in order; at most ``options.batch`` of them are under way.

        Args:
            images_bgr: each (h, w, 3) uint8, blue first.
        Yields:
            (C, h, w) float32.
        """
        inputs = (self.network_input(image) for image in images_bgr)
        with torch.inference_mode():
            for scores in merged_scores(inputs, self.scores, self.options):
                yield scores.cpu().numpy()

    def finish(self, image_bgr: Bytes, scores: Floats, *, threads: int = 1) -> Segmentation:
        """What follows the network: the CRF, if there is one.

        Args:
            image_bgr: (h, w, 3) uint8, blue first.
            scores: (C, h, w) float32.
            threads: of the CRF.
        Raises:
            UsageError: the CRF's widths are too small for an image of this size.
        """
        image = np.ascontiguousarray(image_bgr[:, :, ::-1])
        refined = self._refined(image_bgr, scores, threads)
        return Segmentation(image, scores, self.names, refined, self.colours)

    def _refined(self, image_bgr: Bytes, scores: Floats, threads: int) -> Floats | None:
        if self.crf is None:
            return None
        crf = self.crf.crf(scores, image_bgr, threads)
        return crf.infer(-scores, self.crf.parameters.iterations)

    def network_input(self, image_bgr: Bytes) -> torch.Tensor:
        """(3, h, w) float32: the image minus the mean, times the scale.

        Args:
            image_bgr: (h, w, 3) uint8, blue first.
        """
        pixels = image_bgr.astype(np.float32) - np.array(self.mean, np.float32)
        if self.scale != 1:
            pixels *= np.float32(self.scale)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))

    def describe(self) -> dict[str, object]:
        """What, besides the model's files, decides a result; as JSON."""
        crf = None if self.crf is None else self.crf.describe()
        crop = {} if self.options.whole_image else {"crop": list(self.scores.crop)}
        return {
            "blob": self.scores.blob, "mean": list(self.mean), "scale": self.scale, "crf": crf,
            "names": list(self.names),
            "colours": hashlib.sha256(self.colours.tobytes()).hexdigest()[:16],
            **crop, **self.options.describe(),
        }  # fmt: skip


def _options(given: dict[str, Any]) -> InferenceOptions:
    try:
        return InferenceOptions(**given)
    except TypeError:
        known = InferenceOptions.__dataclass_fields__
        unknown = ", ".join(name for name in given if name not in known)
        raise UsageError(f"unknown option {unknown}; options: {', '.join(known)}") from None


def _loaded(model: Net | PathLike, weights: PathLike | None, options: dict[str, Any]) -> Net:
    from caffe_port.loading import load
    from caffe_port.net import Net

    if isinstance(model, Net):
        if weights is not None or options:
            raise UsageError("a Net is given: weights and load_options are for files")
        return model
    expect_weights(model, weights)
    return load(model, weights, **options)


def expect_weights(model: PathLike, weights: PathLike | None) -> None:
    """Refuses a prototxt alone, whose net would have random weights.

    Raises:
        UsageError: it is one.
        ReadError: the model cannot be read.
    """
    from caffe_port.files import is_text, read_head

    if weights is None and is_text(read_head(model)):
        raise UsageError(
            f"{os.fspath(model)}: a prototxt holds no weights; give its weights as the second "
            "argument, such as a .caffemodel"
        )


def _names_and_colours(
    names: Sequence[str] | PathLike | None, dataset: PathLike | None, info: ModelInfo, classes: int
) -> tuple[list[str], Bytes]:
    """Names and colours of the classes, see ``Segmenter``.

    Args:
        names, dataset: of the caller.
        info: of the model, whose names are of its own score blob.
        classes: the number of the network's.
    Raises:
        UsageError: another number of names or classes than the network has.
    """
    colours = info.colours()
    if dataset is not None:
        described = find_dataset(dataset)
        colours, names = described.colours, described.classes if names is None else names
    elif info.classes and len(info.classes) == classes:
        names = info.classes if names is None else names
    if names is None or isinstance(names, str | os.PathLike):
        return class_names(classes, names), colours
    if len(names) != classes:
        raise UsageError(f"{len(names)} class names for a network of {classes} classes")
    return list(names), colours


def as_bgr(image: ImageLike) -> Bytes:
    """An image as the reader of files gives it: (h, w, 3) uint8, blue first.

    Raises:
        DataError: a file cannot be read.
        UsageError: an array of another shape or type.
    """
    from PIL import Image

    if isinstance(image, str | os.PathLike):
        return read_bgr(Path(image))
    pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if pixels.dtype != np.uint8 or pixels.shape[2:] not in ((), (3,)) or pixels.ndim not in (2, 3):
        raise UsageError(
            f"the image is {pixels.shape} {pixels.dtype}; expected (h, w, 3) uint8, red green "
            "blue, or (h, w) uint8"
        )
    if min(pixels.shape[:2]) < 1:
        raise UsageError(f"the image is {pixels.shape}: it has no pixels")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[:, :, None], 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, ::-1])
