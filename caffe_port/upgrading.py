"""Files of older generations written in the present one, for Caffe to read."""

from __future__ import annotations

import os
from collections.abc import Mapping

from caffe_port.errors import FormatError
from caffe_port.files import write_text
from caffe_port.proto import caffe_pb2, read_net_text, read_solver
from caffe_port.proto.printer import print_text
from caffe_port.proto.renumber import is_v1_only
from caffe_port.proto.unknown import UnknownWord
from caffe_port.sniff import is_text, read_head

_Path = str | os.PathLike[str]


def upgrade_file(
    source: _Path,
    target: _Path,
    *,
    variables: Mapping[str, str] | None = None,
    dialect: str | None = None,
) -> list[str]:
    """Writes the V2 form of a net or solver prototxt, or of a binary caffemodel.

    Args:
        source: a prototxt, or a .caffemodel; told by content.
        target: the file to make, of the same kind.
        variables: values for ``${NAME}`` in a prototxt.
        dialect: whose Caffe the file was written for; None looks at it.
    Returns:
        Remarks: fields that only DeepLab v1 has, which no other Caffe reads, and words of other
        forks that have no effect and are left out.
    Raises:
        FormatError: the file is neither, is broken, or has fields that would be lost.
        OSError: it cannot be read, or the target not written.
    """
    if not is_text(read_head(source)):
        return _upgrade_binary(source, target, dialect)
    parsed = read_net_text(source, variables, dialect)
    if not parsed.message.layer and parsed.unknown:
        text, remarks = print_text(read_solver(source, variables)), []
    else:
        lost = [field for field in parsed.unknown if not isinstance(field, UnknownWord)]
        if lost:
            raise FormatError(f"{lost[0]}; it would be lost: remove it first", path=source)
        remarks = leave_v1(parsed.message) + [str(field) for field in parsed.unknown]
        text = print_text(parsed.message)
    write_text(target, text)
    return remarks


def _upgrade_binary(source: _Path, target: _Path, dialect: str | None) -> list[str]:
    from caffe_port.proto.binary import read_net_binary
    from caffe_port.weights.caffemodel import read_caffemodel, write_caffemodel

    stored = read_caffemodel(source)
    net = read_net_binary(source, dialect)
    remarks = leave_v1(net.message) + [str(field) for field in net.unknown]
    write_caffemodel(target, stored.layers, net_message=net.message)
    return remarks


def leave_v1(message: caffe_pb2.NetParameter) -> list[str]:
    """Gives DeepLab v1's loss options the present names, in place.

    With at most one ignored label and no class weights its softmaxloss_param means what loss_param
    means by default.

    Returns:
        A remark for each field left that only DeepLab v1 has.
    """
    remarks = []
    for layer in message.layer:
        v1 = layer.softmaxloss_param
        if len(v1.ignore_label) <= 1 and not v1.weight_source:
            for label in v1.ignore_label:
                layer.loss_param.ignore_label = label
            layer.ClearField("softmaxloss_param")
        remarks += [
            f"layer '{layer.name}' ({layer.type}): only DeepLab v1 has '{field.name}'"
            for field, _ in layer.ListFields()
            if is_v1_only(field.number)
        ]
    return remarks
