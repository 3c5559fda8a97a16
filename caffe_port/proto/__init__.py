"""Caffe's text and binary formats: schema, reading and upgrading. Needs no torch.

``caffe_pb2`` is the generated module of the schema, as in pycaffe.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from caffe_port.files import AnyFile, name_of
from caffe_port.proto import _decimal_point, caffe_pb2  # noqa: F401  (the first makes the second)
from caffe_port.proto.dialects import UnknownField, choose_dialect
from caffe_port.proto.text import parse_text, read_file
from caffe_port.proto.upgrade import upgrade_net, upgrade_solver

__all__ = [
    "NetText",
    "UnknownField",
    "caffe_pb2",
    "parse_net",
    "read_file",
    "read_net",
    "read_net_text",
    "read_solver",
]


@dataclass(frozen=True)
class NetText:
    """A prototxt that was read.

    Attributes:
        message: the net in the present generation (V2).
        unknown: fields that no dialect of the schema has.
        text: the prototxt with its variables filled in.
        generation: 'V0', 'V1' or 'V2', as it was written.
        dialect: one of ``DIALECTS`` of ``dialects``.
        path: where it came from, or ''.
    """

    message: caffe_pb2.NetParameter
    unknown: tuple[UnknownField, ...]
    text: str
    generation: str
    dialect: str
    path: str


def parse_net(
    text: str,
    *,
    variables: Mapping[str, str] | None = None,
    dialect: str | None = None,
    path: str | None = None,
) -> NetText:
    """Parses and upgrades the prototxt of a net.

    Args:
        text: the prototxt, of generation V0, V1 or V2.
        variables: values for ``${NAME}``.
        dialect: whose Caffe it was written for; None looks at the text.
        path: named in errors.
    Raises:
        FormatError: with path, line and column.
        UsageError: no such dialect.
    Examples:
        >>> from caffe_port.proto import parse_net
        >>> text = parse_net('layers { name: "r" type: RELU bottom: "x" top: "y" }')
        >>> text.generation, text.message.layer[0].type
        ('V1', 'ReLU')
    """
    from caffe_port.proto.tokens import substitute

    filled = substitute(text, variables or {})
    message, unknown = parse_text(filled, caffe_pb2.NetParameter(), path=path)
    dialect = choose_dialect(message, dialect)
    generation = upgrade_net(message, path, dialect)
    # only comments hold bytes that are not UTF-8; the text may be written to a file
    filled = filled.encode(errors="surrogateescape").decode(errors="replace")
    return NetText(message, unknown, filled, generation, dialect, path or "")


def read_net_text(
    file: AnyFile,
    variables: Mapping[str, str] | None = None,
    dialect: str | None = None,
) -> NetText:
    """Reads the prototxt of a net, with its unknown fields, generation and dialect.

    Args, Raises: as for ``read_net``.
    Examples:
        >>> from caffe_port.proto import read_net_text
        >>> read_net_text("examples/shapes_voc/caffe_run/recording/net.prototxt").dialect
        'deeplab2'
    """
    return parse_net(read_file(file), variables=variables, dialect=dialect, path=name_of(file))


def read_net(
    path: str | os.PathLike[str],
    variables: Mapping[str, str] | None = None,
    dialect: str | None = None,
) -> caffe_pb2.NetParameter:
    """Reads the prototxt of a net, upgraded as Caffe's ``upgrade_net_proto_text`` does.

    Args:
        path: the text.
        variables: values for ``${NAME}``.
        dialect: whose Caffe it was written for; None looks at the text.
    Returns:
        The message, with V2 layers.
    Raises:
        FormatError: with path, line and column.
    Examples:
        >>> from caffe_port.proto import read_net
        >>> net = read_net("examples/shapes_voc/caffe_run/recording/net.prototxt")
        >>> net.layer[0].type
        'Input'
    """
    return read_net_text(path, variables, dialect).message


def read_solver(
    file: AnyFile, variables: Mapping[str, str] | None = None
) -> caffe_pb2.SolverParameter:
    """Reads the prototxt of a solver, upgraded as ``upgrade_solver_proto_text`` does.

    Args:
        file: the text.
        variables: values for ``${NAME}``.
    Raises:
        FormatError: with path, line and column; also for fields that no dialect has.
    Examples:
        >>> from caffe_port.proto import read_solver
        >>> read_solver("examples/shapes_voc/caffe_run/solver.prototxt").lr_policy
        'poly'
    """
    message, unknown = read_solver_text(file, variables)
    for field in unknown:
        from caffe_port.errors import FormatError

        wrong = field.described().removeprefix("the net: ")
        raise FormatError(wrong, path=name_of(file), line=field.line, column=field.column)
    return message


def read_solver_text(
    file: AnyFile, variables: Mapping[str, str] | None = None
) -> tuple[caffe_pb2.SolverParameter, tuple[UnknownField, ...]]:
    """Reads a solver and the fields that only another fork's solver has.

    Raises:
        FormatError: with path, line and column.
    """
    path = name_of(file)
    message, unknown = parse_text(
        read_file(file), caffe_pb2.SolverParameter(), path=path, variables=variables
    )
    return upgrade_solver(message, path), unknown
