"""The network of an evaluation: its settings, how it is built from files, and its scores."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from caffe_port import files
from caffe_port.data.images import Bytes, PathLike
from caffe_port.datasets.rules import LabelRules
from caffe_port.errors import UsageError, option

if TYPE_CHECKING:
    from caffe_port.evaluation.test_time import InferenceOptions
    from caffe_port.inference.engines import Engine
    from caffe_port.loading import Model
    from caffe_port.model_info import ModelInfo
    from caffe_port.net import Net
    from caffe_port.spec import LayerSpec, NetSpec

Floats = npt.NDArray[np.float32]
Size = tuple[int, int]

VOC_MEAN = (104.008, 116.669, 122.675)  # blue, green, red, as in every DeepLab prototxt


@dataclass(frozen=True)
class Settings:
    """How images are given to the network and how label maps are compared with the truth.

    Args:
        crop: height and width every image is padded to with the mean.
        mean: blue, green, red.
        scale: factor on the image after the mean is subtracted.
        ignore_label: truth pixels that do not count.
        unknown_labels: what to do about truth labels beyond the network's classes: "error", or
            "ignore" them, counted in the result.
        inference: scales, flips and windows; None pads each image to the crop and runs it once,
            and refuses larger images.
        labels: how stored labels become classes, such as ``dataset("cityscapes").rules``; it
            replaces ``ignore_label`` and ``unknown_labels``.
    Raises:
        UsageError: a crop or label out of range.
    """

    crop: Size = (513, 513)
    mean: tuple[float, float, float] = VOC_MEAN
    ignore_label: int = 255
    unknown_labels: Literal["error", "ignore"] = "error"
    inference: InferenceOptions | None = None
    labels: LabelRules | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if min(self.crop) < 1:
            raise UsageError(f"the crop must be at least 1x1, got {self.crop}")
        if not 0 <= self.ignore_label <= 255:
            raise UsageError(f"the ignored label must be 0 to 255, got {self.ignore_label}")
        if not np.isfinite((*self.mean, self.scale)).all():
            raise UsageError(f"mean and scale must be finite, got {self.mean} and {self.scale}")

    @property
    def rules(self) -> LabelRules:
        """How the truth is read."""
        if self.labels is not None:
            return self.labels
        return LabelRules(ignored=(self.ignore_label,), unknown=self.unknown_labels)


@dataclass(frozen=True)
class Options(Settings):
    """All choices of ``evaluate``; those that follow do not change the result.

    Args:
        jobs: images in the network at the same time; by default one for each core, at most 4, and
            1 for a network that is not on the CPU.
        refiner_threads: threads that only refine, on cores that the network does not use; 0: all
            threads do everything.
        score_cache: folder of scores to use and to add to.
        fresh: delete the label maps of a previous run instead of using them.
        skip_bad: continue after an image that cannot be read or is too large.
        comp6: also write the label maps in the layout of the VOC server.
        colours: (256, 3) uint8 red, green, blue by class, of label maps and report, such as
            ``dataset("cityscapes").colours``; VOC's by default.
    Raises:
        UsageError: see ``Settings``.
    Examples:
        >>> from caffe_port.evaluation import Options
        >>> Options(crop=(321, 321), skip_bad=True).ignore_label
        255
    """

    jobs: int | None = None
    refiner_threads: int = 0
    score_cache: PathLike | None = None
    fresh: bool = False
    skip_bad: bool = False
    comp6: bool = False
    colours: Bytes | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Network:
    """A network in two parts, each called from several threads concurrently.

    Args:
        classify: maps (1, 3, H, W) float32, blue green red minus the mean, to scores
            (1, C, h', w'), small where ``enlarge`` is given.
        enlarge: maps these to (1, C, H, W); None where ``classify`` gives that.
        merged: maps (3, h, w) of any size to (C, h, w) as ``Settings.inference`` says.
    """

    classify: Callable[[Floats], Floats]
    enlarge: Callable[[Floats], Floats] | None = None
    merged: Callable[[Floats, Settings], Floats] | None = None


class NetworkFactory(Protocol):
    """Builds a network."""

    @property
    def on_cpu(self) -> bool:
        """Whether the network runs on the CPU and so shares the cores with everything else."""

    def __call__(self) -> Network:
        """The network; torch's number of threads is that of the calling thread."""

    def describe(self) -> dict[str, object]:
        """What decides its scores, as JSON."""


@dataclass(frozen=True)
class NetFactory:
    """Builds a network from files.

    Args:
        net: prototxt, converted file or model folder.
        weights: weight file, where ``net`` does not hold them.
        blob: the score blob at full resolution; by default the model states it, or
            ``score_blob`` finds it.
        variables: values of the prototxt's ``${NAME}``s.
        device: where it runs, as torch names it.
        optimized: run it as ``Net.optimized`` does: faster, equal within the parity rule.
        engine: what computes then, see ``Net.optimized``.
        options: what else ``load`` takes to choose the net: phase ('TEST' where it is not given),
            level, stages, dialect, input_shapes and allow_python_layers.
    Examples:
        >>> from caffe_port.evaluation import NetFactory
        >>> NetFactory("net.prototxt", "net.caffemodel", device="cuda").on_cpu
        False
    """

    net: str
    weights: str | None = None
    blob: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    optimized: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    engine: Engine = "auto"
    _opened: list[Model] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def _options(self) -> dict[str, Any]:
        return {"phase": "TEST", "variables": self.variables, **self.options}

    @property
    def on_cpu(self) -> bool:
        """Whether it runs on the CPU."""
        return self.device.partition(":")[0] == "cpu"

    def _model(self) -> Model:
        """The files. They are opened again only where they were changed since the last time."""
        from caffe_port.loading import Model

        if not (self._opened and self._opened[0].is_current()):
            with files.reading(self.weights or self.net):
                self._opened[:] = [Model(self.net, self.weights)]
        return self._opened[0]

    @property
    def spec(self) -> NetSpec:
        """The net's spec.

        Raises:
            CaffePortError: a file cannot be read, or the net cannot be built.
        """
        return self._model().spec(**self._options)

    @property
    def info(self) -> ModelInfo:
        """What the model says of itself: see ``loading.Model.info``."""
        return self._model().info

    def load(self) -> Net:
        """Loads the net from the files that were last described, on the CPU.

        Raises:
            CaffePortError: the files do not make a net.
        """
        model = self._opened[0] if self._opened else self._model()
        return model.net(model.spec(**self._options))

    def __call__(self) -> Network:
        """Loads the net, and closes its files.

        Raises:
            CaffePortError: the files do not make a net with such a blob.
        """
        import torch

        from caffe_port.evaluation.test_time import merging

        net = self.load().to(self.device).eval()
        self._opened.clear()
        stated = self.blob or net.info.blob
        blob, data = stated or score_blob(net.spec), data_blob(net.spec)
        resizes = resizing(net.spec, blob)
        small = resizes[0].bottoms[0] if resizes else blob

        run = net.optimized(engine=self.engine) if self.optimized else net
        planning = threading.Lock()
        planned: list[bool] = []

        def classify(x: Floats) -> Floats:
            # the first call makes the plan, which the others then share
            with contextlib.nullcontext() if planned else planning, torch.inference_mode():
                blobs = run({data: torch.from_numpy(x).to(self.device)}, keep=[small])
                planned.append(True)
                scores: Floats = blobs[small].float().cpu().numpy()
                return scores

        def enlarge(scores: Floats) -> Floats:
            with torch.inference_mode():
                x = torch.from_numpy(scores)
                for layer in resizes:
                    (x,) = net.run_layer(layer.name, [x])
                whole: Floats = x.numpy()
                return whole

        merged = merging(net, stated, optimized=self.optimized, engine=self.engine)
        return Network(classify, enlarge if resizes else None, merged)

    def using(self, engine: Engine) -> NetFactory:
        """The same with this engine."""
        chosen = replace(self, engine=engine)
        chosen._opened[:] = self._opened
        return chosen

    def describe(self) -> dict[str, object]:
        """Digests of the files, the options, the blob and the engine; the device changes no label.

        Raises:
            CaffePortError: a file is broken. The evaluation calls this before it creates its
                folder.
        """
        model = self._model()
        _ = model.text, model.weights  # checks both, without copying arrays
        plan = {}
        if self.optimized:
            from caffe_port.inference.engines import version_of

            plan = {"engine": version_of(self.engine)}
        options = {**self.options, "variables": dict(self.variables)}
        return {**model.digests(), "blob": self.blob or "found", **options, **plan}


def score_blob(spec: NetSpec) -> str:
    """The blob an evaluation reads: what a DenseCRF, SegAccuracy or loss layer reads or, as in
    DeepLab's test nets, a MatWrite layer; else the net's only output.

    Raises:
        UsageError: several blobs could be it; the net finds boxes.
    """
    refuse_detector(spec)
    copied = {top: x.bottoms[0] for x in spec.layers if x.type == "Split" for top in x.tops}
    for reader in ("DenseCRF", "SegAccuracy", "SoftmaxWithLoss", "MatWrite"):
        for layer in spec.layers:
            if layer.type == reader:
                # the prototxt's own name, not that of a Split's copy
                return copied.get(layer.bottoms[0], layer.bottoms[0])
    made = [blob for blob in spec.outputs if blob not in spec.sources]
    maps = [blob for blob in made if len(spec.shapes[blob]) == 4]
    if len(maps) == 1:
        return maps[0]
    raise UsageError(
        f"which blob holds the scores? The net's outputs are {', '.join(made) or 'none'}; "
        f"name one: {option('blob', 'NAME')}"
    )


def refuse_detector(spec: NetSpec) -> None:
    """Raises UsageError for a net that finds boxes."""
    for layer in spec.layers:
        if layer.type == "DetectionOutput":
            raise UsageError(
                f"the net finds boxes (layer '{layer.name}', DetectionOutput) and gives no classes "
                "of pixels; docs/detection.md has a script that writes its boxes and draws them"
            )


def resizing(spec: NetSpec, blob: str) -> list[LayerSpec]:
    """The Interp layers that only enlarge a smaller blob to this one, in order."""
    layers: list[LayerSpec] = []
    name = blob
    while True:
        writers = [layer for layer in spec.layers if name in layer.tops]
        if len(writers) != 1 or writers[0].type != "Interp":
            break
        layers.insert(0, writers[0])
        name = writers[0].bottoms[0]
    if layers and math.prod(spec.shapes[name]) < math.prod(spec.shapes[blob]):
        return layers
    return []


def data_blob(spec: NetSpec) -> str:
    """The blob that takes the image: the net's first input, or the first top of its data layer.

    Raises:
        UsageError: the net has no such blob.
    """
    if not spec.sources:
        raise UsageError(f"the net '{spec.name}' has no input for an image")
    return spec.sources[0]


def image_size(spec: NetSpec) -> Size:
    """Height and width of the images that a net takes; DeepLab's 513 where it has no fixed size.

    Raises:
        UsageError: the net has no blob for an image.
    """
    shape = spec.shapes.get(data_blob(spec), ())
    return (shape[2], shape[3]) if len(shape) == 4 and min(shape[2:]) > 1 else Settings.crop


def small_scores(data: Floats, network: Network, settings: Settings, size: Size) -> Floats:
    """The network's scores of one image before they are enlarged.

    Args:
        data: from ``network_input``.
        size: height and width of the image.
    Returns:
        (C, h', w') float32: what ``Network.enlarge`` takes, or scores of the image's size.
    Raises:
        UsageError: the network's scores are of the wrong shape or not finite.
    """
    if settings.inference is not None:
        if network.merged is None:
            raise UsageError("this network has no scales, flips and windows; leave out inference")
        return network.merged(data[0], settings)
    scores = network.classify(data)
    if network.enlarge is None:
        _check_size(scores, settings)
    if scores.ndim != 4 or scores.shape[0] != 1 or not 1 <= scores.shape[1] <= 255:
        raise UsageError(
            f"the score blob is {tuple(scores.shape)}, expected (1, classes, height, width) of "
            "1 to 255 classes"
        )
    if not np.isfinite(scores).all():
        raise UsageError("the scores are not finite: are these the right weights?")
    # a copy: the network may reuse its memory for the next image
    return (scores[0] if network.enlarge else scores[0, :, : size[0], : size[1]]).copy()


def full_scores(scores: Floats, network: Network, settings: Settings, size: Size) -> Floats:
    """Scores at the image's size.

    Args:
        scores: from ``small_scores``.
        size: height and width of the image.
    Returns:
        (C, h, w) float32.
    Raises:
        UsageError: enlarged, the scores are not of the crop's size.
    """
    if network.enlarge is None or settings.inference is not None:
        return scores
    whole = network.enlarge(scores[None])
    _check_size(whole, settings)
    return np.ascontiguousarray(whole[0, :, : size[0], : size[1]])


def _check_size(scores: Floats, settings: Settings) -> None:
    height, width = settings.crop
    if scores.shape[2:] != (height, width):
        raise UsageError(
            f"the score blob is {tuple(scores.shape)}, expected (1, classes, {height}, {width}): "
            "name the blob of full resolution (after the last Interp layer), and use a crop of "
            "8 k + 1 pixels, such as 513 or 321, for networks that shrink by 8"
        )
