"""The programs ``upgrade_net_proto_text``, ``upgrade_net_proto_binary``,
``upgrade_solver_proto_text``: files of older generations in the present one.

Source: BVLC/caffe tools/upgrade_*.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence

from caffe_port.cli.caffe_tools._program import expect, run
from caffe_port.cli.gflags import Flags
from caffe_port.errors import UsageError
from caffe_port.solver.log import WARNING, log

# what each program says that it wrote, and the line of Caffe's source that says it
_WRITTEN = {
    "upgrade_net_proto_text": ("NetParameter text", 49),
    "upgrade_net_proto_binary": ("NetParameter binary", 48),
    "upgrade_solver_proto_text": ("SolverParameter text", 49),
}


def _run(program: str, is_text: bool, arguments: Sequence[str] | None) -> int:
    about = f"{program} INPUT OUTPUT"

    def body(flags: Flags, others: list[str]) -> None:
        from caffe_port import sniff
        from caffe_port.upgrading import upgrade_file

        expect(others, 2, 2, about)
        source, target = others
        if sniff.is_text(sniff.read_head(source)) != is_text:
            raise UsageError(f"{source}: expected a {'prototxt' if is_text else '.caffemodel'}")
        for remark in upgrade_file(source, target):
            log(remark, WARNING, place=f"{program}.cpp:1")
        what, line = _WRITTEN[program]
        log(f"Wrote upgraded {what} proto to {target}", place=f"{program}.cpp:{line}")

    return run(program, body, {}, about, arguments)


def net_proto_text(arguments: Sequence[str] | None = None) -> int:
    """upgrade_net_proto_text INPUT OUTPUT."""
    return _run("upgrade_net_proto_text", True, arguments)


def net_proto_binary(arguments: Sequence[str] | None = None) -> int:
    """upgrade_net_proto_binary INPUT OUTPUT."""
    return _run("upgrade_net_proto_binary", False, arguments)


def solver_proto_text(arguments: Sequence[str] | None = None) -> int:
    """upgrade_solver_proto_text INPUT OUTPUT."""
    return _run("upgrade_solver_proto_text", True, arguments)
