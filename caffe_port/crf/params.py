"""Settings of the dense CRF: those that DeepLab published, and a user's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from caffe_port.crf import _kernels as checks
from caffe_port.errors import UsageError

REPEATED = ("pos_w", "pos_xy_std", "bi_w", "bi_xy_std", "bi_rgb_std")


def _sequence(name: str, value: object) -> tuple[float, ...]:
    items = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    return tuple(checks.number(name, item, positive=name.endswith("_std")) for item in items)


@dataclass(frozen=True)
class CRFParameters:
    """Weights and widths of the kernels, as in the prototxt's ``dense_crf_param``.

    Each of the first five may be a number or a sequence; sequences of one kind have one length.

    Args:
        pos_w, pos_xy_std: weights and widths (pixels) of the kernels over positions.
        bi_w, bi_xy_std, bi_rgb_std: weights and widths (pixels, colour) of the bilateral kernels.
        iterations: rounds of mean-field inference.
    Raises:
        UsageError: a value or a length is wrong.
    Examples:
        >>> from caffe_port.crf import CRFParameters
        >>> CRFParameters(bi_w=5, bi_xy_std=50, bi_rgb_std=3).bi_xy_std
        (50.0,)
    """

    pos_w: tuple[float, ...] = (3.0,)
    pos_xy_std: tuple[float, ...] = (3.0,)
    bi_w: tuple[float, ...] = (4.0,)
    bi_xy_std: tuple[float, ...] = (121.0,)
    bi_rgb_std: tuple[float, ...] = (5.0,)
    iterations: int = 10

    def __post_init__(self) -> None:
        for name in REPEATED:
            object.__setattr__(self, name, _sequence(name, getattr(self, name)))
        checks.count("iterations", self.iterations, 0)
        for first, *others in (("pos_w", "pos_xy_std"), ("bi_w", "bi_xy_std", "bi_rgb_std")):
            for other in others:
                lengths = len(getattr(self, first)), len(getattr(self, other))
                if lengths[0] != lengths[1]:
                    raise UsageError(
                        f"{first} has {lengths[0]} values and {other} has {lengths[1]}; "
                        "each kernel needs one of both"
                    )

    def as_dict(self) -> dict[str, float | list[float] | int]:
        """For JSON; a single kernel's values are plain numbers. ``parse`` reads it back."""
        result: dict[str, float | list[float] | int] = {}
        for name in REPEATED:
            values = getattr(self, name)
            result[name] = values[0] if len(values) == 1 else list(values)
        return {**result, "iterations": self.iterations}


# Source: the DeepLab releases' model pages, run_densecrf.sh and prototxts; always 10 iterations.
PRESETS: Mapping[str, CRFParameters] = {
    "v1_largefov": CRFParameters((3,), (3,), (4,), (121,), (5,)),
    "v1_layer": CRFParameters((3,), (3,), (5,), (50,), (10,)),
    "v1_run_densecrf": CRFParameters((3,), (3,), (4,), (49,), (5,)),
    "v1_msc_largefov": CRFParameters((3,), (3,), (4,), (83,), (5,)),
    "v1_coco_largefov": CRFParameters((3,), (3,), (5,), (69,), (5,)),
    "v1_msc_coco_largefov": CRFParameters((3,), (3,), (4,), (59,), (5,)),
    "v2_vgg16": CRFParameters((2,), (2,), (4,), (65,), (3,)),
    "v2_resnet101": CRFParameters((3,), (1,), (4,), (67,), (3,)),
    "v2_resnet101_prototxt": CRFParameters((4,), (1,), (5,), (21,), (3,)),
}
"""The settings published with DeepLab's models, by name."""


def parse(text: str) -> CRFParameters:
    """Read settings from a preset's name, a JSON object or ``bi_w=4,bi_xy_std=49,...``.

    Names left out of an object or a list keep the values of ``v1_largefov``. A list in JSON, or
    a name given several times in the other form, describes several kernels.

    Raises:
        UsageError: an unknown preset or name, or a value that is not a number.
    Examples:
        >>> from caffe_port.crf import parse_parameters
        >>> parse_parameters("bi_w=5,bi_xy_std=50,bi_rgb_std=3").bi_w
        (5.0,)
    """
    stripped = text.strip()
    if stripped in PRESETS:
        return PRESETS[stripped]
    if stripped.startswith("{"):
        return from_mapping(_json(stripped))
    if "=" not in stripped:
        raise UsageError(
            f"no CRF preset is called {stripped!r}; there are {', '.join(PRESETS)}, "
            "or write bi_w=4,bi_xy_std=121,... or a JSON object"
        )
    return from_mapping(_assignments(stripped))


def from_mapping(values: Mapping[str, object]) -> CRFParameters:
    """Settings from names and values, as a JSON file holds them; see ``parse``."""
    known = [field.name for field in fields(CRFParameters)]
    for name in values:
        if name not in known:
            raise UsageError(f"no CRF setting is called {name!r}; there are {', '.join(known)}")
    return CRFParameters(**values)  # type: ignore[arg-type]  # checked by __post_init__


def _json(text: str) -> dict[str, object]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the CRF settings are not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise UsageError("the CRF settings in JSON must be one object")
    return values


def _assignments(text: str) -> dict[str, object]:
    result: dict[str, object] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or not value:
            raise UsageError(f"CRF setting {item.strip()!r}: expected name=number")
        try:
            parsed = int(value) if name == "iterations" else float(value)
        except ValueError:
            raise UsageError(f"CRF setting {name}: {value!r} is not a number") from None
        if name == "iterations":
            result[name] = parsed
            continue
        earlier = result.get(name, ())
        assert isinstance(earlier, tuple)
        result[name] = (*earlier, parsed)
    return result
