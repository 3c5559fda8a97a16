"""Options of the commands that read label maps, and `caffe-port labels`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.options import Function, with_options
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.data.voc import VOCItem
    from caffe_port.datasets.description import Dataset
    from caffe_port.datasets.rules import LabelRules
    from caffe_port.model_info import ModelInfo

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
SOME_FAILED = 1  # exit status
_ROOT = "Folder of the data set or of the images."

dataset_option = click.option(
    "--dataset", metavar="NAME",
    help="Data set whose folders and labels these are: see 'labels datasets', or a .json file.",
)  # fmt: skip
_ITEM_OPTIONS = (
    click.option("--images", type=FOLDER, required=True, help=_ROOT),
    click.option(
        "--list", "image_list",
        help="List file, or the name of a split, such as one in ImageSets/Segmentation.  "
        "[default: val; all images of a folder without lists]",
    ),
    click.option("--labels", type=FOLDER, help="Label maps, if not where the list has them."),
    dataset_option,
)  # fmt: skip
_LABEL_OPTIONS = (
    click.option(
        "--ignore-label", "ignore_labels", type=click.IntRange(0, 65535), multiple=True,
        help="Stored label that does not count; repeatable.  [default: the data set's, or 255]",
    ),
    click.option(
        "--label-map", type=FILE,
        help='JSON file {"stored label": class}; the class 255 does not count.',
    ),
    click.option(
        "--reduce-zero-label", is_flag=True,
        help="Stored label 0 does not count, 1 is class 0, and so on.",
    ),
    click.option(
        "--unknown-labels", type=click.Choice(["error", "ignore"]), default="error",
        show_default=True, help="What to do about truth labels that are not classes.",
    ),
)  # fmt: skip
_IMAGE_OPTIONS = (
    click.option(
        "--exif", type=click.Choice(["ignore", "apply"]), default="ignore", show_default=True,
        help="EXIF orientation of images: ignored by OpenCV 2.4, applied since 3.1.",
    ),
    click.option(
        "--max-pixels", type=click.IntRange(min=1), default=24_200_000, show_default=True,
        help="Largest image that is decoded.",
    ),
)  # fmt: skip


def item_options(function: Function) -> Function:
    """Adds the options that choose images and label maps."""
    return with_options(_ITEM_OPTIONS, function)


def label_options(function: Function) -> Function:
    """Adds the options for the meaning of stored labels."""
    return with_options(_LABEL_OPTIONS, function)


def image_options(function: Function) -> Function:
    """Adds the options for decoding images, which ``decoded_as`` applies."""
    return with_options(_IMAGE_OPTIONS, function)


def decoded_as(arguments: Mapping[str, Any]) -> AbstractContextManager[None]:
    """A context in which images are decoded by ``image_options``."""
    from caffe_port.data.decoding import decoding

    return decoding(arguments["exif"], arguments["max_pixels"])


def dataset_of(arguments: Mapping[str, Any]) -> Dataset | None:
    """The data set of ``--dataset``."""
    from caffe_port.datasets import dataset

    return None if arguments["dataset"] is None else dataset(arguments["dataset"])


def items_of(arguments: Mapping[str, Any], *, with_labels: bool = True) -> list[VOCItem]:
    """The images that ``item_options`` name; reports an incomplete split."""
    from caffe_port.data.voc import voc_items
    from caffe_port.datasets.finding import count_remark, dataset_items

    data, root, labels = dataset_of(arguments), arguments["images"], arguments["labels"]
    if data is None:
        return voc_items(root, arguments["image_list"], labels, with_labels=with_labels)
    split = arguments["image_list"] or "val"
    items = dataset_items(data, root, split, labels, with_labels=with_labels)
    if remark := count_remark(data, split, len(items)):
        echo(f"note: {remark}", err=True)
    return items


def rules_of(arguments: Mapping[str, Any]) -> LabelRules | None:
    """The meaning of the stored labels; None if no option sets it."""
    from caffe_port.datasets.rules import LabelRules, read_label_map

    data, path = dataset_of(arguments), arguments["label_map"]
    ignored, reduced = arguments["ignore_labels"], arguments["reduce_zero_label"]
    unknown = arguments["unknown_labels"]
    if reduced and (data is not None or path is not None):
        raise click.UsageError(
            "--reduce-zero-label says what labels mean, as --dataset and --label-map do: give one"
        )
    if data is None and path is None and not ignored and not reduced:
        return None if unknown == "error" else LabelRules(unknown=unknown)
    rules = replace(LabelRules() if data is None else data.rules, unknown=unknown)
    if ignored or path is not None:
        rules = replace(rules, colours=())  # the options are of stored labels
    if reduced:
        rules = replace(rules, first=1, ignored=(0, 255))
    if path is not None:
        table = read_label_map(path)
        mapped = {label for label, _ in table}
        kept = tuple(label for label in rules.ignored if label not in mapped)
        rules = replace(rules, table=table, ignored=kept, rest=None)
    return replace(rules, ignored=tuple(ignored)) if ignored else rules


def names_of(
    arguments: Mapping[str, Any], classes: int, info: ModelInfo | None = None
) -> list[str]:
    """The classes' names: of ``--names``, else the data set's, the model's, VOC's or numbers."""
    from caffe_port.evaluation.figures import class_names

    data = dataset_of(arguments)
    known: list[Sequence[str]] = [] if data is None else [data.classes]
    known += [] if info is None else [info.classes]
    fitting = [list(names) for names in known if len(names) == classes]
    if arguments["names"] is None and fitting:
        return fitting[0]
    return class_names(classes, arguments["names"])


@click.group(name="labels")
def labels_command() -> None:
    """Convert and check label maps, and list the known data sets.

    Exit status: that of the command, 0 when all is done.
    """


@labels_command.command(name="datasets")
def datasets_command() -> None:
    """List the data sets that --dataset knows."""
    from caffe_port.datasets import dataset, known_datasets

    for name in known_datasets():
        data = dataset(name)
        splits = ", ".join(
            split + (f" {part.images:,}" if part.images else "")
            for split, part in data.splits.items()
        )
        echo(f"{name}: {data.title}; {len(data.classes)} classes; {splits}")


@labels_command.command(name="to-index")
@click.argument("sources", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option(
    "--palette", metavar="NAME",
    help="Colours by class: 'voc', a data set's name, or a file [[red, green, blue], ...].  "
    "[default: the data set's, else voc]",
)  # fmt: skip
@click.option("--classes", type=click.IntRange(1, 255), help="How many.  [default: the palette's]")
@dataset_option
@label_options
@click.option("--keep-indices", is_flag=True, help="Indices are the classes, whatever the colours.")
@click.option("-o", "--out", type=NEW_FOLDER, required=True, help="Folder of the PNGs.")
def to_index_command(**arguments: Any) -> None:
    """Write label maps as grey PNGs of class indices, which Caffe and every command here read.

    SOURCES are label maps or folders of them: colours are converted by a palette, stored labels
    by --dataset, --label-map or --reduce-zero-label, .mat files by --dataset. 255 does not count.

    Exit status: 0 done, 1 some could not be converted (they are named), 2 none could.
    """
    from caffe_port.data.images import write_labels
    from caffe_port.datasets.finding import label_files, palette_named, to_index
    from caffe_port.datasets.rules import IGNORED, LabelRules, Palette

    data, rules = dataset_of(arguments), rules_of(arguments) or LabelRules()
    named = arguments["palette"] or arguments["dataset"]
    palette: Palette | None = None
    classes = arguments["classes"] or (IGNORED if data is None else len(data.classes))
    if not arguments["keep_indices"]:
        palette = palette_named(named, arguments["classes"])
        classes = arguments["classes"] or len(palette.colours if data is None else data.classes)

    def convert(path: Path, name: Path) -> None:
        found = to_index(path, rules, classes, palette)
        write_labels(arguments["out"] / name.with_suffix(".png"), found, palette=False)

    _for_each(list(label_files(arguments["sources"])), convert)


@labels_command.command(name="to-server")
@click.argument("results", type=FOLDER)
@click.option("--dataset", required=True, metavar="NAME", help="Whose server.")
@click.option("-o", "--out", type=NEW_FOLDER, required=True, help="Folder of the PNGs.")
def to_server_command(results: Path, dataset: str, out: Path) -> None:
    """Write predicted label maps as a data set's evaluation server takes them.

    RESULTS holds label maps of class indices, such as the folder `before` of evaluate. Classes
    become the labels that the data set stores, such as Cityscapes' labelIds.

    Exit status: 0 done, 1 some could not be converted (they are named), 2 none could.
    """
    from caffe_port.datasets import dataset as described
    from caffe_port.datasets.finding import label_files, to_server

    data = described(dataset)
    _for_each(
        list(label_files([results])),
        lambda path, name: to_server(path, data, out / name.with_suffix(".png")),
    )


def _for_each(files: list[tuple[Path, Path]], convert: Callable[[Path, Path], None]) -> None:
    """Converts files; names those that cannot be and sets the exit status."""
    from caffe_port.errors import CaffePortError, DataError, FormatError

    if not files:
        raise CaffePortError("no label maps there: expected images or .mat files")
    failed = 0
    for path, name in files:
        try:
            convert(path, name)
        except (DataError, FormatError) as error:
            failed += 1
            echo(f"not converted: {error}", err=True)
    echo(f"{len(files) - failed} of {len(files)} label maps are converted", err=True)
    if failed:
        raise click.exceptions.Exit(SOME_FAILED if failed < len(files) else 2)


@labels_command.command(name="check")
@item_options
@label_options
@image_options
@click.option("--classes", type=click.IntRange(1, 255), help="How many.  [default: the set's]")
def check_command(**arguments: Any) -> None:
    """Read every image and label map of a split: sizes, labels, the published number of images.

    Exit status: 0 all are good, 1 some are not (they are named), 2 there is nothing to check.
    """
    from caffe_port.data.images import read_grey, size_advice
    from caffe_port.datasets.rules import LabelRules
    from caffe_port.errors import CaffePortError

    data = dataset_of(arguments)
    classes = arguments["classes"] or (21 if data is None else len(data.classes))
    rules, items, failed = rules_of(arguments) or LabelRules(), items_of(arguments), 0
    with decoded_as(arguments):
        for item in items:
            try:
                size = read_grey(item.image).shape  # to the end of the file
                if item.label is None:
                    continue
                found = rules.read(item.label, classes).labels.shape
                if found != size:
                    advice = size_advice(item.image, found)
                    raise CaffePortError(f"{item.label}: {found}, its image {size}{advice}")
            except CaffePortError as error:
                failed += 1
                echo(str(error))
    echo(f"{len(items)} images, {failed} with faults")
    if failed:
        raise click.exceptions.Exit(SOME_FAILED)
