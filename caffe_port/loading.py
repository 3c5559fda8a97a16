"""Reads the files of a net, and builds the net from them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from caffe_port.errors import CaffePortError, FormatError, UsageError, option
from caffe_port.files import (
    ZIP_SIGNATURE,
    AnyFile,
    OpenFile,
    is_safetensors,
    name_of,
    open_file,
    reading,
)
from caffe_port.model_folder import PROTOTXT, ModelFolder
from caffe_port.model_info import ModelInfo, read_info
from caffe_port.net import Net
from caffe_port.proto import parse_net, read_file
from caffe_port.spec import NetSpec, plugins
from caffe_port.spec.rules import check_fields
from caffe_port.stalls import Waiting
from caffe_port.weights import WeightFile, read_any_weights, read_weights
from caffe_port.weights.stored import StateDict

if TYPE_CHECKING:
    from caffe_port.weights.named import Slot

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
    names: _Path | None = None,
) -> Net:
    """Builds a net from a prototxt, or from a converted model, and loads its weights.

    Args:
        net: a prototxt; a .pt or .safetensors that ``Net.save`` wrote; or a folder that
            ``Net.save_pretrained`` wrote.
        weights: .caffemodel, .caffemodel.h5, .pt or .safetensors, recognised by content; None
            leaves a prototxt's net as its fillers make it. Also a plain state dict, of
            ``Net.state_dict``, of an emitted module or, with ``names``, of another program.
        phase: 'TRAIN' or 'TEST'; the default is what a converted model remembers, else 'TEST'.
        variables: values for `${NAME}` in the prototxt.
        dialect: one of ``proto.dialects.DIALECTS``, if the text does not show it.
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
    model = Model(net, weights)
    spec = model.spec(
        phase=phase, variables=variables, dialect=dialect, level=level, stages=stages,
        input_shapes=input_shapes, allow_python_layers=allow_python_layers,
        strict_text=strict_text,
    )  # fmt: skip
    return model.net(spec, strict=strict, names=names)


class Model:
    """The files of a net. Each is opened once, and its weights are decoded once.

        model = Model("test.prototxt", "weights.caffemodel")
        spec = model.spec(phase="TEST")
        net = model.net(spec)

    Args:
        net, weights: as for ``load``; names, or open files.
    Attributes:
        folder: the model's folder, where ``net`` is one.
        file: that of the net.
    Raises:
        ReadError: the net's file cannot be read.
        FormatError: the weights are not a regular file, or the folder is not that of a model.
        UsageError: a model folder and weights.
        OSError: the weights cannot be opened.
    """

    def __init__(self, net: AnyFile, weights: AnyFile | None = None) -> None:
        self.folder = _folder(net, weights)
        if self.folder is not None:
            net, weights = self.folder.net, self.folder.weights
        with reading(name_of(net)):
            self.file = net if isinstance(net, OpenFile) else OpenFile(net)
        self._weights = None if weights is None else open_file(weights)
        self._spec: tuple[dict[str, Any], NetSpec] | None = None

    @cached_property
    def _converted(self) -> WeightFile | None:
        """The content of the net's file where it is a converted model."""
        head, size = self.file.head, self.file.size
        is_converted = head.startswith(ZIP_SIGNATURE) or (size and is_safetensors(head, size))
        return read_weights(self.file) if is_converted else None

    @property
    def _remembered(self) -> Mapping[str, str] | None:
        """The settings of the spec that was converted."""
        if self.folder is not None:
            return self.folder.settings
        return None if self._converted is None else self._converted.metadata

    @cached_property
    def info(self) -> ModelInfo:
        """What the model's folder, or a converted model, says of it.

        Raises:
            FormatError: a converted model remembers something else.
        """
        if self.folder is not None:
            return self.folder.info
        notes = {} if self._converted is None else self._converted.metadata
        return read_info(notes, self.file.path)

    @cached_property
    def text(self) -> str:
        """The prototxt, which a converted model remembers.

        Raises:
            FormatError: the file is neither, or a converted model without a prototxt.
        """
        if self._converted is None:
            return read_file(self.file)
        if self._converted.prototxt is None:
            message = f"a {self._converted.format} file that remembers no prototxt"
            raise FormatError(f"{message}; give the prototxt first", path=self.file.path)
        return self._converted.prototxt

    @cached_property
    def weights(self) -> WeightFile | StateDict | None:
        """The weights, those of a converted model where no others were given.

        Raises:
            FormatError: the file breaks its format.
        """
        return self._converted if self._weights is None else read_any_weights(self._weights)

    def digests(self) -> dict[str, str | None]:
        """SHA-256 of the files 'net' and 'weights', of the very bytes that are used here.

        Where the user names files with layer types (``--import``), 'imports' is theirs; 'config'
        is that of a model folder.
        """
        imports = plugins.digest()
        return {
            **({"imports": imports} if imports else {}),
            **({"config": self.folder.config.digest()} if self.folder else {}),
            "net": self.file.digest(),
            "weights": None if self._weights is None else self._weights.digest(),
        }

    def is_current(self) -> bool:
        """Whether the files are still those of their names, unchanged."""
        config = None if self.folder is None else self.folder.config
        return all(file.is_current() for file in (self.file, self._weights, config) if file)

    def spec(self, **options: Any) -> NetSpec:
        """The spec; for the options of the last call, the very spec of that call.

        Args:
            options: those of ``load`` that choose the net: phase, variables and so on.
        Raises:
            CaffePortError: as ``load`` does for the net's file.
        Warns: as ``load`` does.
        """
        if self._spec is None or self._spec[0] != options:
            self._spec = options, self._make_spec(**options)
        return self._spec[1]

    def _make_spec(
        self,
        *,
        phase: str | None = None,
        variables: Mapping[str, str] | None = None,
        dialect: str | None = None,
        level: int | None = None,
        stages: Sequence[str] | None = None,
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        allow_python_layers: bool = False,
        strict_text: bool = False,
    ) -> NetSpec:
        text = self.text
        if (remembered := self._remembered) is not None:
            where = self.file if self.folder is None else self.folder.config
            own_level, own_stages, shapes = _settings(remembered, where.path)
            level = own_level if level is None else level
            stages = own_stages if stages is None else stages
            phase = phase or remembered.get("phase")
            dialect = dialect or remembered.get("dialect")
            input_shapes = input_shapes or shapes
        parsed = parse_net(text, variables=variables, dialect=dialect, path=self.file.path)
        check_fields(parsed, strict=strict_text, stacklevel=5)
        return NetSpec.build(
            parsed.message, phase=phase or "TEST", dialect=parsed.dialect, level=level or 0,
            stages=stages or (), input_shapes=input_shapes, unknown=parsed.unknown,
            text=parsed.text, allow_python_layers=allow_python_layers,
        )  # fmt: skip

    def net(self, spec: NetSpec, *, strict: bool = True, names: _Path | None = None) -> Net:
        """Builds the net and loads its weights.

        Args:
            spec: from ``spec``.
            strict, names: as for ``load``.
        Raises:
            CaffePortError: as ``load`` does for the weights.
        """
        stored = self.weights
        # strict loading sets every parameter, so filling first would be work for nothing
        net = Net(spec, fill=stored is None or not strict)
        net.info = self.info
        if isinstance(stored, StateDict):
            from caffe_port.weights.named_loading import match_state

            try:
                net.load_match(
                    match_state(spec, stored, names, lambda: _emitted(net)), strict=strict
                )
            except FormatError as error:
                path = None if self._weights is None else self._weights.path
                raise FormatError(error.message, path=error.path or path) from error
        elif names is not None:
            raise UsageError(
                f"{option('names', os.fspath(names))} is for a plain state dict; the weights are a "
                f"{'prototxt' if stored is None else stored.format} file with Caffe's names"
            )
        elif stored is not None:
            net.load_stored(stored.layers, strict=strict)
        return net


def _emitted(net: Net) -> list[Slot]:
    """The state dict of the module that ``export.emit_module`` writes; none where it cannot."""
    from caffe_port.export import module_keys

    try:
        keys = module_keys(net)
    except CaffePortError:
        return []
    from caffe_port.weights.named import Slot

    return [Slot(key, layer, index, None) for key, (layer, index) in keys.items()]


def _folder(net: AnyFile, weights: AnyFile | None) -> ModelFolder | None:
    """The model folder that ``net`` names, if it is a folder."""
    if isinstance(net, OpenFile):
        return None
    with Waiting(net):
        if not os.path.isdir(net):
            return None
    if weights is not None:
        name = os.fspath(net)
        raise UsageError(
            f"{name} is a folder, whose weights are in it: leave out {name_of(weights)}, or give "
            f"the prototxt {os.path.join(name, PROTOTXT)}"
        )
    return ModelFolder(net)


def _settings(
    metadata: Mapping[str, str], path: str
) -> tuple[int, list[str], dict[str, list[int]]]:
    """Level, stages and input shapes."""
    try:
        level = int(metadata.get("level", "0"))
        stages = [str(stage) for stage in json.loads(metadata.get("stages", "[]"))]
        shapes = {
            str(name): [int(size) for size in shape]
            for name, shape in json.loads(metadata.get("input_shapes", "{}")).items()
        }
        if not -(2**31) <= level < 2**31:
            raise ValueError(f"level {level}")
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FormatError(
            f"its metadata is not what was written for it: {error}", path=path
        ) from None
    return level, stages, shapes
