"""A net as a function from an image to class scores of the same size, with its preprocessing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from caffe_port.data.images import Bytes
from caffe_port.errors import CaffePortError, DataError, UsageError, echo, option
from caffe_port.evaluation.network import (
    VOC_MEAN,
    Floats,
    Settings,
    data_blob,
    image_size,
    refuse_detector,
    resizing,
    score_blob,
)
from caffe_port.plan import make_plan

if TYPE_CHECKING:
    from caffe_port.evaluation.network import NetFactory
    from caffe_port.evaluation.test_time import InferenceOptions
    from caffe_port.inference.engines import Engine
    from caffe_port.model_info import ModelInfo
    from caffe_port.net import Net
    from caffe_port.proto import caffe_pb2
    from caffe_port.spec import LayerSpec, NetSpec


Mean = tuple[float, float, float]  # blue, green, red


def preprocessing(net: Net, mean: Mean | None) -> tuple[Mean, float]:
    """The mean and the scale of images: of ``net.info``, else the data layer's, else VOC's and 1.

    Args:
        net: the network.
        mean: blue, green, red, in place of all of these.
    Raises:
        UsageError: the data layer subtracts an image, and no mean is given.
    """
    return preprocessing_of(net.spec, net.info, mean)


def preprocessing_of(spec: NetSpec, info: ModelInfo, mean: Mean | None) -> tuple[Mean, float]:
    """``preprocessing`` of a net that is not built."""
    own, scale = data_preprocessing(spec)
    scale = (1.0 if scale is None else scale) if info.scale is None else info.scale
    mean = info.mean if mean is None else mean
    if mean is None and (file := _data_layer(spec).transform_param.mean_file):
        raise UsageError(
            f"the net's data layer subtracts the image of {file}, which fits one size only; give "
            f"its mean of blue, green and red: {option('mean', 'B,G,R')}"
        )
    found = mean or own or VOC_MEAN
    if not np.isfinite(found).all():
        raise UsageError(f"the mean must be finite, got {found}")
    return found, scale


def data_preprocessing(spec: NetSpec) -> tuple[Mean | None, float | None]:
    """The mean of blue, green and red, and the scale, that the net's data layer states."""
    layer = _data_layer(spec)
    if not layer.HasField("transform_param"):
        return None, None
    values = [float(value) for value in layer.transform_param.mean_value]
    scale = float(layer.transform_param.scale)
    if len(values) not in (1, 3):
        return None, scale
    return (values[0], values[len(values) // 2], values[-1]), scale


def _data_layer(spec: NetSpec) -> caffe_pb2.LayerParameter:
    data = data_blob(spec)
    return next(layer for layer in spec.layers if data in layer.tops).message


def network_input(image_bgr: Bytes, settings: Settings) -> Floats:
    """The image minus the mean, times the scale, upper left; the padding, being the mean, is 0.

    Args:
        image_bgr: (h, w, 3) uint8, blue first.
    Returns:
        (1, 3, H, W) float32 of the crop's size; with ``inference``, of the image's own.
    Raises:
        DataError: the image is larger than the crop.
    """
    height, width = image_bgr.shape[:2]
    pixels = (image_bgr.astype(np.float32) - np.array(settings.mean, np.float32)).transpose(2, 0, 1)
    pixels *= np.float32(settings.scale)
    if settings.inference is not None:
        return np.ascontiguousarray(pixels)[None]
    crop_height, crop_width = settings.crop
    if height > crop_height or width > crop_width:
        side = 8 * -(-(max(height, width) - 1) // 8) + 1
        raise DataError(
            f"the image is {width}x{height}, larger than the crop {crop_width}x{crop_height}; "
            f"give a crop that holds every image, such as {side}, or cover it by windows: "
            f"{option('overlap', 0.33)}"
        )
    padded = np.zeros((1, 3, crop_height, crop_width), np.float32)
    padded[0, :, :height, :width] = pixels
    return padded


Size = tuple[int, int]  # height, width

_SEARCHED = 256  # sizes that are tried above an image's own
#: Fewest images for which a measurement of the engines pays.
_MEASURED = 30


class ScoreNet:
    """A net as a function from input to class scores of the input's size.

    Args:
        net: the net, on its device.
        blob: the score blob; found by ``score_blob`` when absent. In place of what a Softmax or
            ArgMax layer makes, its bottom is read.
        crop: height and width of a window; what the prototxt says when absent.
        optimized, engine: run it as ``Net.optimized`` does.
    Raises:
        UsageError: there is no such blob, or the net cannot take inputs of the crop's size.
    """

    def __init__(
        self,
        net: Net,
        blob: str | None = None,
        *,
        crop: Size | None = None,
        optimized: bool = False,
        engine: Engine = "auto",
    ) -> None:
        self.net, self.data = net, data_blob(net.spec)
        self.blob = before_softmax(net.spec, blob or score_blob(net.spec))
        self.crop = crop or image_size(net.spec)
        self._resizes = resizing(net.spec, self.blob)
        self._small = self._resizes[0].bottoms[0] if self._resizes else self.blob
        self._run = net.optimized(engine=engine) if optimized else net
        self._planning, self._planned = threading.Lock(), False
        self._sides: dict[int, int] = {}
        self._found: dict[Size, tuple[Size, Size] | None] = {}
        self._check()

    def _check(self) -> None:
        shape = self.net.spec.shapes.get(self.blob)
        if shape is None or len(shape) != 4 or not 2 <= shape[1] <= 255:
            refuse_detector(self.net.spec)
            found = "is not a blob of the net" if shape is None else f"has shape {shape}"
            raise UsageError(
                f"the score blob '{self.blob}' {found}; expected (1, classes, height, width) of 2 "
                f"to 255 classes; name another: {option('blob', 'NAME')}"
            )
        channels = self.net.spec.shapes[self.data][1:2]
        if channels != (3,):
            raise UsageError(
                f"the input '{self.data}' has shape {self.net.spec.shapes[self.data]}; expected "
                "images of 3 channels"
            )
        if not self.takes(self.crop):
            height, width = self.size_for(self.crop)
            raise UsageError(
                f"inputs of {self.crop[0]}x{self.crop[1]} (height x width) give scores of another "
                f"size; the next size that fits is {height}x{width}: give it as the crop"
            )

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.net.spec.shapes[self.blob][1]

    @cached_property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.net.parameters(), torch.empty(0)).device

    @cached_property
    def _layers(self) -> list[LayerSpec]:
        """What is run for the scores."""
        fed, kept = frozenset({self.data}), frozenset({self.blob})
        return [step.layer for step in make_plan(self.net.spec, fed, kept, False).steps]

    def takes(self, size: Size) -> bool:
        """Whether scores of inputs of that size lie corner on corner with them."""
        found = self._score_sizes(size)
        return found is not None and (found[1] == size or _aligned(found[0], size))

    def size_for(self, size: Size) -> Size:
        """The smallest input that holds an image of that size and that the net takes.

        Raises:
            UsageError: there is none, as for a net with an InnerProduct layer.
        """
        return self._side_for(size[0]), self._side_for(size[1])

    def _side_for(self, side: int) -> int:
        if side not in self._sides:
            sides = range(side, side + _SEARCHED)
            found = next((n for n in sides if self.takes((n, n))), None)
            if found is None:
                raise UsageError(
                    f"the net '{self.net.spec.name}' takes no input of {side} to {sides[-1]} "
                    f"pixels a side whose scores in '{self.blob}' lie corner on corner with it: "
                    f"name the blob of full resolution, {option('blob', 'NAME')}, or do not ask a "
                    "net of one size for whole images"
                )
            self._sides[side] = found
        return self._sides[side]

    def _score_sizes(self, size: Size) -> tuple[Size, Size] | None:
        """Height and width of the scores before and after their last Interp layers.

        None for a size that some layer refuses.
        """
        if size not in self._found:
            shapes = self._shapes(size)
            self._found[size] = None if shapes is None else (
                _plane(shapes[self._small]), _plane(shapes[self.blob]),
            )  # fmt: skip
        return self._found[size]

    def _shapes(self, size: Size) -> dict[str, tuple[int, ...]] | None:
        shapes: dict[str, tuple[int, ...]] = {self.data: (1, 3, *size)}
        for layer in self._layers:
            bottoms = [shapes[blob] for blob in layer.bottoms]
            try:
                tops = list(layer.op.top_shapes(bottoms))
                if not _parameters_fit(layer, bottoms) or min(map(min, tops)) < 1:
                    return None
            except ValueError:
                return None
            shapes |= dict(zip(layer.tops, tops + tops[:1] * len(layer.tops), strict=False))
        return shapes

    def __call__(self, inputs: Tensor) -> Tensor:
        """Scores of a batch.

        Args:
            inputs: (N, 3, H, W) float32, blue green red minus the mean, of a size it takes.
        Returns:
            (N, C, H, W) float32.
        Raises:
            UsageError: the scores are not finite.
            LayerError: a layer cannot run.
        """
        size = (inputs.shape[2], inputs.shape[3])
        with contextlib.nullcontext() if self._planned else self._planning, torch.inference_mode():
            blobs = self._run({self.data: inputs.to(self.device)}, keep=[self._small])
            self._planned = True  # the plan of the first call is shared by all others
            scores = blobs[self._small].float()
            for layer in self._resizes if self._is_whole(size) else ():
                (scores,) = self.net.run_layer(layer.name, [scores])
            if not bool(torch.isfinite(scores).all()):
                raise UsageError("the scores are not finite: are these the right weights?")
            return interp(scores, size)

    def _is_whole(self, size: Size) -> bool:
        """Whether the net's own Interp layers give scores of the input's size."""
        found = self._score_sizes(size)
        return found is not None and found[1] == size


def with_engine(
    factory: NetFactory,
    crop: Size,
    *,
    images: int | None,
    threads: int | None = None,
    inference: InferenceOptions | None = None,
    earlier: object = None,
) -> NetFactory:
    """A network with the engine that is the fastest for images of that size.

    It is chosen before the first image, so that one engine computes all results of a run.

    Args:
        factory: of the network; one that is not optimized stays as it is.
        crop: height and width of the network's inputs.
        images: how many there are, None if unknown; where no measurement is remembered and there
            are few, torch computes, as a measurement would take longer than it saves.
        threads: that compute one pass; torch's number by default.
        inference: scales, flips and the rest.
        earlier: what ``describe`` gave for the results that are to be continued; their engine is
            used where it is installed.
    Raises:
        UsageError: the engine is not installed, or does not compute on the device.
    """
    if not factory.optimized:
        return factory
    from caffe_port.inference.engines import expect_installed, installed, version_of

    expect_installed(factory.engine)
    if factory.engine not in ("auto", "torch") and not factory.on_cpu:
        raise UsageError(f"the engine {factory.engine} is for the CPU, not for {factory.device}")
    if factory.engine != "auto":
        return factory
    stated = earlier.get("engine") if isinstance(earlier, dict) else None
    for engine in installed():
        if version_of(engine) == stated:
            return factory.using(engine)
    return factory.using(_fastest(factory, crop, images, threads, inference))


def _fastest(
    factory: NetFactory,
    crop: Size,
    images: int | None,
    threads: int | None,
    inference: InferenceOptions | None,
) -> Engine:
    """The fastest engine, see ``with_engine``."""
    from caffe_port.inference import fastest_engine

    if not factory.on_cpu:
        return "torch"
    try:
        spec = factory.spec
        blob = factory.blob or factory.info.blob or score_blob(spec)
        if inference is not None:
            blob = before_softmax(spec, blob)
        resizes = resizing(spec, blob)
        shapes = {data_blob(spec): (1 if inference is None else inference.batch, 3, *crop)}
        return fastest_engine(
            spec,
            factory.load,
            shapes,
            [resizes[0].bottoms[0] if resizes else blob],
            threads=threads or torch.get_num_threads(),
            measuring=_announce if images is None or images >= _MEASURED else None,
        )
    except CaffePortError:
        return "torch"  # the run itself says what is wrong


def _announce() -> None:
    echo("measuring which engine is the fastest; the answer is remembered", err=True)


def before_softmax(spec: NetSpec, blob: str) -> str:
    """The scores that a blob of probabilities or of labels is made of; else the blob itself."""
    while True:
        writers = [layer for layer in spec.layers if blob in layer.tops]
        if len(writers) != 1 or writers[0].type not in ("Softmax", "ArgMax", "Split"):
            return blob
        blob = writers[0].bottoms[0]


def interp(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resizes as Caffe's Interp layer: bilinear, corner on corner.

    Args:
        x: (N, C, H, W) or (C, H, W) float32.
        size: new height and width.
    Returns:
        x itself where it has that size.
    Source: DeepLab v2 interp.cpp, caffe_cpu_interp2.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    batch = x if x.dim() == 4 else x[None]
    resized = functional.interpolate(batch, tuple(size), mode="bilinear", align_corners=True)
    return resized if x.dim() == 4 else resized[0]


def _aligned(scores: Size, size: Size) -> bool:
    """Whether every score is at a pixel's position if the corners are."""
    return all(
        n == m == 1 or (n > 1 and (m - 1) % (n - 1) == 0) for n, m in zip(scores, size, strict=True)
    )


def _plane(shape: Sequence[int]) -> Size:
    return shape[2], shape[3]


def _parameters_fit(layer: LayerSpec, bottoms: list[tuple[int, ...]]) -> bool:
    """Whether the layer's parameters have the shapes that these bottoms ask for."""
    asked = layer.op.params(bottoms)
    pairs = zip(layer.params, asked, strict=False)
    return all(own.owner is not None or own.shape == new.shape for own, new in pairs)
