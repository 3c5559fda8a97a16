"""Errors of google.protobuf.text_format on Caffe's messages, with what can be done about them.

Many scripts parse prototxts of forks by ``text_format.Merge(text, caffe_pb2.NetParameter())``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from google.protobuf import text_format

from caffe_port.proto import caffe_pb2

_PACKAGE = caffe_pb2.DESCRIPTOR.package
_FUNCTIONS = ("Merge", "MergeLines", "Parse", "ParseLines")
_ADVICE = {
    "has no field named": (
        "It is misspelled, or a field of another fork. "
        "text_format.Merge(text, message, allow_unknown_field=True) skips such fields, and what "
        "the message is written to lacks them; caffe_port.proto.parse_net(text) skips and lists "
        "them"
    ),
    "has no value named": (
        "It is misspelled, or a word of another fork: write one that this type has; "
        "allow_unknown_field does not skip it"
    ),
}


def install() -> None:
    """Makes text_format's functions raise errors with advice, for the whole process."""
    for name in _FUNCTIONS:
        function = getattr(text_format, name)
        if not hasattr(function, "__wrapped__"):
            setattr(text_format, name, _advising(function))


def _advising(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(text: Any, message: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(text, message, *args, **kwargs)
        except text_format.ParseError as error:
            advice = _advice(str(error)) if message.DESCRIPTOR.file.package == _PACKAGE else ""
            if not advice:
                raise
            found = str(error).rstrip(".")
            raise type(error)(f"{found}. {advice}") from None

    return call


def _advice(error: str) -> str:
    """What can be done about an error; nothing where it is said already."""
    found = (advice for words, advice in _ADVICE.items() if words in error and advice not in error)
    return next(found, "")
