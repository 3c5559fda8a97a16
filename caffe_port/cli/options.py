"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

if TYPE_CHECKING:
    from caffe_port.evaluation.network import NetFactory
    from caffe_port.evaluation.refinement import CRFFactory
    from caffe_port.model_info import ModelInfo

Function = TypeVar("Function", bound=Callable[..., Any])
Options = TypeVar("Options")
Arguments = dict[str, Any]  # of a command, by the names of its options
# a model: a prototxt, a converted model or a model folder
MODEL = click.Path(exists=True, path_type=Path)


class NetOptions(TypedDict):
    """The arguments that ``net_options`` adds to a command; all are arguments of ``load``."""

    phase: str | None
    stages: tuple[str, ...] | None
    level: int | None
    variables: dict[str, str]
    dialect: str | None
    input_shapes: dict[str, tuple[int, ...]]
    allow_python_layers: bool
    strict_text: bool


def named_value(value: str, expected: str) -> tuple[str, str]:
    """The two non-empty sides of NAME=VALUE.

    Raises:
        click.BadParameter: one is empty; names the ``expected`` form.
    """
    name, _, text = value.partition("=")
    if not name or not text:
        raise click.BadParameter(f"'{value}': expected {expected}")
    return name, text


def _variables(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    result = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:  # a variable may be empty
            raise click.BadParameter(f"'{value}': expected NAME=VALUE")
        result[name] = text
    return result


def _shapes(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    expected = "BLOB=1,3,513,513"
    result = {}
    for value in values:
        name, sizes = named_value(value, expected)
        result[name] = tuple(_positive(size, value, expected) for size in sizes.split(","))
    return result


def _stages(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    names = [name.strip() for value in values for name in value.split(",")]
    if "" in names:
        raise click.BadParameter("an empty stage; expected a name, or names such as A,B")
    return tuple(names) or None


def _size(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    if text is None:
        return None
    expected = "N or HEIGHTxWIDTH, each 1 or more"
    height, _, width = text.lower().partition("x")
    return _positive(height, text, expected), _positive(width or height, text, expected)


def _positive(word: str, value: str, expected: str) -> int:
    word = word.strip()
    number = int(word) if word.isascii() and word.isdigit() else 0
    if number < 1:
        raise click.BadParameter(f"'{value}': expected {expected}")
    return number


def parse_mean(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
    """Three numbers B,G,R; None where the option is not given."""
    if text is None:
        return None
    try:
        blue, green, red = (float(value) for value in text.split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}': expected three numbers B,G,R") from None
    if not all(map(math.isfinite, (blue, green, red))):
        raise click.BadParameter(f"'{text}': expected three finite numbers B,G,R")
    return blue, green, red


crop_option = click.option(
    "--crop", callback=_size,
    help="Input size, N or HEIGHTxWIDTH.  [default: the net's own, else 513]",
)  # fmt: skip
mean_option = click.option(
    "--mean", metavar="B,G,R", callback=parse_mean,
    help="Subtracted from the image.  [default: the model's own, else 104.008,116.669,122.675]",
)  # fmt: skip
set_option = click.option(
    "--set", "variables", multiple=True, metavar="NAME=VALUE", callback=_variables,
    help="Replaces ${NAME} in the prototxt; repeat for each.",
)  # fmt: skip


def _imports(ctx: click.Context, param: click.Parameter, names: tuple[str, ...]) -> None:
    if names:
        from caffe_port.spec.plugins import import_own

        import_own(names)


def _device(ctx: click.Context, param: click.Parameter, name: str) -> str:
    if name != "cpu":
        from caffe_port.live.mode import expect_device

        expect_device(name)
    return name


device_option = click.option(
    "--device", default="cpu", show_default=True, callback=_device,
    help="Where the network runs: cpu, cuda or cuda:1.",
)  # fmt: skip
import_option = click.option(
    "--import", "imports", multiple=True, metavar="FILE_OR_MODULE", callback=_imports,
    expose_value=False, is_eager=True,
    help="Import this first: Python code with layer types of your own; repeat for each.",
)  # fmt: skip
_TEXT_OPTIONS = (
    set_option,
    click.option(
        "--dialect", type=click.Choice(["bvlc", "deeplab1", "deeplab2", "longjon", "hed", "rcf"]),
        help="The Caffe fork the file was written for, if its text does not show it.",
    ),
)  # fmt: skip
_NET_OPTIONS = (
    click.option(
        "--phase", type=click.Choice(["TEST", "TRAIN"]),
        help="The phase of the net.  [default: TEST, or the phase in the converted model]",
    ),
    click.option(
        "--stage", "stages", multiple=True, metavar="NAME", callback=_stages,
        help="A stage of the net, for layers with rules about stages; repeat for each.",
    ),
    click.option(
        "--level", type=click.IntRange(-(2**31), 2**31 - 1),
        help="The net's level, for layers with min_level or max_level.  [default: 0]",
    ),
    *_TEXT_OPTIONS,
    click.option(
        "--input-shape", "input_shapes", multiple=True, metavar="BLOB=N,C,H,W", callback=_shapes,
        help="Replaces the shape of an input or of a data layer's top.",
    ),
    click.option(
        "--strict-text", is_flag=True,
        help="Refuse unknown fields of the prototxt, as Caffe does.",
    ),
    click.option(
        "--allow-python-layers", is_flag=True,
        help="Allow layers of type Python to import and run the code they name.",
    ),
    import_option,
)  # fmt: skip


def with_options(options: Sequence[Any], function: Function) -> Function:
    """Adds options to a command, in their order."""
    for option in reversed(options):
        function = option(function)
    return function


def text_options(function: Function) -> Function:
    """Adds the options of every command that reads a prototxt: variables and dialect."""
    return with_options(_TEXT_OPTIONS, function)


def of_net(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of ``net_options`` that are given."""
    given = {name: options[name] for name in NetOptions.__annotations__}
    return {k: v for k, v in given.items() if v is not None and v is not False and v != {}}


def chosen(kind: type[Options], arguments: Mapping[str, Any]) -> Options:
    """A dataclass of options, made from the command's arguments of the same names."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    return kind(**{name: arguments[name] for name in names if name in arguments})


def net_options(function: Function) -> Function:
    """Adds the options of every command that builds a net: phase, stages, shapes and so on."""
    return with_options(_NET_OPTIONS, function)


def _scales(ctx: click.Context, param: click.Parameter, text: str) -> Any:
    try:
        scales = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}': expected numbers such as 0.5,0.75,1") from None
    return scales


_INFERENCE_OPTIONS = (
    click.option(
        "--scales", default="1", show_default=True, metavar="0.5,0.75,1", callback=_scales,
        help="Factors of the image's size; the scores of all are merged.",
    ),
    click.option("--flip", is_flag=True, help="Also run each scale mirrored left to right."),
    click.option(
        "--merge", type=click.Choice(["mean", "max"]), default="mean", show_default=True,
        help="How the scores of scales and flips are merged.",
    ),
    click.option(
        "--whole-image", is_flag=True,
        help="Fit the net's input to each image, in place of padding and windows of --crop.",
    ),
    click.option(
        "--overlap", type=click.FloatRange(0, 1, max_open=True),
        help="Cover larger images by windows; the share that each repeats of the one before it.  "
        "[default: 1/3; without these options evaluate refuses larger images]",
    ),
    click.option(
        "--batch", type=click.IntRange(min=1), default=1, show_default=True,
        help="Inputs of one size that go through the network together.",
    ),
)  # fmt: skip


def inference_options(function: Function) -> Function:
    """Adds the options of ``evaluation.test_time.InferenceOptions``."""
    return with_options(_INFERENCE_OPTIONS, function)


_CRF_OPTIONS = (
    click.option(
        "--crf",
        help="Dense CRF: preset, bi_w=4,bi_xy_std=49,..., a JSON object, or model: the one that "
        "the model states.",
    ),
    click.option(
        "--crf-config", type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Dense CRF: JSON file, such as crf_grid's best.json.",
    ),
    click.option(
        "--crf-colours", type=click.Choice(["layer", "rgb"]),
        help="As Caffe's DenseCRF layer sees them (BGR minus mean) or DeepLab's programs (RGB).  "
        "[default: what --crf-config says, else layer]",
    ),
)  # fmt: skip


def crf_options(function: Function) -> Function:
    """Adds the options of the dense CRF; ``crf_factory`` reads them."""
    return with_options(_CRF_OPTIONS, function)


def crf_factory(
    arguments: Arguments, mean: tuple[float, float, float], info: ModelInfo
) -> CRFFactory | None:
    """The dense CRF that ``crf_options`` describe, None without one.

    Args:
        arguments: of the command.
        mean: blue, green, red, for the colours of Caffe's layer.
        info: of the model, whose CRF "model" names.
    """
    from caffe_port.evaluation.refinement import CRFFactory, read_crf_config

    text, config, colours = arguments["crf"], arguments["crf_config"], arguments["crf_colours"]
    if text is not None and config is not None:
        raise click.UsageError("--crf and --crf-config both set the dense CRF: give one")
    if config is not None:
        return read_crf_config(config, colours, mean)
    if text is None:
        return None
    if text.endswith(".json"):
        raise click.BadParameter(f"use --crf-config {text} for a file", param_hint="--crf")
    return CRFFactory(*info.chosen_crf(text, colours), mean)


_ENGINE_OPTIONS = (
    click.option(
        "--optimized/--no-optimized", default=True,
        help="Run the network as a whole, faster, or layer by layer as Caffe.  "
        "[default: optimized]",
    ),
    click.option(
        "--engine", type=click.Choice(["auto", "torch", "onnxruntime", "openvino"]),
        default="auto", show_default=True,
        help="What computes an optimized network; auto: the fastest that is installed, measured "
        "once for a network, a size and a machine.",
    ),
)  # fmt: skip


def engine_options(function: Function) -> Function:
    """Adds the options of ``Net.optimized``; ``net_factory`` reads them."""
    return with_options(_ENGINE_OPTIONS, function)


def net_factory(arguments: Arguments) -> NetFactory:
    """The network of the arguments net, weights, blob, device, optimized, engine and
    ``net_options``."""
    from caffe_port.evaluation.network import NetFactory

    weights, net = arguments["weights"], of_net(arguments)
    return NetFactory(
        str(arguments["net"]),
        None if weights is None else str(weights),
        arguments["blob"],
        net.pop("variables", {}),
        arguments["device"],
        arguments["optimized"],
        net,
        arguments["engine"],
    )
