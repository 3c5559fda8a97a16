"""Tracing all labels of one 513 x 513 image, compared with forward passes of the same net.

The networks have their published channels and random weights; the label map is random too, with
all 21 labels, so that no label is spared. Run it with `python -m benchmarks unravel`.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.measure import interleave, report, summary, versions
from benchmarks.nets import with_random_weights
from caffe_port.unravel import trace

SIZE = 513
# network -> its folder, its scores, forward passes that tracing may take, repeats
NETWORKS = {
    "LargeFOV": ("deeplab_v2_vgg16_largefov", "fc8_interp", 2, 5),
    "ResNet-101 MSc": ("deeplab_v2_resnet101_msc_aspp", "fc1_interp", 4, 3),
}


def _label_map() -> np.ndarray:
    """21 labels in blobs of about 60 pixels."""
    coarse = torch.randn(1, 21, 9, 9, generator=torch.Generator().manual_seed(0))
    fine = torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")
    return fine[0].argmax(0).numpy()


def _measure(folder: str, top: str, repeats: int) -> dict[str, dict[str, float]]:
    net = with_random_weights(folder)
    data = net.spec.sources[0]
    image = {data: torch.randn(1, 3, SIZE, SIZE) * 60}
    labels = _label_map()

    def forward() -> None:
        with torch.no_grad():
            net(image, keep=[top])

    ways = {
        "forward": forward,
        "trace, its own forward pass included": lambda: trace(net, image, top, label_map=labels),
    }
    return summary(interleave(ways, repeats), "forward")


def main() -> None:
    """Measures both networks."""
    tables = {
        f"{name} (at most {most} forward passes)": _measure(folder, top, repeats)
        for name, (folder, top, most, repeats) in NETWORKS.items()
    }
    report("unravel", {"versions": versions("torch", "numpy"), "tables": tables})
