"""MSc-LargeFOV: LargeFOV with five more branches, from the image and from pool1 to pool4.

Each branch is a convolution of 3 x 3, one of 1 x 1 and its own scores; all scores are added. The
layers of LargeFOV keep the weights that they were trained to.
"""

from __future__ import annotations

import vgg16
from vgg16 import LABELS, SCORES
from writing import Fields, Word, layer, rates

FUSED = "fc_fusion"
_ZERO: Fields = {"type": "constant", "value": 0}
_WIDTH = 128
_SHRINK = {"data": 1, "pool1": 2, "pool2": 4, "pool3": 8, "pool4": 8}  # of the image
_STD = {"pool4_fc": 0.005}  # of a filler, where it is not 0.001
_WITHOUT_FILLER = "pool3_ms"  # as published; its weights start at 0


def _convolution(
    name: str, bottom: str, outputs: int | Word, learned: bool, std: float, **more: int
) -> Fields:
    options: Fields = {"num_output": outputs, **more}
    if learned and name != _WITHOUT_FILLER:
        options |= {"weight_filler": {"type": "gaussian", "std": std}, "bias_filler": _ZERO}
    fields: Fields = {"param": rates()} if learned else {}
    return layer(name, "Convolution", [bottom], convolution_param=options, **fields)


def _branch(bottom: str, learned: bool) -> list[Fields]:
    """TRAIN: scores at an eighth of the image's size. TEST: at the size of ``bottom``."""
    conv, fc, scores = (f"{bottom}_{part}" for part in ("conv", "fc", "ms"))
    stride = 8 // _SHRINK[bottom] if learned else 1
    wide: dict[str, int] = {"kernel_size": 3, "pad": 1}
    if stride > 1:
        wide["stride"] = stride
    layers = []
    for name, below, options in ((conv, bottom, wide), (fc, conv, {"kernel_size": 1})):
        std = _STD.get(name, 0.001)
        layers += [
            _convolution(name, below, _WIDTH, learned, std, **options),
            vgg16.relu(f"relu_{name}", name),
            vgg16.dropout(f"drop_{name}", name),
        ]
    return [*layers, _convolution(scores, fc, LABELS, learned, 0.01, kernel_size=1)]


def _large_fov(learned: bool) -> list[Fields]:
    layers = vgg16.large_fov(learned)
    return [x | {"param": rates(0)} if "param" in x else x for x in layers]


def network(learned: bool) -> list[Fields]:
    """From the blob `data` to the blob `fc_fusion`."""
    layers = _branch("data", learned)
    for other in _large_fov(learned):
        layers.append(other)
        if other["name"] in _SHRINK:
            layers += _branch(str(other["name"]), learned)
    parts = [f"{bottom}_ms" for bottom in _SHRINK] + [SCORES]
    if not learned:
        enlarged = ["data_ms"]
        for scores, (bottom, factor) in zip(
            parts[1:], [*list(_SHRINK.items())[1:], ("fc8", 8)], strict=True
        ):
            enlarged.append(f"{bottom}_interp")
            layers.append(
                layer(enlarged[-1], "Interp", [scores], interp_param={"zoom_factor": factor})
            )
        parts = enlarged
    return [*layers, layer(FUSED, "Eltwise", parts, eltwise_param={"operation": Word("SUM")})]
