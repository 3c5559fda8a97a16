"""A small net with the face of ``caffe_port.Net``, made of torch functions, and its recordings.

``FakeNet`` stands for the port; ``record`` plays real Caffe: it runs the same net with the
channels of every sum in another order, so that its rounding differs as another BLAS's would.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

NAMES = ("conv1", "relu1", "pool1", "conv2", "label_map", "loss", "accuracy")


@dataclass(frozen=True)
class FakeLayer:
    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    op: object = field(default_factory=SimpleNamespace)


LAYERS = (
    FakeLayer("conv1", "Convolution", ("data",), ("conv1",)),
    FakeLayer("relu1", "ReLU", ("conv1",), ("conv1",)),
    FakeLayer("pool1", "Pooling", ("conv1",), ("pool1",)),
    FakeLayer("conv2", "Convolution", ("pool1",), ("score",)),
    FakeLayer("split", "Split", ("score",), ("score_0", "score_1", "score_2")),
    FakeLayer("label_map", "ArgMax", ("score_0",), ("label_map",), SimpleNamespace(axis=1)),
    FakeLayer("loss", "SoftmaxWithLoss", ("score_1", "label"), ("loss",)),
    FakeLayer("accuracy", "Accuracy", ("score_2", "label"), ("accuracy",)),
)


class FakeBlobs(dict):
    """Blobs of one pass; knows the first writer's output, whose gradient is Caffe's diff."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, Tensor] = {}

    def diff(self, name: str) -> Tensor | None:
        return self.first[name].grad


class FakeNet(torch.nn.Module):
    """Convolution, ReLU in place, max pooling, convolution, argmax, loss, accuracy."""

    def __init__(
        self,
        *,
        change: dict[str, Callable[[Tensor], Tensor]] | None = None,
        permuted: bool = False,
        layers: tuple[FakeLayer, ...] = LAYERS,
        phase: str = "TEST",
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.spec = SimpleNamespace(
            name="fake", phase=phase, inputs=("data", "label"), layers=layers
        )
        self.weights = torch.nn.ParameterDict()
        for name, shape in (("conv1", (8, 3, 3, 3)), ("conv2", (5, 8, 3, 3))):
            self.weights[name + "_0"] = torch.nn.Parameter(torch.randn(shape, generator=generator))
            self.weights[name + "_1"] = torch.nn.Parameter(
                torch.randn(shape[0], generator=generator)
            )
        self.change, self.permuted = change or {}, permuted

    def module(self, name: str) -> torch.nn.Module:
        return torch.nn.Module()  # no layer has buffers

    def layer_params(self, name: str) -> list[Tensor]:
        return [self.weights[key] for key in (f"{name}_0", f"{name}_1") if key in self.weights]

    def forward(self, inputs: dict[str, Tensor], *, keep: str | list[str] = "outputs") -> FakeBlobs:
        blobs = FakeBlobs()
        blobs.update(inputs)
        blobs.first.update(inputs)
        for layer in self.spec.layers:
            tops = self.run_layer(layer.name, [blobs[bottom] for bottom in layer.bottoms])
            for name, top in zip(layer.tops, tops, strict=True):
                if name not in blobs:
                    blobs.first[name] = top
                    if top.requires_grad:
                        top.retain_grad()
                blobs[name] = top
        return blobs

    def run_layer(self, name: str, bottoms: list[Tensor]) -> tuple[Tensor, ...]:
        layer = next(layer for layer in self.spec.layers if layer.name == name)
        tops = getattr(self, "run_" + layer.type.lower())(name, *bottoms)
        tops = tops if isinstance(tops, tuple) else (tops,)
        return tuple(self.change[name](top) for top in tops) if name in self.change else tops

    def run_convolution(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.layer_params(name)
        if self.permuted:
            order = torch.arange(x.shape[1]).flip(0)
            return functional.conv2d(x[:, order], weight[:, order], padding=1) + bias[:, None, None]
        return functional.conv2d(x, weight, bias, padding=1)

    def run_relu(self, name: str, x: Tensor) -> Tensor:
        return functional.relu(x)

    def run_dropout(self, name: str, x: Tensor) -> Tensor:
        return functional.dropout(x)

    def run_pooling(self, name: str, x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2)

    def run_split(self, name: str, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.clone() for _ in range(3))

    def run_argmax(self, name: str, x: Tensor) -> Tensor:
        return x.argmax(1, keepdim=True).to(x.dtype)

    def run_softmaxwithloss(self, name: str, x: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(x, label[:, 0].long())

    def run_accuracy(self, name: str, x: Tensor, label: Tensor) -> Tensor:
        return (x.argmax(1) == label[:, 0]).to(x.dtype).mean()


def fake_inputs() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(5)
    return {
        "data": generator.standard_normal((2, 3, 10, 12)).astype(np.float32),
        "label": generator.integers(0, 5, (2, 1, 5, 6)).astype(np.float32),
    }


def recorded_arrays(net: FakeNet) -> dict[str, np.ndarray]:
    """Everything a golden folder holds, computed by ``net``."""
    inputs = fake_inputs()
    blobs = net({name: torch.from_numpy(value) for name, value in inputs.items()}, keep="all")
    arrays = {f"input/{name}": value for name, value in inputs.items()}
    arrays |= {f"data/{name}": blob.detach().numpy().copy() for name, blob in blobs.items()}
    blobs["loss"].backward()
    arrays["topdiff/loss"] = np.ones((), np.float32)
    for name in blobs:
        diff = blobs.diff(name)
        zeros = np.zeros(blobs[name].shape, np.float32)
        arrays[f"diff/{name}"] = zeros if diff is None else diff.numpy().copy()
    for key, weight in net.weights.items():
        name, _, index = key.rpartition("_")
        arrays[f"param/{name}/{index}"] = weight.detach().numpy().copy()
        arrays[f"pdiff/{name}/{index}"] = weight.grad.numpy().copy()
    return arrays


def write_folder(folder: Path, arrays: dict[str, np.ndarray], **meta: object) -> Path:
    """A golden folder."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"phase": "TEST", "backward": True, "oracle": "fake"} | meta
    (folder / "case.json").write_text(json.dumps(fields))
    np.savez_compressed(folder / "case.npz", **arrays)
    return folder


def record(folder: Path, net: FakeNet | None = None, **meta: object) -> Path:
    """A recording of a net that sums in another order than the port."""
    return write_folder(folder, recorded_arrays(net or FakeNet(permuted=True)), **meta)
