"""The program ``draw_net``: a net as a picture.

Source: BVLC/caffe python/draw_net.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from caffe_port.cli.caffe_tools._program import expect, run
from caffe_port.cli.gflags import Flag, Flags
from caffe_port.errors import UsageError

_ABOUT = "draw_net NET_PROTOTXT OUTPUT_IMAGE [flags]"
_PHASES = ("ALL", "TRAIN", "TEST")
_DIRECTIONS = ("LR", "RL", "TB", "BT")
FLAGS = {
    "rankdir": Flag("LR", f"Where the data goes: {', '.join(_DIRECTIONS)}."),
    "phase": Flag("ALL", "Which layers are drawn: TRAIN, TEST or ALL."),
    "display_lrm": Flag(False, "Show lr_mult of layers that learn."),
}


def _body(flags: Flags, others: list[str]) -> None:
    from caffe_port.proto import caffe_pb2, read_net_text
    from caffe_port.pycaffe.draw import draw_net_to_file
    from caffe_port.spec.names import check_fields

    expect(others, 2, 2, _ABOUT)
    if flags.phase not in _PHASES:
        raise UsageError(f"-phase is '{flags.phase}'; expected one of {', '.join(_PHASES)}")
    if flags.rankdir not in _DIRECTIONS:
        raise UsageError(f"-rankdir is '{flags.rankdir}'; expected {', '.join(_DIRECTIONS)}")
    phase = None if flags.phase == "ALL" else caffe_pb2.Phase.Value(flags.phase)
    print(f"Drawing net to {others[1]}")
    net = read_net_text(others[0])
    check_fields(net, strict=True)
    try:
        draw_net_to_file(net.message, others[1], flags.rankdir, phase, flags.display_lrm)
    except ValueError as error:  # pycaffe's own for layers that cannot be drawn
        raise UsageError(f"{others[0]}: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; see ``run`` for the exit status."""
    return run("draw_net", _body, FLAGS, _ABOUT, arguments)
