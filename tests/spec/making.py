"""Specs from snippets of prototxt."""

from caffe_port import NetSpec
from caffe_port.proto import parse_net

INPUT = 'input: "x" input_shape { dim: 2 dim: 3 dim: 6 dim: 6 }\n'
ONE_BY_ONE = 'num_output: 3 kernel_size: 1 weight_filler { type: "gaussian" std: 0.5 }'
LABEL = (
    'layer { name: "y" type: "Input" top: "y" '
    "input_param { shape { dim: 2 dim: 1 dim: 6 dim: 6 } } }\n"
)


def spec_of(text, **options):
    parsed = parse_net(text, dialect=options.pop("dialect", None))
    return NetSpec.build(
        parsed.message, dialect=parsed.dialect, unknown=parsed.unknown, text=parsed.text, **options
    )


def layer(name, type, bottoms="", tops=None, more=""):
    """A layer; bottoms and tops are blob names with spaces between."""
    tops = name if tops is None else tops
    blobs = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return f'layer {{ name: "{name}" type: "{type}" {" ".join(blobs)} {more} }}\n'


def conv(name, bottom, tops=None, more="", options=ONE_BY_ONE):
    return layer(name, "Convolution", bottom, tops, f"convolution_param {{ {options} }} {more}")
