"""The network and the dense CRF of an evaluation, built from files and settings."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from caffe_port.crf import CRFParameters
from caffe_port.crf.params import from_mapping
from caffe_port.crf.refinement import build
from caffe_port.data.pictures import Bytes, PathLike
from caffe_port.errors import DataError, UsageError, option
from caffe_port.evaluation.settings import VOC_MEAN, Floats, Network, Refiner, Settings
from caffe_port.files import OpenFile, read_json, reading

if TYPE_CHECKING:
    from caffe_port.loading import Model
    from caffe_port.net import Net
    from caffe_port.spec import LayerSpec, NetSpec

Colours = Literal["layer", "rgb"]


@dataclass(frozen=True)
class NetMaker:
    """A net from files.

    Args:
        net: prototxt or converted file.
        weights: weight file, where ``net`` does not hold them.
        blob: the score blob at full resolution; found by itself when absent.
        variables: values of the prototxt's ``${NAME}``s.
        device: where it runs, as torch names it.
        optimized: run it by an inference plan, see ``Net.optimized``: faster, the same within the
            parity rule.
        options: what else ``load`` takes to choose the net: phase ('TEST' where it is not given),
            level, stages, dialect, input_shapes and allow_python_layers.
    Examples:
        >>> from caffe_port.evaluation import NetMaker
        >>> NetMaker("net.prototxt", "net.caffemodel", device="cuda").on_cpu
        False
    """

    net: str
    weights: str | None = None
    blob: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"
    optimized: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
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
            files = []
            for path in filter(None, (self.net, self.weights)):
                with reading(path):
                    files.append(OpenFile(path))
            self._opened[:] = [Model(*files)]
        return self._opened[0]

    @property
    def spec(self) -> NetSpec:
        """The net's spec.

        Raises:
            CaffePortError: a file cannot be read, or the net cannot be built.
        """
        return self._model().spec(**self._options)

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

        net = self.load().to(self.device).eval()
        self._opened.clear()
        blob, data = self.blob or score_blob(net.spec), data_blob(net.spec)
        resizes = resizing(net.spec, blob)
        small = resizes[0].bottoms[0] if resizes else blob

        run = net.optimized() if self.optimized else net
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

        return Network(classify, enlarge if resizes else None)

    def describe(self) -> dict[str, object]:
        """Digests of the files, the options and the blob; the device changes no label.

        Raises:
            CaffePortError: a file is broken, which is said before there is a folder of results.
        """
        model = self._model()
        _ = model.text, model.weights  # as far as a look without copying tells, they are whole
        plan = {"optimized": True} if self.optimized else {}
        options = {**self.options, "variables": dict(self.variables)}
        return {**model.digests(), "blob": self.blob or "found", **options, **plan}


@dataclass(frozen=True)
class CRFMaker:
    """The dense CRF with given parameters.

    Args:
        parameters: kernels and iterations.
        colours: "layer" gives the bilateral kernels blue, green, red minus the mean, as Caffe's
            DenseCRF layer; "rgb" gives them red, green, blue, as DeepLab's separate programs
            (about 0.3 % of the labels differ).
        mean: blue, green, red, for "layer".
    Examples:
        >>> from caffe_port.crf import PRESETS
        >>> from caffe_port.evaluation import CRFMaker
        >>> CRFMaker(PRESETS["v1_largefov"], colours="rgb").describe()["colours"]
        'rgb'
    """

    parameters: CRFParameters
    colours: Colours = "layer"
    mean: tuple[float, float, float] = VOC_MEAN

    def __call__(self, threads: int) -> Refiner:
        """The refinement; it needs no loading."""

        def refiner(scores: Floats, image_bgr: Bytes) -> Bytes:
            labels, height, width = scores.shape
            image = coloured(image_bgr, self.colours, self.mean)
            crf = build(height, width, labels, image, self.parameters, threads=threads)
            return crf.map(-scores, self.parameters.iterations).astype(np.uint8)

        return refiner

    def describe(self) -> dict[str, object]:
        """Parameters and colours."""
        return {**self.parameters.as_dict(), "colours": self.colours}


def coloured(image_bgr: Bytes, colours: Colours, mean: tuple[float, float, float]) -> Floats:
    """What the bilateral kernels see of a picture, see ``CRFMaker``.

    Args:
        image_bgr: (h, w, 3) uint8, blue first.
        mean: blue, green, red.
    Returns:
        (h, w, 3) float32.
    """
    if colours == "rgb":
        return np.ascontiguousarray(image_bgr[:, :, ::-1]).astype(np.float32)
    return image_bgr.astype(np.float32) - np.array(mean, np.float32)


def read_crf_config(
    path: PathLike, colours: Colours | None = None, mean: tuple[float, float, float] = VOC_MEAN
) -> CRFMaker:
    """The dense CRF of a JSON file, such as the best.json that a grid search writes.

    Args:
        path: an object of ``CRFParameters``' names; those left out are DeepLab v1's. It may also
            say its "colours".
        colours: what they must be; by default what the file says, else "layer".
    Raises:
        ReadError, FormatError, DataError: the file cannot be read or is not such an object.
        UsageError: a setting is wrong, or the file was made for other colours.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected one JSON object of CRF settings")
    said = values.pop("colours", None)
    if said not in (None, "layer", "rgb"):
        raise UsageError(f'{path}: colours is {said!r}; expected "layer" or "rgb"')
    if said is not None and colours is not None and colours != said:
        raise UsageError(f"{path}: its settings are for colours {said}, {colours} is asked for")
    try:
        return CRFMaker(from_mapping(values), colours or said or "layer", mean)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def score_blob(spec: NetSpec) -> str:
    """The blob an evaluation reads: what a DenseCRF, SegAccuracy or loss layer reads or, as in
    DeepLab's test nets, a MatWrite layer; else the net's only output.

    Raises:
        UsageError: nothing tells which of several it is.
    """
    copied = {top: x.bottoms[0] for x in spec.layers if x.type == "Split" for top in x.tops}
    for wanted in ("DenseCRF", "SegAccuracy", "SoftmaxWithLoss", "MatWrite"):
        for layer in spec.layers:
            if layer.type == wanted:
                # the prototxt's own name, not that of a Split's copy
                return copied.get(layer.bottoms[0], layer.bottoms[0])
    maps = [blob for blob in spec.outputs if len(spec.shapes[blob]) == 4]
    if len(maps) == 1:
        return maps[0]
    raise UsageError(
        f"which blob holds the scores? The net's outputs are {', '.join(spec.outputs) or 'none'}; "
        f"name one: {option('blob', 'NAME')}"
    )


def resizing(spec: NetSpec, blob: str) -> list[LayerSpec]:
    """The Interp layers that make a blob of a smaller one and do nothing else, in order."""
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


def image_size(spec: NetSpec) -> tuple[int, int]:
    """Height and width of the images that a net asks for; DeepLab's 513 where it does not say.

    Raises:
        UsageError: the net has no such blob.
    """
    shape = spec.shapes.get(data_blob(spec), ())
    return (shape[2], shape[3]) if len(shape) == 4 and min(shape[2:]) > 1 else Settings.crop
