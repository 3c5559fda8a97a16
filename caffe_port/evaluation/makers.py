"""The network and the dense CRF of an evaluation, built anew in every process that uses them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from caffe_port.crf import CRFParameters, refine
from caffe_port.data.pictures import Bytes
from caffe_port.errors import UsageError
from caffe_port.evaluation.settings import VOC_MEAN, Floats, Network, Refiner

if TYPE_CHECKING:
    from caffe_port.spec import NetSpec


@dataclass(frozen=True)
class NetMaker:
    """A net from files.

    Args:
        net: prototxt or converted file.
        weights: weight file, where ``net`` does not hold them.
        blob: the score blob at full resolution; found by itself when absent.
        variables: values of the prototxt's ``${NAME}``s.
        device: where it runs, as torch names it.
    """

    net: str
    weights: str | None = None
    blob: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    device: str = "cpu"

    def __call__(self, threads: int | None) -> Network:
        """Loads the net.

        Raises:
            CaffePortError: the files do not make a net with such a blob.
        """
        import torch

        from caffe_port.loading import load

        if threads is not None:
            torch.set_num_threads(threads)
        net = load(self.net, self.weights, phase="TEST", variables=self.variables)
        net = net.to(self.device).eval()
        blob, data = self.blob or score_blob(net.spec), data_blob(net.spec)

        def network(x: Floats) -> Floats:
            with torch.inference_mode():
                blobs = net({data: torch.from_numpy(x).to(self.device)}, keep=[blob])
                scores: Floats = blobs[blob].float().cpu().numpy()
                return scores

        return network

    def describe(self) -> dict[str, object]:
        """Digests of the files, the variables and the blob; the device changes no label."""
        files = {"net": self.net, "weights": self.weights}
        digests = {name: _digest(path) if path else None for name, path in files.items()}
        return {**digests, "blob": self.blob or "found", "variables": dict(self.variables)}


@dataclass(frozen=True)
class CRFMaker:
    """The dense CRF with given parameters.

    Args:
        parameters: kernels and iterations.
        colours: "layer" gives the bilateral kernels blue, green, red minus the mean, as Caffe's
            DenseCRF layer; "rgb" gives them red, green, blue, as DeepLab's separate programs
            (about 0.3 % of the labels differ).
        mean: blue, green, red, for "layer".
    """

    parameters: CRFParameters
    colours: Literal["layer", "rgb"] = "layer"
    mean: tuple[float, float, float] = VOC_MEAN

    def __call__(self, threads: int | None) -> Refiner:
        """The refinement; it needs no loading."""

        def refiner(scores: Floats, image_bgr: Bytes) -> Floats:
            if self.colours == "rgb":
                colours = np.ascontiguousarray(image_bgr[:, :, ::-1]).astype(np.float32)
            else:
                colours = image_bgr.astype(np.float32) - np.array(self.mean, np.float32)
            return refine(scores, colours, self.parameters)

        return refiner

    def describe(self) -> dict[str, object]:
        """Parameters and colours."""
        return {**self.parameters.as_dict(), "colours": self.colours}


def score_blob(spec: NetSpec) -> str:
    """The blob an evaluation reads: what a DenseCRF, SegAccuracy or loss layer reads, else the
    net's only output.

    Raises:
        UsageError: nothing tells which of several it is.
    """
    copied = {top: x.bottoms[0] for x in spec.layers if x.type == "Split" for top in x.tops}
    for wanted in ("DenseCRF", "SegAccuracy", "SoftmaxWithLoss"):
        for layer in spec.layers:
            if layer.type == wanted:
                # the prototxt's own name, not that of a Split's copy
                return copied.get(layer.bottoms[0], layer.bottoms[0])
    maps = [blob for blob in spec.outputs if len(spec.shapes[blob]) == 4]
    if len(maps) == 1:
        return maps[0]
    raise UsageError(
        f"which blob holds the scores? The net's outputs are {', '.join(spec.outputs) or 'none'}; "
        "name one (--blob)"
    )


def data_blob(spec: NetSpec) -> str:
    """The blob that takes the image: the net's first input, or the first top of its data layer.

    Raises:
        UsageError: the net has no such blob.
    """
    if not spec.sources:
        raise UsageError(f"the net '{spec.name}' has no input for an image")
    return spec.sources[0]


def _digest(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
