"""What is known of a model besides its net and weights, and how a ``Net`` gives it to others."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from caffe_port.errors import CaffePortError, FormatError, UsageError

if TYPE_CHECKING:
    from caffe_port.crf import CRFParameters
    from caffe_port.data.images import Bytes
    from caffe_port.net import Net

Colour = tuple[int, int, int]
CRFColours = Literal["layer", "rgb"]
_NOTE = "info"  # in a converted model


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model besides its net and its weights; all of it may be missing.

    Args:
        title: of the model card.
        classes: the classes' names, in the order of the net's outputs.
        palette: red, green, blue of each class, each 0 to 255.
        dataset: what it was trained on: a name that ``caffe_port.datasets`` knows, or any text.
        mean: blue, green, red, subtracted from the image.
        scale: factor on the image after that.
        blob: the score blob.
        crf: the dense CRF that belongs to the model; a preset's name and other settings that
            ``crf.parse_parameters`` reads are accepted.
        crf_colours: "layer" (blue, green, red minus the mean, as Caffe's DenseCRF layer sees them)
            or "rgb" (as DeepLab's programs do).
        licence: of the weights, such as "cc-by-4.0".
        paper: that describes the model.
        source: where the Caffe model came from.
        text: further remarks for the card.
    Raises:
        ValueError: a value of the wrong type or range.
        UsageError: ``crf`` is no dense CRF.
    Examples:
        >>> from caffe_port import ModelInfo
        >>> ModelInfo(classes=["background", "disc"], crf="v1_largefov").crf.bi_xy_std
        (121.0,)
    """

    title: str = ""
    classes: Sequence[str] = ()
    palette: Sequence[Colour] = ()
    dataset: str = ""
    mean: tuple[float, float, float] | None = None
    scale: float | None = None
    blob: str | None = None
    crf: CRFParameters | None = None
    crf_colours: CRFColours = "layer"
    licence: str = ""
    paper: str = ""
    source: str = ""
    text: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "dataset", "licence", "paper", "source", "text"):
            _text(name, getattr(self, name))
        if self.blob is not None:
            _text("blob", self.blob)
        if self.mean is not None:
            _set(self, "mean", _numbers("mean", self.mean, 3, "blue, green, red"))
        if self.scale is not None:
            _set(self, "scale", _numbers("scale", [self.scale], 1, "a number")[0])
        _set(self, "classes", tuple(_text("classes", x) for x in _items("classes", self.classes)))
        colours = _items("palette", self.palette)
        _set(self, "palette", tuple(_colour(colour) for colour in colours))
        if colours and len(colours) != len(self.classes):
            raise ValueError(f"palette has {len(colours)} colours for {len(self.classes)} classes")
        if self.crf_colours not in ("layer", "rgb"):
            raise ValueError(f"crf_colours is {self.crf_colours!r}; expected 'layer' or 'rgb'")
        if self.crf is not None:
            _set(self, "crf", _crf(self.crf))

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ModelInfo:
        """Reads what ``as_dict`` gives.

        Raises:
            ValueError, UsageError: a name that is not a field, or a wrong value.
        """
        known = [field.name for field in fields(cls)]
        for name in values:
            if name not in known:
                raise ValueError(f"'{name}' is not known; known are {', '.join(known)}")
        return cls(**{name: value for name, value in values.items() if value is not None})

    def as_dict(self) -> dict[str, Any]:
        """The known values, as JSON has them."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.crf is None:
            del found["crf_colours"]
        else:
            found["crf"] = self.crf.as_dict()
        return {name: value for name, value in found.items() if value not in (None, "", ())}

    def colours(self) -> Bytes:
        """(256, 3) uint8 red, green, blue by class; VOC's where no palette is known."""
        from caffe_port.data.images import voc_palette

        colours = voc_palette()
        if self.palette:
            colours[:] = 0
            colours[: len(self.palette)] = self.palette[: len(colours)]
        return colours

    def chosen_crf(self, text: str, colours: CRFColours | None) -> tuple[CRFParameters, CRFColours]:
        """The dense CRF that a text names, and the colours that it sees.

        Args:
            text: "model" for the one that the model states, or what ``crf.parse_parameters`` reads.
            colours: in place of the model's, or of "layer".
        Raises:
            UsageError: the model states none, or the text names none.
        """
        if text != "model":
            from caffe_port.crf import parse_parameters

            return parse_parameters(text), colours or "layer"
        if self.crf is None:
            raise UsageError("the model states no dense CRF: give its settings or a preset's name")
        return self.crf, colours or self.crf_colours


def info_note(info: ModelInfo) -> dict[str, str]:
    """What a .pt or .safetensors remembers of a model; ``read_info`` reads it."""
    known = info.as_dict()
    return {_NOTE: json.dumps(known)} if known else {}


def read_info(notes: Mapping[str, str], path: str | os.PathLike[str]) -> ModelInfo:
    """The inverse of ``info_note``.

    Args:
        notes: all that the file remembers.
        path: the file, for messages.
    Raises:
        FormatError: it is not what ``info_note`` makes.
    """
    try:
        values = json.loads(notes.get(_NOTE, "{}"))
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"what it remembers of the model is not JSON: {error}", path=path
        ) from None
    return parse_info(values, path)


def parse_info(values: object, path: str | os.PathLike[str]) -> ModelInfo:
    """Reads what ``ModelInfo.as_dict`` gives.

    Args:
        values: from JSON.
        path: the file, for messages.
    Raises:
        FormatError: a name that is not a field, or a wrong value.
    """
    if not isinstance(values, dict):
        raise FormatError(f"info is {values!r:.40}; expected an object", path=path)
    try:
        return ModelInfo.from_mapping(values)
    except (ValueError, CaffePortError) as error:
        raise FormatError(f"info: {error}", path=path) from error


class Publishable:
    """What a ``Net`` has for model folders and the Hugging Face hub.

    Attributes:
        info: what is known of the model; of a net that was loaded, what its folder or file says.
    Examples:
        >>> from caffe_port import ModelInfo, Net, NetSpec
        >>> net = Net(NetSpec.read("examples/shapes_voc/caffe_run/recording/net.prototxt"))
        >>> net.info = ModelInfo(dataset="shapes")
        >>> net.save_pretrained("untrained")
    """

    info: ModelInfo

    def save_pretrained(
        self, folder: str | os.PathLike[str], *, parity: str | os.PathLike[str] | None = None,
        **known: Any,
    ) -> None:  # fmt: skip
        """Writes the net as a folder: safetensors, prototxt, config.json and a model card.

        ``caffe_port.load``, ``from_pretrained``, ``Segmenter`` and every command that takes a
        model read it. It needs no network and no further package.

        Args:
            folder: a new or empty folder, or a model folder, which is replaced.
            parity: the report.json of ``caffe-port verify``; the card states its result.
            known: fields of ``ModelInfo``, in place of those of ``info``.
        Raises:
            UsageError: an unknown field, a wrong value, or a folder with other files.
            FormatError: ``parity`` is no such report, or of another net.
            OSError: the folder cannot be written.
        Examples:
            >>> import caffe_port as cp
            >>> run = "examples/shapes_voc/caffe_run"
            >>> net = cp.load(
            ...     f"{run}/recording/net.prototxt", f"{run}/model/train_iter_2400.caffemodel"
            ... )
            >>> net.save_pretrained("shapes", licence="bsd-2-clause", crf="v1_largefov")
            >>> cp.from_pretrained("shapes").info.licence
            'bsd-2-clause'
        """
        from caffe_port.hub import save_pretrained

        save_pretrained(self._net, folder, parity=parity, **known)

    def push_to_hub(
        self, repo_id: str, *, parity: str | os.PathLike[str] | None = None,
        private: bool | None = None, token: str | None = None, branch: str | None = None,
        create_pr: bool | None = None, commit_message: str = "Upload a model by caffe_port",
        **known: Any,
    ) -> str:  # fmt: skip
        """Uploads the folder of ``save_pretrained`` to the Hugging Face hub.

        Args:
            repo_id: OWNER/NAME; the repository is created if it is missing.
            parity, known: as for ``save_pretrained``.
            private, token, branch, create_pr, commit_message: as for ``push_to_hub`` of
                huggingface_hub's ``ModelHubMixin``.
        Returns:
            The address of the commit.
        Raises:
            UsageError: as ``save_pretrained``; the package huggingface_hub is missing; or the hub
                refuses.
        Examples:
            >>> from caffe_port import Net, NetSpec
            >>> net = Net(NetSpec.read("examples/shapes_voc/caffe_run/recording/net.prototxt"))
            >>> url = net.push_to_hub("me/shapes", private=True)  # doctest: +SKIP
        """
        from caffe_port.hub import push_to_hub

        options = {"private": private, "token": token, "branch": branch, "create_pr": create_pr}
        return push_to_hub(
            self._net, repo_id, parity=parity, known=known, commit_message=commit_message, **options
        )

    @property
    def _net(self) -> Net:
        from caffe_port.net import Net

        assert isinstance(self, Net)
        return self


def _set(info: ModelInfo, name: str, value: object) -> None:
    object.__setattr__(info, name, value)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} has {value!r:.40}; expected a text")
    return value


def _items(name: str, value: object) -> Sequence[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name} is {value!r:.40}; expected a list")
    return value


def _numbers(name: str, value: object, count: int, what: str) -> tuple[float, ...]:
    found = _items(name, value)
    numbers = [x for x in found if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(found) != count or len(numbers) != count or not all(map(_is_finite, numbers)):
        raise ValueError(f"{name} is {value!r:.60}; expected {what}, finite")
    return tuple(map(float, numbers))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False


def _colour(value: object) -> Colour:
    found = _items("palette", value)
    if len(found) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in found):
        raise ValueError(f"palette has {value!r:.40}; expected red, green, blue, each 0 to 255")
    return found[0], found[1], found[2]


def _crf(value: object) -> CRFParameters:
    from caffe_port.crf import CRFParameters, parse_parameters
    from caffe_port.crf.params import from_mapping

    if isinstance(value, CRFParameters):
        return value
    if isinstance(value, Mapping):
        return from_mapping(value)
    return parse_parameters(_text("crf", value))
