"""What a text is: a net, a solver, another message, a template, or no protobuf text at all."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from caffe_port.errors import FormatError
from caffe_port.proto import caffe_pb2
from caffe_port.proto.tokens import parse_tree, substitute

NET, SOLVER, OTHER, TEMPLATE, BROKEN = "net", "solver", "other message", "template", "not protobuf"
_NET_FIELDS = {"layer", "layers", "input", "input_dim", "input_shape"}
_SOLVER_FIELDS = set(caffe_pb2.SolverParameter.DESCRIPTOR.fields_by_name) - {"layer"}
_PLACEHOLDER = re.compile(r"\$\{?\w+|\{\{|\{%|%\(\w+\)|@\w+@")


def kind(text: str) -> str:
    """What the text is, by its grammar and the names of its outermost fields.

    A text that neither this package's reader nor Google's accepts as protobuf's text format is
    TEMPLATE where it has placeholders, else BROKEN: no Caffe reads either. A net's text whose
    ${NAME} must have values first is a TEMPLATE too.
    """
    template = False
    try:
        names = _outermost(text, {})
    except FormatError:
        try:
            names, template = _outermost(text, values(text)), True
        except FormatError:
            if google_reads(text):
                return NET  # a fault of this package's reader, and counted so
            return TEMPLATE if _PLACEHOLDER.search(_without_comments(text)) else BROKEN
    if names & _NET_FIELDS:
        return TEMPLATE if template else NET
    return SOLVER if names and names <= _SOLVER_FIELDS else OTHER


def _outermost(text: str, variables: Mapping[str, str]) -> set[str]:
    return {entry.name for entry in parse_tree(substitute(text, variables), None)}


def values(text: str) -> dict[str, str]:
    """A value for every ${NAME} of a template: 21, which stands for a number and for a name."""
    return dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "21")


def _without_comments(text: str) -> str:
    return re.sub(r"#[^\n]*", "", text)


def google_reads(text: str) -> bool:
    """Whether Google's reader takes the text; names that the schema lacks are no fault."""
    message = caffe_pb2.NetParameter()
    try:
        text_format.Parse(text, message, allow_unknown_field=True)
    except text_format.ParseError as error:
        return "Enum type" in str(error) or "no field named" in str(error)
    except UnicodeError:
        return False
    return True


class Schema:
    """A Caffe's own caffe.proto: whether it reads a text.

    Args:
        source: caffe.proto.
        protoc: the command of the protobuf compiler.
    Raises:
        ValueError: the compiler refuses it.
    """

    def __init__(self, source: bytes, protoc: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "caffe.proto"
            path.write_bytes(source)
            command = [*shlex.split(protoc), f"-I{folder}", f"--descriptor_set_out={folder}/set",
                       str(path)]  # fmt: skip
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise ValueError(done.stderr.strip())
            found = descriptor_pb2.FileDescriptorSet.FromString((Path(folder) / "set").read_bytes())
        pool: Any = descriptor_pool.DescriptorPool()
        for file in found.file:
            pool.Add(file)
        net = pool.FindMessageTypeByName(f"{found.file[0].package}.NetParameter")
        self._net: Any = message_factory.GetMessageClass(net)

    def refusal(self, text: str) -> str:
        """Why a net's text is refused; '' if it is read."""
        try:
            text_format.Parse(text, self._net())
        except (text_format.ParseError, UnicodeError) as error:
            return re.sub(r"^\d+:\d+ : ", "", str(error))
        return ""
