"""``caffe-port explore``: a web page on this machine to look inside a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from caffe_port.cli.labels import decoded_as, image_options, label_options, rules_of
from caffe_port.cli.options import (
    MODEL,
    Arguments,
    crf_options,
    crop_option,
    device_option,
    engine_options,
    inference_options,
    mean_option,
    net_factory,
    net_options,
    of_net,
)
from caffe_port.cli.predict import choose_engine, segmenter_of
from caffe_port.errors import echo

if TYPE_CHECKING:
    from caffe_port.exploring.blobs import Verification
    from caffe_port.exploring.sessions import Subject

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command(name="explore")
@click.argument("net", type=MODEL, metavar="MODEL")
@click.argument("weights", type=_FILE, required=False, metavar="[WEIGHTS]")
@click.option("--images", type=_FOLDER, help="Folder of images that the page offers.")
@click.option("--truth", type=_FOLDER, help="Folder of their label maps, for IoU.")
@click.option(
    "--recording", type=click.Path(exists=True, path_type=Path),
    help="Recording of real Caffe to compare the blobs with.",
)  # fmt: skip
@click.option("--run", type=_FOLDER, help="Folder of a caffe train or finetune run to watch.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option(
    "--host", default="127.0.0.1", show_default=True,
    help="Address to listen on. Another than this machine's own lets others on the network, who "
    "know the token, look into the model.",
)  # fmt: skip
@click.option("--browser/--no-browser", default=True, help="Open the page.  [default: browser]")
@crf_options
@inference_options
@crop_option
@mean_option
@click.option(
    "--names", type=_FILE, help="Class names, one a line.  [default: the model's, VOC's for 21]"
)
@click.option(
    "--dataset", metavar="NAME",
    help="Names, colours and stored labels of a data set: see 'labels datasets', or a .json file.",
)  # fmt: skip
@label_options
@image_options
@click.option("--blob", help="Score blob.  [default: found in the net]")
@device_option
@engine_options
@net_options
def explore_command(**arguments: Any) -> None:
    """Look inside a model on a web page of this machine.

    MODEL is a converted model, a model folder, or a prototxt with WEIGHTS. The page shows labels,
    confidence and scores of your images, the dense CRF with sliders, which points caused a label,
    every blob, the comparison with a recording, and a training as it runs. It needs no network
    connection, and only programs that know the token in its address get answers. Ctrl-C ends it.

    The environment variable CAFFE_PORT_EXPLORE_TOKEN sets the token, 22 letters or more, so that
    the address stays the same with --port.

    Exit status: 0 ended by Ctrl-C, 2 a file or an option cannot be used.
    """
    from caffe_port.exploring.notebook import expect_installed, open_browser, serve

    expect_installed()
    from caffe_port.exploring.security import TOKEN_VARIABLE, make_token
    from caffe_port.exploring.server import Server

    token = make_token(os.environ.get(TOKEN_VARIABLE))
    subject = _subject(arguments)

    def started(url: str) -> None:
        echo(f"Explore {arguments['net'].name} at\n{url}")
        opened = arguments["browser"] and open_browser(url)
        echo("Ctrl-C ends it." if opened else "Open the address in a browser; Ctrl-C ends it.")

    with decoded_as(arguments):
        serve(Server(subject), token, arguments["host"], arguments["port"], started)


def _subject(arguments: Arguments) -> Subject:
    from caffe_port.evaluation.scheduler import cores
    from caffe_port.exploring.notebook import fill_subject
    from caffe_port.exploring.sessions import Subject
    from caffe_port.prediction.segmenter import expect_weights

    expect_weights(arguments["net"], arguments["weights"])
    factory = choose_engine(arguments, net_factory(arguments), images=None)
    segmenter = segmenter_of(arguments, factory.load())
    rules = rules_of(arguments)
    if rules is not None:
        rules.expect_classes(segmenter.scores.classes)
    subject = Subject(segmenter, arguments["net"].name, rules=rules, threads=cores())
    if arguments["recording"] is not None:
        subject.verification = _verification(arguments)
    wanted = ("images", "truth", "recording", "run")
    fill_subject(subject, **{name: arguments[name] for name in wanted})
    return subject


def _verification(arguments: Arguments) -> Verification:
    """The recording, and the net in its phase and with its shapes."""
    from caffe_port.exploring.blobs import Verification
    from caffe_port.parity.recording import load_recorded

    return Verification(
        *load_recorded(
            arguments["net"], arguments["weights"], arguments["recording"], of_net(arguments)
        )
    )
