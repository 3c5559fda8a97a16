"""The inputs of a run: images, options, and the texts of its recipe."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from caffe_port.data.images import write_labels
from caffe_port.data.voc import VOCItem, voc_items
from caffe_port.datasets.description import Dataset
from caffe_port.datasets.finding import dataset_items
from caffe_port.datasets.rules import LabelRules
from caffe_port.errors import DataError, UsageError
from caffe_port.files import write_text
from caffe_port.finetuning.variants import Variant
from caffe_port.proto import caffe_pb2, parse_net
from caffe_port.proto.printer import print_text
from caffe_port.proto.text import parse_text

_TRAIN_LISTS = ("train_aug", "train")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Images:
    """The images of an experiment, with their lists.

    Attributes:
        root: the data set's folder.
        train, val: the images to train and to evaluate on, each with its label map.
        data: the data set; None for label maps that store classes, as VOC's.
    """

    root: Path
    train: tuple[VOCItem, ...]
    val: tuple[VOCItem, ...]
    data: Dataset | None = None

    @property
    def rules(self) -> LabelRules:
        """What stored labels mean."""
        return LabelRules() if self.data is None else self.data.rules

    def write_list(self, path: Path, items: tuple[VOCItem, ...], labels: Path) -> None:
        """Writes a list for an ImageSegData layer whose root_folder is ``root``.

        Args:
            path: the list.
            items: the images.
            labels: folder for label maps of classes, which the layer needs; they are made where
                those of the data set store something else.
        Raises:
            DataError, FormatError: a label map is broken or holds a label that is no class.
        """
        if not self.rules.is_plain:
            folder = labels / self._rules_digest[:8]
            items = tuple(replace(item, label=self._indexed(item, folder)) for item in items)
        write_text(path, self._lines(items))

    def _indexed(self, item: VOCItem, folder: Path) -> Path:
        """The label map of an image with classes in place of what the data set stores."""
        assert item.label is not None
        assert self.data is not None
        made, stored = folder / f"{item.id}.png", item.label.stat().st_mtime_ns
        # its time is that of what it was made of, so that an older replacement is noticed too
        if not made.is_file() or made.stat().st_mtime_ns != stored:
            found = self.rules.read(item.label, len(self.data.classes)).labels
            write_labels(made, found, palette=False)
            os.utime(made, ns=(stored, stored))
        return made

    @property
    def _rules_digest(self) -> str:
        """Of all that the rules say, colours included, which their repr leaves out."""
        return _digest(json.dumps(asdict(self.rules)))

    def describe(self) -> dict[str, object]:
        """Digests of the lists and of the rules of the data set, as JSON."""
        lists = {"train": self.train, "val": self.val}
        rules = {} if self.data is None else {"rules": self._rules_digest}
        return {**{name: _digest(self._lines(items)) for name, items in lists.items()}, **rules}

    def _lines(self, items: tuple[VOCItem, ...]) -> str:
        lines = []
        for item in items:
            assert item.label is not None
            names = (os.path.relpath(path, self.root) for path in (item.image, item.label))
            lines.append(" ".join(f"/{name}" for name in names) + "\n")
        return "".join(lines)


def find_images(
    root: Path,
    train: str | None = None,
    val: str | None = None,
    labels: Path | None = None,
    data: Dataset | None = None,
) -> Images:
    """Reads the lists.

    Args:
        root: a VOC folder, or that of ``data``.
        train: a list file, or the name of one; train_aug, else train, when absent.
        val: the same for the evaluation; val when absent.
        labels: folder of the label maps, where neither the lists nor the layout name it.
        data: the data set; None for VOC's layout.
    Raises:
        DataError: a list, an image or a label map is missing.
    """
    if data is not None:
        splits = (train or _TRAIN_LISTS[-1], val or "val")
        parts = [tuple(dataset_items(data, root, split, labels)) for split in splits]
        _expect_labels(parts, root)
        return Images(root.resolve(), parts[0], parts[1], data)
    lists = root / "ImageSets" / "Segmentation"
    if train is None:
        usual = (name for name in _TRAIN_LISTS if (lists / f"{name}.txt").is_file())
        train = next(usual, _TRAIN_LISTS[-1])
    both = [tuple(voc_items(root, name, labels)) for name in (train, val or "val")]
    _expect_labels(both, root)
    return Images(root.resolve(), both[0], both[1])


def _expect_labels(parts: list[tuple[VOCItem, ...]], root: Path) -> None:
    for items in parts:
        if items[0].label is None:
            raise DataError(f"{items[0].where}: no label maps in {root}; name their folder")


_SNAPSHOTS = 500  # updates between two snapshots, unless the solver has fewer
_NETS = (
    "net", "net_param", "train_net", "train_net_param", "test_net", "test_net_param", "test_iter",
    "test_state", "test_interval", "test_initialization", "snapshot", "snapshot_prefix",
    "snapshot_format", "snapshot_after_train", "random_seed", "solver_mode", "device_id",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """The choices of an experiment.

    Args:
        variables: values of ``${NAME}``.
        steps: updates, instead of the solver's max_iter; the intervals of its step policy scale
            with it.
        dropout: False removes the Dropout layers.
        rescaling: False removes the random rescaling of training images.
        overlap: of the windows that cover an image in the evaluation, as in ``InferenceOptions``;
            None runs each image once and refuses those that are larger than the test net's input.
        save_every: updates between two snapshots; by default the solver's, at most 500.
        crf: preset or settings of the dense CRF, or 'none'; by default the recipe's own.
        device: 'cpu', 'cuda' or 'cuda:1'.
        jobs: runs at a time, each in a process.
        threads: of torch, in each process; by default the cores divided by ``jobs``.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    steps: int | None = None
    dropout: bool = True
    rescaling: bool = True
    overlap: float | None = None
    save_every: int | None = None
    crf: str | None = None
    device: str = "cpu"
    jobs: int = 1
    threads: int | None = None


class RenderedRecipe:
    """The nets and the solver of a run, with its data, length and seed filled in.

    Attributes:
        train, test: the nets.
        solver: the solver without paths and seed.
    Raises:
        FormatError: a text is malformed.
        UsageError: the train net has no ImageSegData, or a Dropout that cannot be removed.
    """

    def __init__(self, variant: Variant, images: Images, options: Options) -> None:
        self._images = images
        values = _variables(variant, images, options.variables)
        where = f"{variant.net}/{variant.name}"
        parsed = {
            kind: parse_net(getattr(variant.recipe, kind), variables=values, path=f"{where} {kind}")
            for kind in ("train", "test")
        }
        self.train, self.test = parsed["train"].message, parsed["test"].message
        self.solver, unknown = parse_text(
            variant.recipe.solver, caffe_pb2.SolverParameter(), variables=values,
            path=f"{where} solver",
        )  # fmt: skip
        if unknown:
            raise UsageError(f"{where}: the solver has the unknown field '{unknown[0].field}'")
        if not options.dropout:
            _remove_dropout(self.train)
        if not options.rescaling:
            for layer in _sources(self.train):
                layer.transform_param.ClearField("scale_factors")
        self.save_every = _save_every(self.solver, options)
        _set_length(self.solver, options.steps)
        for name in _NETS:
            self.solver.ClearField(name)
        self._sources = {kind: _sources(net) for kind, net in self._nets.items()}
        if not self._sources["train"]:
            raise UsageError(f"{where}: the train net has no ImageSegData layer for --data")

    @property
    def _nets(self) -> dict[str, caffe_pb2.NetParameter]:
        return {"train": self.train, "test": self.test}

    def describe(self) -> dict[str, str]:
        """Digests of the texts that determine the result, without paths."""
        self._place(Path("."), Path("."))
        texts = {"solver": self.solver, **self._nets}
        return {kind: _digest(print_text(message)) for kind, message in texts.items()}

    def write(self, folder: Path, seed: int) -> Path:
        """Writes nets, lists and solver into the folder of a run.

        Returns:
            The solver's path.
        """
        lists = {"train": self._images.train, "test": self._images.val}
        for kind, items in lists.items():
            self._images.write_list(folder / f"{kind}.txt", items, folder.parent / "labels")
        self._place(folder, self._images.root)
        for kind, net in self._nets.items():
            write_text(folder / f"{kind}.prototxt", print_text(net))
        solver = caffe_pb2.SolverParameter()
        solver.CopyFrom(self.solver)
        solver.train_net = str(folder / "train.prototxt")
        solver.snapshot_prefix = str(folder / "snapshots" / "train")
        solver.snapshot, solver.random_seed = self.save_every, seed
        write_text(folder / "solver.prototxt", print_text(solver))
        return folder / "solver.prototxt"

    def _place(self, folder: Path, root: Path) -> None:
        for kind, layers in self._sources.items():
            for layer in layers:
                layer.image_data_param.root_folder = str(root)
                layer.image_data_param.source = str(folder / f"{kind}.txt")


def _variables(variant: Variant, images: Images, given: Mapping[str, str]) -> dict[str, str]:
    """Values for all variables of the published texts; given values have precedence."""
    root, data = str(images.root), images.data
    usual = {
        "ROOT": root, "DATA_ROOT": root, "EXP": "voc12" if data is None else data.name,
        "NET_ID": variant.net, "NUM_LABELS": str(21 if data is None else len(data.classes)),
        "TRAIN_SET": "train", "TEST_SET": "val", "FEATURE_DIR": "features",
    }  # fmt: skip
    return {**usual, **given}


def _sources(net: caffe_pb2.NetParameter) -> list[caffe_pb2.LayerParameter]:
    return [layer for layer in net.layer if layer.type == "ImageSegData"]


def _remove_dropout(net: caffe_pb2.NetParameter) -> None:
    dropped = [layer for layer in net.layer if layer.type == "Dropout"]
    for layer in dropped:
        if list(layer.bottom) != list(layer.top):
            raise UsageError(f"layer '{layer.name}': only Dropout in place can be removed")
        net.layer.remove(layer)


def _set_length(solver: caffe_pb2.SolverParameter, steps: int | None) -> None:
    if steps is None:
        return
    if steps < 1:
        raise UsageError(f"{steps} steps; expected at least 1")
    share = steps / max(1, solver.max_iter)
    solver.max_iter = steps
    if solver.HasField("stepsize"):
        solver.stepsize = max(1, round(solver.stepsize * share))
    solver.stepvalue[:] = [max(1, round(value * share)) for value in solver.stepvalue]


def _save_every(solver: caffe_pb2.SolverParameter, options: Options) -> int:
    if options.save_every is not None:
        return options.save_every
    return min(solver.snapshot or _SNAPSHOTS, _SNAPSHOTS)
