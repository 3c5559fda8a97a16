"""From files to a Net."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from caffe_port.errors import DialectWarning, FormatError, UnknownFieldWarning
from caffe_port.files import ZIP_SIGNATURE, is_safetensors, read_head
from caffe_port.net import Net
from caffe_port.proto import parse_net, read_file
from caffe_port.spec import NetSpec
from caffe_port.spec.names import check_fields
from caffe_port.weights import WeightFile, read_weights

_Path = str | os.PathLike[str]


def load(
    net: _Path,
    weights: _Path | None = None,
    *,
    phase: str | None = None,
    variables: Mapping[str, str] | None = None,
    dialect: str | None = None,
    strict: bool = True,
    level: int | None = None,
    stages: Sequence[str] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    allow_python_layers: bool = False,
    strict_text: bool = False,
) -> Net:
    """Builds a net from a prototxt, or from a converted model, and loads its weights.

    Args:
        net: a prototxt, or a .pt or .safetensors that ``Net.save`` wrote.
        weights: .caffemodel, .caffemodel.h5, .pt or .safetensors, recognised by content; None
            leaves a prototxt's net as its fillers make it.
        phase: 'TRAIN' or 'TEST'; the default is what a converted model remembers, else 'TEST'.
        variables: values for `${NAME}` in the prototxt.
        dialect: one of ``proto.dialects.DIALECTS``, where the text alone does not tell.
        strict: whether weights missing or left over are errors; False is Caffe's own rule.
        level, stages: NetState besides the phase; the default is what a converted model
            remembers, else 0 and none. The stages of a prototxt's own `state` are added.
        input_shapes: shapes that replace those of Input and data layers, by top.
        allow_python_layers: whether layers of type Python may import and run the code they name;
            say yes only to a model that you trust.
        strict_text: whether fields that are not known are errors, as in Caffe; False warns of
            them. Options of forks that change results are errors in either case.
    Returns:
        The net, on the CPU, in float32.
    Raises:
        FormatError: a file breaks its format.
        CaffePortError: the net cannot be built, or the weights do not fit.
    Warns:
        UnknownFieldWarning: the prototxt has fields that no dialect knows.
        DialectWarning: a fork would run the net differently.
    Examples:
        >>> import torch
        >>> import caffe_port as cp
        >>> net = cp.load(
        ...     "examples/shapes_voc/caffe_run/recording/net.prototxt",
        ...     "examples/shapes_voc/caffe_run/model/train_iter_2400.caffemodel",
        ... )
        >>> net({"data": torch.zeros(1, 3, 161, 161)})["fc8_interp"].shape
        torch.Size([1, 6, 161, 161])
    """
    spec, converted = _spec_of(
        net, phase, variables, dialect, level, stages, input_shapes, allow_python_layers,
        strict_text,
    )  # fmt: skip
    return _built(spec, converted if weights is None else read_weights(weights), strict)


def _built(spec: NetSpec, stored: WeightFile | None, strict: bool) -> Net:
    # strict loading sets every parameter, so filling first would be work for nothing
    net = Net(spec, fill=stored is None or not strict)
    if stored is not None:
        net.load_stored(stored.layers, strict=strict)
    return net


def read_spec(net: _Path, **options: Any) -> NetSpec:
    """What ``load`` would build, without building it.

    Args:
        net: as for ``load``.
        options: those of ``load`` that choose the net: phase, variables and so on.
    Raises:
        CaffePortError: as ``load`` does for this file.
    """
    with warnings.catch_warnings():
        for category in (UnknownFieldWarning, DialectWarning):  # load will say it
            warnings.simplefilter("ignore", category)
        return _spec_of(net, **options)[0]


def _spec_of(
    net: _Path,
    phase: str | None = None,
    variables: Mapping[str, str] | None = None,
    dialect: str | None = None,
    level: int | None = None,
    stages: Sequence[str] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    allow_python_layers: bool = False,
    strict_text: bool = False,
) -> tuple[NetSpec, WeightFile | None]:
    """The spec, and a converted model's file."""
    stored: WeightFile | None = None
    if _is_converted(net):
        stored = read_weights(net)
        text, own_level, own_stages, shapes = _remembered(stored, net)
        level = own_level if level is None else level
        stages = own_stages if stages is None else stages
        phase, input_shapes = phase or stored.metadata.get("phase"), input_shapes or shapes
        dialect = dialect or stored.metadata.get("dialect")
    else:
        text = read_file(net)
    parsed = parse_net(text, variables=variables, dialect=dialect, path=os.fspath(net))
    check_fields(parsed, strict=strict_text, stacklevel=4)
    spec = NetSpec.build(
        parsed.message, phase=phase or "TEST", dialect=parsed.dialect, level=level or 0,
        stages=stages or (), input_shapes=input_shapes, unknown=parsed.unknown, text=parsed.text,
        allow_python_layers=allow_python_layers,
    )  # fmt: skip
    return spec, stored


def _is_converted(path: _Path) -> bool:
    head = read_head(path)
    return head.startswith(ZIP_SIGNATURE) or (
        bool(head) and is_safetensors(head, os.stat(path).st_size)
    )


def _remembered(
    stored: WeightFile, path: _Path
) -> tuple[str, int, list[str], dict[str, list[int]]]:
    if stored.prototxt is None:
        message = f"a {stored.format} file that remembers no prototxt; give the prototxt first"
        raise FormatError(message, path=path)
    try:
        level = int(stored.metadata.get("level", "0"))
        stages = [str(stage) for stage in json.loads(stored.metadata.get("stages", "[]"))]
        shapes = {
            str(name): [int(size) for size in shape]
            for name, shape in json.loads(stored.metadata.get("input_shapes", "{}")).items()
        }
        if not -(2**31) <= level < 2**31:
            raise ValueError(f"level {level}")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FormatError(f"its metadata is not what Net.save writes: {error}", path=path) from None
    return stored.prototxt, level, stages, shapes
