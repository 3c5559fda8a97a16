"""Layers as plain dicts, and prototxt of them: V2, or V1 as DeepLab v1 read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Fields = dict[str, object]

_V1_NAMES = {
    "ImageSegData": "IMAGE_SEG_DATA", "MatWrite": "MAT_WRITE", "SegAccuracy": "SEG_ACCURACY",
    "SoftmaxWithLoss": "SOFTMAX_LOSS",
}  # fmt: skip


class Word(str):
    """A value written without quotes: an enum's name, or a variable for a number."""


TRAIN, TEST = Word("TRAIN"), Word("TEST")


def layer(name: str, type: str, bottoms: Sequence[str], *tops: str, **fields: object) -> Fields:
    """One layer; its only top is called as itself unless ``tops`` or ``top=[]`` says otherwise."""
    named: Fields = {"name": name} if name else {}
    return named | {"type": type, "bottom": list(bottoms), "top": tops or [name]} | fields


def rates(weight: float = 1, decay: tuple[float, float] = (1, 0)) -> list[Fields]:
    """The learning rates of weight and bias as everywhere in these nets: twice for the bias."""
    return [
        {"lr_mult": weight, "decay_mult": decay[0]},
        {"lr_mult": 2 * weight, "decay_mult": decay[1]},
    ]


def prototxt(layers: Sequence[Fields], **head: object) -> str:
    """Layers in the present generation; ``head`` are fields of the net itself."""
    blocks = (f"layer {{\n{_text(fields)}}}\n" for fields in layers)
    return _text(head, "") + "".join(blocks)


def v1_prototxt(layers: Sequence[Fields], name: str) -> str:
    """The same net as V1 text of DeepLab v1: `hole` for dilation, its loss's own options."""
    blocks = (f"layers {{\n{_text(_as_v1(fields))}}}\n" for fields in layers)
    return f'name: "{name}"\n' + "".join(blocks)


def solver(**fields: object) -> str:
    """A solver."""
    return _text(fields, "")


def _as_v1(fields: Fields) -> Fields:
    renamed: Fields = {}
    for key, value in fields.items():
        if key == "type":
            renamed[key] = Word(_V1_NAMES.get(str(value), str(value).upper()))
        elif key == "param":
            assert isinstance(value, list)
            renamed["blobs_lr"] = [param["lr_mult"] for param in value]
            renamed["weight_decay"] = [param["decay_mult"] for param in value]
        elif key == "convolution_param":
            assert isinstance(value, dict)
            renamed[key] = {"hole" if k == "dilation" else k: v for k, v in value.items()}
        elif key == "image_data_param":
            assert isinstance(value, dict)
            renamed[key] = _labels_as_v1(value)
        else:
            renamed["softmaxloss_param" if key == "loss_param" else key] = value
    return renamed


def _labels_as_v1(options: Fields) -> Fields:
    if options.get("label_type") != "NONE":
        return options
    return {k: v for k, v in options.items() if k != "label_type"} | {"has_label": False}


def _text(fields: Fields, indent: str = "  ") -> str:
    return "".join(f"{indent}{line}\n" for line in _lines(fields))


def _lines(fields: Fields) -> Iterator[str]:
    for key, value in fields.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, dict):
                yield f"{key} {{"
                yield from (f"  {line}" for line in _lines(item))
                yield "}"
            else:
                yield f"{key}: {_scalar(item)}"


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not isinstance(value, Word):
        return f'"{value}"'
    return str(value)
