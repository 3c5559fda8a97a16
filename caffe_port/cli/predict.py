"""`caffe-port predict`: label maps, overlays and a gallery of photographs, folders and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.labels import decoded_as, image_options
from caffe_port.cli.options import (
    MODEL,
    Arguments,
    chosen,
    crf_factory,
    crf_options,
    crop_option,
    device_option,
    engine_options,
    inference_options,
    mean_option,
    net_factory,
    net_options,
)
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.evaluation.network import NetFactory
    from caffe_port.net import Net
    from caffe_port.prediction.gallery import Gallery
    from caffe_port.prediction.inputs import Inputs
    from caffe_port.prediction.output import Outcome, Output
    from caffe_port.prediction.segmenter import Segmenter

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SOME_FAILED = 1  # exit status
_OF_SEGMENTER = ("crop", "names", "dataset", "blob", "device")


def _extras(ctx: click.Context, param: click.Parameter, text: str) -> Any:
    from caffe_port.prediction.output import EXTRAS

    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for word in words:
        if word not in EXTRAS:
            raise click.BadParameter(f"'{word}': expected {' or '.join(EXTRAS)}")
    return words


@click.command(name="predict")
@click.argument("net", type=MODEL, metavar="MODEL")
@click.argument("inputs", nargs=-1, required=True, metavar="[WEIGHTS] INPUT...")
@click.option(
    "-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder."
)
@click.option(
    "--write",
    "extras",
    default="",
    callback=_extras,
    metavar="scores,probabilities",
    help="Also write the scores before the softmax, or the probabilities.",
)
@click.option("--format", type=click.Choice(["npy", "npz", "h5"]), default="npy", show_default=True)
@click.option(
    "--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True
)
@crf_options
@inference_options
@crop_option
@mean_option
@click.option(
    "--names", type=_FILE, help="Class names, one a line.  [default: the model's, VOC's for 21]"
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="Names and colours of a data set: see 'labels datasets', or a .json file.",
)
@image_options
@click.option("--blob", help="Score blob.  [default: found in the net]")
@device_option
@engine_options
@click.option("--frames", type=click.IntRange(min=1), help="At most so many frames of a video.")
@net_options
def predict_command(**arguments: Any) -> None:
    """Segment images of any size: label maps, overlays, confidence, entropy and a gallery.

    MODEL is a converted model, a model folder, or a prototxt with WEIGHTS. INPUT is an image, a
    folder (with its subfolders), a pattern such as 'photos/*.jpg', a .txt file with a path a line,
    - for such a list on standard input, a video, or camera:0. Results that are there already are
    kept.

    Exit status: 0 done, 1 some images failed (they are named), 2 nothing can be done, 130
    interrupted.
    """
    from caffe_port.files import expect_writable
    from caffe_port.prediction.inputs import Inputs, check_inputs, is_input

    words, out = arguments["inputs"], arguments["out"]
    arguments["weights"] = None if is_input(words[0]) else _weights(Path(words[0]))
    words = words if arguments["weights"] is None else words[1:]
    check_inputs(words)
    expect_writable(out / "index.html")
    images = Inputs(words, without=out, frames=arguments["frames"])
    if _predict(images, arguments):
        raise click.exceptions.Exit(SOME_FAILED)


def _weights(path: Path) -> Path | None:
    """The second argument, if it is a file and not an image of an unusual name."""
    from caffe_port.data.images import stored_size
    from caffe_port.errors import CaffePortError

    try:
        stored_size(path)
    except CaffePortError:
        return path if path.is_file() else None
    return None


def segmenter_of(arguments: Arguments, net: Net) -> Segmenter:
    """The segmenter of the options of ``predict`` and ``explore``."""
    from dataclasses import asdict

    from caffe_port.evaluation.score_net import preprocessing
    from caffe_port.evaluation.test_time import InferenceOptions
    from caffe_port.prediction.segmenter import Segmenter

    given = {name: value for name, value in arguments.items() if value is not None}
    mean, _ = preprocessing(net, arguments["mean"])
    factory = crf_factory(arguments, mean, net.info)
    crf: Arguments = {}
    if factory is not None:
        crf = {"crf": factory.parameters, "crf_colours": factory.colours}
    rest: Arguments = {name: given.get(name) for name in _OF_SEGMENTER}
    rest |= {"optimized": arguments["optimized"], "engine": arguments["engine"]}
    rest |= asdict(chosen(InferenceOptions, given))
    return Segmenter(net, mean=mean, **rest, **crf)


def choose_engine(arguments: Arguments, factory: NetFactory, images: int | None) -> NetFactory:
    """The network with the fastest engine, whose name the arguments get; see ``with_engine``."""
    from caffe_port.evaluation.network import image_size
    from caffe_port.evaluation.score_net import with_engine
    from caffe_port.evaluation.test_time import InferenceOptions

    if not arguments["optimized"]:
        return factory
    given = {name: value for name, value in arguments.items() if value is not None}
    crop = arguments["crop"] or image_size(factory.spec)
    inference = chosen(InferenceOptions, given)
    factory = with_engine(factory, crop, images=images, inference=inference)
    arguments["engine"] = factory.engine
    return factory


def _predict(images: Inputs, arguments: Arguments) -> int:
    """Writes all results; returns the number of images that failed."""
    from caffe_port.prediction.gallery import Gallery
    from caffe_port.prediction.output import Output, Wanted
    from caffe_port.prediction.segmenter import expect_weights

    model, out = arguments["net"], arguments["out"]
    expect_weights(model, arguments["weights"])
    factory = choose_engine(arguments, net_factory(arguments), len(images))
    settings = factory.describe()  # also checks the files
    segmenter = segmenter_of(arguments, factory.load())
    settings |= {**segmenter.describe(), "exif": arguments["exif"]}
    wanted = Wanted(arguments["extras"], arguments["format"], arguments["dtype"])
    output = Output(out, settings, wanted)
    gallery = Gallery(output, segmenter.colours)
    with decoded_as(arguments), output.locked():
        output.drop_unfinished()
        try:
            _run(images, segmenter, output, gallery)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(
                f"interrupted: the results of {gallery.done} images are kept in {out}; run the "
                "same command again to resume"
            ) from error
        finally:
            if gallery.done or gallery.failed:
                page = gallery.write(f"Predictions of {model.name}", settings)
    echo(f"{gallery.summary}; gallery: {page}")
    return gallery.failures


def _run(images: Inputs, segmenter: Segmenter, output: Output, gallery: Gallery) -> None:
    """Predicts all images under a progress bar."""
    from caffe_port.prediction.output import predict_all
    from caffe_port.reports.progress import shown_images

    total = len(images)
    with shown_images("predict") as show:

        def report(outcome: Outcome) -> None:
            gallery.add(outcome)
            lines = [f"failed: {outcome.error}"] if outcome.error else []
            done = gallery.done + gallery.failures
            show(done, max(total, done), lines)  # a video may have more frames than its header says

        predict_all(images, segmenter, output, report)
