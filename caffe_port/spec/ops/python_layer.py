"""Python: a layer whose code is the user's, with pycaffe's interface.

A model file names a module, and importing it runs code. So it is imported only if the caller allows
it, with ``allow_python_layers=True`` or an option that sets it.
"""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import math
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from caffe_port.errors import CaffePortError, DialectWarning, in_command, option, shapes_option
from caffe_port.proto import caffe_pb2
from caffe_port.spec.ops._base import Op, ParamShape, Shape, expect, register_op
from caffe_port.spec.plugins import describe_error

if TYPE_CHECKING:
    from caffe_port.live.blob import Blob

# module and class of a published layer -> the built-in type that computes the same
PUBLISHED = {
    ("pyloss", "EuclideanLossLayer"): "EuclideanLoss",
    ("rpn.anchor_target_layer", "AnchorTargetLayer"): "RPNAnchorTarget",
    ("rpn.proposal_layer", "ProposalLayer"): "RPNProposal",
    ("rpn.proposal_target_layer", "ProposalTargetLayer"): "RPNProposalTarget",
    ("spatial_dropout", "SpatialDropoutLayer"): "SpatialDropout",
}
Setting = float | str | tuple[float, ...]
_ENTRY = re.compile(
    r"""\s*['"]?(?P<name>\w+)['"]?\s*:\s*(?:!!python/tuple\s*)?
    (?:[\[(](?P<several>[^\])]*)[\])] | ['"](?P<text>[^'"\n]*)['"] | (?P<one>[^\s,'"\[\](){}]+))
    \s*(?:,|\n|$)""",
    re.VERBOSE,
)
ENVIRONMENT = "CAFFE_PORT_ALLOW_PYTHON_LAYERS"
_allowed = contextvars.ContextVar("python layers allowed", default=False)
_blobs: contextvars.ContextVar[dict[str, Blob]] = contextvars.ContextVar("blobs of the net")


@contextlib.contextmanager
def python_layers(allowed: bool) -> Iterator[None]:
    """Sets whether nets built inside may import and run the code that their Python layers name."""
    token = _allowed.set(allowed)
    try:
        with one_net():
            yield
    finally:
        _allowed.reset(token)


def is_allowed() -> bool:
    """Whether the code that Python layers name may be imported and run.

    CAFFE_PORT_ALLOW_PYTHON_LAYERS=1 in the environment allows it, with a warning, for commands that
    are not to be edited.
    """
    return _allowed.get() or os.environ.get(ENVIRONMENT, "") not in ("", "0")


def published(layer: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
    """The layer as a built-in type, if its class is a well-known one and no code may run.

    Args:
        layer: any layer.
    Returns:
        The layer itself, or a copy of another type, which reads ``python_param`` too.
    """
    options = layer.python_param
    type = PUBLISHED.get((options.module, options.layer))
    if layer.type != "Python" or type is None or is_allowed():
        return layer
    if type == "EuclideanLoss" and any(weight not in (0, 1) for weight in layer.loss_weight):
        return layer  # its backward pass does not read the weight
    found = caffe_pb2.LayerParameter()
    found.CopyFrom(layer)
    found.type = type
    if type.endswith("Loss") and not layer.loss_weight:
        found.loss_weight.append(0)  # a Python layer is no loss of itself
    return found


def settings(text: str) -> dict[str, Setting]:
    """The settings of a ``param_str``: a dictionary in Python's or YAML's notation.

    Raises:
        ValueError: a part of the text is neither.
    Examples:
        >>> settings("'feat_stride': 16 \\n'scales': !!python/tuple [4, 8]")
        {'feat_stride': 16.0, 'scales': (4.0, 8.0)}
    """
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1]
    found: dict[str, Setting] = {}
    place = 0
    while inner[place:].strip():
        entry = _ENTRY.match(inner, place)
        if entry is None:
            raise ValueError(f"param_str {text!r}; expected 'name': value, ...")
        if entry["text"] is not None:
            found[entry["name"]] = entry["text"]
        elif entry["several"] is not None:
            numbers = [_number(each) for each in entry["several"].split(",") if each.strip()]
            found[entry["name"]] = tuple(numbers)
        else:
            found[entry["name"]] = _number(entry["one"])
        place = entry.end()
    return found


def _number(text: str) -> float:
    truth = {"True": 1.0, "true": 1.0, "False": 0.0, "false": 0.0}
    try:
        number = truth[text] if text in truth else float(text)
    except ValueError:
        raise ValueError(f"param_str has {text.strip()!r}; expected a number") from None
    expect(math.isfinite(number), f"param_str has {text.strip()}; expected a finite number")
    return number


def warn_of_published(layers: Sequence[caffe_pb2.LayerParameter]) -> None:
    """Says which Python layers are computed without their code.

    Args:
        layers: as ``published`` returned them.
    """
    classes = {
        f"'{layer.name}' ({layer.python_param.module}.{layer.python_param.layer})": layer.type
        for layer in layers if layer.type != "Python" and layer.python_param.module
    }  # fmt: skip
    if classes:
        message = (
            "Python layers computed by the rules of the published class, without running code: "
            f"{', '.join(f'{what} as {type}' for what, type in classes.items())}. A changed copy "
            "of the class, and configuration outside of the text, are not read (docs/LAYERS.md). "
            f"{option('allow_python_layers', True)} runs your own code instead"
        )
        warnings.warn(message, DialectWarning, stacklevel=5)


@contextlib.contextmanager
def one_net() -> Iterator[None]:
    """Python layers made inside are of one net: a blob that two of them have is one object."""
    token = _blobs.set({})
    try:
        yield
    finally:
        _blobs.reset(token)


@dataclass(frozen=True)
class Made:
    """A user's layer object, with the blobs that its ``setup`` was given.

    It may have kept these, or filled its tops for good, so they have to be those of the net.
    """

    layer: Any
    bottoms: list[Blob]
    tops: list[Blob]


class Code:
    """The user's layer object behind a Python layer, made when shapes are first needed.

    Caffe calls ``setup`` once per net; so does this, although the spec needs the shapes before the
    net exists: the first module built takes over the object that gave them.

    Args:
        message: the layer's prototxt, with its phase.
        warns: whether a warning says that code runs.
    """

    def __init__(self, message: caffe_pb2.LayerParameter, warns: bool = False) -> None:
        self.message, self._warns = message, warns
        self._waiting: Made | None = None

    def make(self, bottoms: Sequence[Shape]) -> Made:
        """Imports the module, makes the object, runs its ``setup`` and ``reshape``."""
        from caffe_port.pycaffe import alias

        alias.install()  # the module says "import caffe"
        options = self.message.python_param
        shapes = dict(zip(self.message.bottom, bottoms, strict=True))
        blobs = {name: _blob(name, shapes.get(name)) for name in (*shapes, *self.message.top)}
        given = [blobs[name] for name in shapes]
        made = [blobs[name] for name in self.message.top]
        if self._warns:
            self._warns = False
            warnings.warn(
                f"layer '{self.message.name}' runs the code of class '{options.layer}' in module "
                f"'{options.module}', because the environment says {ENVIRONMENT}=1",
                stacklevel=2,
            )
        with users_code(f"module '{options.module}'"):
            module = importlib.import_module(options.module)
        with users_code(f"class '{options.layer}' of module '{options.module}'"):
            layer = getattr(module, options.layer)(self.message)
            layer.param_str = layer.param_str_ = options.param_str
            layer.phase = int(self.message.phase)
            layer.setup(given, made)
            layer.reshape(given, made)
        return Made(layer, given, made)

    def shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the tops, by the object's own ``reshape``."""
        if self._waiting is None:
            self._waiting = self.make(bottoms)
            made = self._waiting.tops
        else:
            given, made = scratch(bottoms), scratch([(0,)] * len(self.message.top))
            self._waiting.layer.reshape(given, made)
        return [tuple(top.shape) for top in made]

    def params(self, bottoms: Sequence[Shape]) -> list[Shape]:
        """Shapes of the blobs that ``setup`` added."""
        if self._waiting is None:  # the shapes of its tops were given
            self._waiting = self.make(bottoms)
        return [tuple(blob.shape) for blob in self._waiting.layer.blobs]

    def take(self, bottoms: Sequence[Shape]) -> Made:
        """The object, for one module to keep; the next one gets another."""
        made, self._waiting = self._waiting or self.make(bottoms), None
        return made


@contextlib.contextmanager
def users_code(what: str) -> Iterator[None]:
    """Where a command runs, an exception of the user's own code becomes one that says where it is.

    In Python it stays what it is, as in pycaffe.

    Args:
        what: the module or class whose code runs inside.
    Raises:
        ValueError: with the place in the user's file.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, CaffePortError) or not in_command():
            raise
        raise ValueError(f"{what}: {describe_error(error, __file__)}") from error


def scratch(shapes: Sequence[Shape]) -> list[Blob]:
    """Blobs of given shapes, full of zeros."""
    from caffe_port.live.blob import Blob

    return [Blob(shape) for shape in shapes]


def _blob(name: str, shape: Shape | None) -> Blob:
    """The net's blob of that name, made where no Python layer has had it before."""
    (new,) = scratch([(0,) if shape is None else shape])
    blob = _blobs.get({name: new}).setdefault(name, new)
    if shape is not None:
        blob.reshape(*shape)
    return blob


@register_op
@dataclass(frozen=True)
class Python(Op):
    """Options of Python. Source: BVLC/caffe python_layer.hpp, layer_factory.cpp.

    Attributes:
        module, layer: where the class is.
        param_str: the class's parameter.
        tops_made: number of tops.
        code: its object.
    """

    type = "Python"
    remark = "Runs the user's code, when allowed; share_in_parallel has no meaning."
    bottoms = (0, None)
    tops = (0, None)

    module: str
    layer: str
    param_str: str
    code: Code = field(repr=False, compare=False)

    @classmethod
    def parse(cls, layer: caffe_pb2.LayerParameter) -> Python:
        options = layer.python_param
        where = f"python_param names class '{options.layer}' of module '{options.module}'"
        expect(bool(options.module and options.layer), f"{where}; expected both names")
        # a data layer's code is not needed where its shapes are given
        shapes = "" if layer.bottom else shapes_option(layer.top)
        or_shapes = f". If it need not run: {shapes}" if shapes else ""
        expect(
            is_allowed(),
            f"{where}, and a model file alone must not make code run. If you trust it: "
            f"{option('allow_python_layers', True)}, for a script python -m caffe_port.pycaffe, or "
            f"{ENVIRONMENT}=1 in the environment{or_shapes}",
        )
        kind = cls if layer.bottom else PythonData
        return kind(
            options.module, options.layer, options.param_str, Code(layer, not _allowed.get())
        )

    def top_shapes(self, bottoms: Sequence[Shape]) -> list[Shape]:
        return self.code.shapes(bottoms)

    def params(self, bottoms: Sequence[Shape]) -> list[ParamShape]:
        return [ParamShape(f"blob{i}", shape) for i, shape in enumerate(self.code.params(bottoms))]


@dataclass(frozen=True)
class PythonData(Python):
    """A Python layer without bottoms makes data."""

    kind = "source"
