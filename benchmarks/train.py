"""`caffe train`'s loop compared with plain PyTorch: steps, waiting for data, memory.

Two LargeFOVs on the bundled images: the thin one of examples/shapes_voc, and one of the published
widths with a small batch. The plain one is an nn.Module with torch.optim.SGD and the same batches,
prefetched in a thread too. Run it with `python -m benchmarks train`; it takes some minutes.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.measure import interleave, report, summary, versions
from caffe_port.data.image_seg import ImageSegReader, Transform
from caffe_port.solver.log import set_min_level
from caffe_port.solver.modes import Modes
from caffe_port.solver.training import Training

ROOT = Path(__file__).parent.parent
SHAPES = ROOT / "examples" / "shapes_voc"
MEAN = (104.008, 116.669, 122.675)
CROP, RATE, MOMENTUM, DECAY, POWER, LAST = 113, 1e-4, 0.9, 5e-4, 0.9, 100_000
STEPS_OF_MEMORY, EVERY = 1000, 100
SIDE = 161  # of the multi-scale ResNet's crops


@dataclass(frozen=True)
class Case:
    """A LargeFOV.

    Attributes:
        name: in the tables.
        prototxt: of the train net.
        widths: channels of the five stages, and of fc6 and fc7.
        classes, dropout, batch: of it.
        steps, repeats: how many are timed together, and how often.
    """

    name: str
    prototxt: Path
    widths: tuple[int, ...]
    classes: int
    dropout: float
    batch: int
    steps: int
    repeats: int


CASES = (
    Case("thin, batch 8", SHAPES / "caffe_run" / "train.prototxt", (8, 16, 32, 64, 64, 128), 6,
         0.2, 8, 5, 11),
    Case("published widths, batch 2", ROOT / "prototxt/deeplab_v2_vgg16_largefov/train.prototxt",
         (64, 128, 256, 512, 512, 1024), 21, 0.5, 2, 1, 7),
)  # fmt: skip


class LargeFOV(nn.Sequential):
    """The net as a plain module: (N, 3, H, W) to scores (N, classes, h, w)."""

    def __init__(self, case: Case) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for stage, width in enumerate(case.widths[:-1]):
            dilation = 2 if stage == 4 else 1
            for _ in range(2 if stage < 2 else 3):
                layers.append(nn.Conv2d(channels, width, 3, padding=dilation, dilation=dilation))
                layers.append(nn.ReLU(inplace=True))
                channels = width
            layers.append(nn.MaxPool2d(3, 2 if stage < 3 else 1, 1, ceil_mode=stage < 3))
        layers.append(nn.AvgPool2d(3, 1, 1))
        wide = case.widths[-1]
        layers += [nn.Conv2d(channels, wide, 3, padding=12, dilation=12), nn.ReLU(inplace=True)]
        layers += [nn.Dropout(case.dropout), nn.Conv2d(wide, wide, 1), nn.ReLU(inplace=True)]
        layers += [nn.Dropout(case.dropout), nn.Conv2d(wide, case.classes, 1)]
        super().__init__(*layers)


def batches(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels; a thread reads the next ones."""
    reader = ImageSegReader(
        SHAPES / "train.txt", str(SHAPES), batch_size=case.batch, label_type="PIXEL",
        transform=Transform(MEAN, crop_size=CROP, mirror=True), phase="TRAIN", shuffle=True,
    )  # fmt: skip
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(reader.next_batch)
        while True:
            data, label, _ = ahead.result()
            ahead = thread.submit(reader.next_batch)
            yield torch.from_numpy(data), torch.from_numpy(label)


def plain(case: Case, training: Training) -> Callable[[int], None]:
    """A training loop in plain PyTorch, from the other one's weights; takes the number of steps."""
    net, data = LargeFOV(case), batches(case)
    theirs = [blob for blobs in training.net.params.values() for blob in blobs]
    with torch.no_grad():
        for param, blob in zip(net.parameters(), theirs, strict=True):
            param.copy_(torch.from_numpy(blob.data))
    loss_of = nn.CrossEntropyLoss(ignore_index=255)
    biases = [p for p in net.parameters() if p.dim() == 1]
    weights = [p for p in net.parameters() if p.dim() > 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "lr": RATE, "weight_decay": DECAY},
        {"params": biases, "lr": 2 * RATE, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM)
    policy = torch.optim.lr_scheduler.PolynomialLR(optimizer, LAST, POWER)

    def run(steps: int) -> None:
        for image, label in itertools.islice(data, steps):
            optimizer.zero_grad()
            scores = net(image)
            loss = loss_of(scores, label[:, 0, ::8, ::8].long())
            loss.backward()
            optimizer.step()
            policy.step()
            loss.item()

    return run


def ours(case: Case, folder: Path, side: int = CROP, modes: Modes | None = None) -> Training:
    """What `caffe train` runs."""
    text = case.prototxt.read_text()
    values = {"ROOT": SHAPES, "DATA_ROOT": SHAPES, "NUM_LABELS": case.classes, "NET_ID": "largefov"}
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", str(value))
    text = re.sub(r"\$\{EXP}/list/\$\{TRAIN_SET}.txt", str(SHAPES / "train.txt"), text)
    text = re.sub(r"crop_size: \d+", f"crop_size: {side}", text.replace("${EXP}", "voc12"))
    text = re.sub(r"batch_size: \d+", f"batch_size: {case.batch}", text)
    (folder / "train.prototxt").write_text(text)
    (folder / "solver.prototxt").write_text(
        f'train_net: "{folder}/train.prototxt" base_lr: {RATE} lr_policy: "poly" power: {POWER} '
        f"max_iter: {LAST} momentum: {MOMENTUM} weight_decay: {DECAY} average_loss: 20 "
        "random_seed: 1 solver_mode: CPU"
    )
    training = Training(folder / "solver.prototxt", modes=modes)
    for param in training.net._net.parameters():
        if param.dim() > 1:  # of a size that keeps what passes
            nn.init.kaiming_normal_(param, nonlinearity="relu")
    return training


class Watch:
    """Adds up the time of a net's data layers, which is waiting for their thread."""

    def __init__(self, training: Training) -> None:
        self.seconds, self._began = 0.0, 0.0
        net = training.net._net
        for layer in net.spec.layers:
            if layer.op.kind == "source":
                net.module(layer.name).register_forward_pre_hook(self._start)
                net.module(layer.name).register_forward_hook(self._stop)

    def _start(self, *_: object) -> None:
        self._began = time.perf_counter()

    def _stop(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


def resident() -> float:
    """Resident MB of this process."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found
    return int(found[1]) / 1024


def speed(case: Case) -> dict[str, dict[str, float]]:
    """Images per second of both loops, and the share of ours spent waiting for data."""
    with tempfile.TemporaryDirectory() as folder:
        training = ours(case, Path(folder))
        other = plain(case, training)
        watch, spent = Watch(training), [0.0, 0.0]

        def step() -> None:
            before, began = watch.seconds, time.perf_counter()
            training.step(case.steps)
            spent[0] += watch.seconds - before
            spent[1] += time.perf_counter() - began

        ways = {"plain PyTorch": lambda: other(case.steps), "caffe train": step}
        table = summary(interleave(ways, case.repeats), "plain PyTorch")
    images = case.batch * case.steps
    for figures in table.values():
        figures["images per second"] = round(images / figures["seconds"], 3)
    table["caffe train"]["share waiting for data"] = round(spent[0] / spent[1], 4)
    return table


def memory(case: Case) -> dict[str, dict[str, float]]:
    """Resident MB after each hundred of a thousand steps."""
    with tempfile.TemporaryDirectory() as folder:
        training = ours(case, Path(folder))
        found = {}
        for done in range(EVERY, STEPS_OF_MEMORY + 1, EVERY):
            training.step(EVERY)
            found[f"after {done} steps"] = {"MB": round(resident(), 1)}
    return found


class Live(TorchDispatchMode):
    """Counts the bytes of the tensors that were made inside and are still there.

    Attributes:
        most: the largest number so far, counted now and then.
    """

    def __init__(self, others: Iterable[Tensor]) -> None:
        super().__init__()
        self._others = {tensor.untyped_storage()._cdata for tensor in others}
        self._found: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most, self._calls = 0, 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._others:
                    self._found[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self._calls += 1
        if self._calls % 20 == 0:
            self.most = max(self.most, self.now())
        return made

    def now(self) -> int:
        """Bytes that are there."""
        self._found = {k: found for k, found in self._found.items() if not found[0].expired()}
        return sum(size for _, size in self._found.values())


def kept(training: Training) -> dict[str, float]:
    """MB that a forward pass leaves for the backward one, and the most until its end."""
    training._clear_diffs()
    passing = training._fused
    assert passing is not None
    with Live(training.net._net.parameters()) as live:
        losses, _ = passing._forward()
        after = live.now()
        torch.autograd.backward(losses)
    return {"MB after forward": round(after / 1e6, 1), "MB at most": round(live.most / 1e6, 1)}


def checkpointing() -> dict[str, dict[str, float]]:
    """What the multi-scale ResNet-101 keeps with and without it."""
    prototxt = ROOT / "prototxt" / "deeplab_v2_resnet101_msc_aspp" / "train.prototxt"
    case = Case("", prototxt, (), 21, 0, 1, 1, 1)
    table = {}
    for name, modes in (("all blobs", Modes()), ("-checkpoint", Modes(checkpoint=True))):
        with tempfile.TemporaryDirectory() as folder:
            table[name] = kept(ours(case, Path(folder), SIDE, modes))
    return table


def main() -> None:
    """Measures and reports."""
    set_min_level(1)
    tables: dict[str, object] = {
        f"LargeFOV, {case.name}, {CROP} x {CROP}": speed(case) for case in CASES
    }
    tables[f"resident memory, {CASES[0].name}"] = memory(CASES[0])
    tables[f"ResNet-101 MSc, batch 1, {SIDE} x {SIDE}; diffs: 177 MB"] = checkpointing()
    found = {**versions("torch", "numpy"), "threads": str(torch.get_num_threads())}
    found["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    report("train", {"versions": found, "tables": tables})


if __name__ == "__main__":
    main()
