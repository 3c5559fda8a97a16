"""Building the net that a command works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe_port.cli.caffe_tools._device import log_device, use_device
from caffe_port.errors import UsageError

if TYPE_CHECKING:
    from caffe_port.cli.gflags import Flags
    from caffe_port.live.net import Net


def stages(flags: Flags) -> tuple[str, ...]:
    """The stages that -stage names."""
    return tuple(name for name in flags.stage.split(",") if name)


def allow(flags: Flags) -> None:
    """Allows nets what the flags say: Python layers, fields that are not known."""
    from caffe_port.live import mode

    mode.allow_python_layers(flags.allow_python_layers)
    mode.allow_unknown_fields(flags.allow_unknown_fields)


def build_net(flags: Flags, phase: str, command: str) -> Net:
    """The net of -model, on the device of -gpu; both are logged as Caffe logs them.

    Args:
        flags: of the command line.
        phase: of the net.
        command: 'TEST' or 'TIME'.
    Raises:
        UsageError: the phase is neither TRAIN nor TEST.
        CaffePortError: the net is not as expected.
    """
    from caffe_port.live.net import Net
    from caffe_port.proto import caffe_pb2
    from caffe_port.solver.net_log import log_net
    from caffe_port.solver.nets import expect_layers

    if phase not in ("TRAIN", "TEST"):
        raise UsageError(f"-phase is '{phase}'; expected TRAIN or TEST")
    allow(flags)
    gpu = use_device(flags.gpu)
    number = caffe_pb2.Phase.Value(phase)
    net = expect_layers(Net(flags.model, phase=number, level=flags.level, stages=stages(flags)))
    log_device(gpu, command, net._net.spec.dialect)
    log_net(net._net.spec)
    return net
